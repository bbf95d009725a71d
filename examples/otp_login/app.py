"""A login with password and one-time password; the second goes by mail, through the queue."""

import hmac
import secrets
import sqlite3
import time
from contextlib import closing
from typing import Any

from flask import Flask, redirect, render_template, request, session
from werkzeug.security import check_password_hash, generate_password_hash
from werkzeug.wrappers import Response

from pijobs.flask import JobQueue
from pijobs_mail.send import send_mail

VALIDITY, TRIES = 120, 3  # seconds, guesses
LOGIN = (("username", "Name", "text"), ("current-password", "Password", "password"))
CODE = (("one-time-code", "The code of the mail", "text"),)
ENDS = {"done": "The mail was sent.", "dead": "The mail can't be sent.", "expired": "The mail came too late."}
app = Flask(__name__)
app.config.from_pyfile("pi.cfg")
jobs = JobQueue(app)
NOBODY = ("", generate_password_hash(secrets.token_hex()))  # an unknown name takes as long as a wrong password


@app.route("/", methods=["GET", "POST"])
def login() -> str | Response:
    """The password. Whoever has it gets a mail; the page does not wait for the SMTP server."""
    name = request.form.get("username", "")
    address, hashed = app.config["USERS"].get(name, NOBODY)
    if not check_password_hash(hashed, request.form.get("current-password", "")) or not address:
        return page("Login", LOGIN, "Name or password is wrong.")
    session.clear()
    session["challenge"], otp = secrets.token_urlsafe(), f"{secrets.randbelow(10**6):06}"
    # The same key: a second login replaces a mail that still waits. Later than VALIDITY it is never sent.
    text = f"Your one-time password is {otp}\n"
    mail = send_mail("main", to=address, subject="Your login", text=text, expires=VALIDITY, key=f"otp {name}")
    ask("DELETE FROM challenge WHERE name = ? OR ends < ?", name, time.time())
    row = session["challenge"], name, digest(otp), mail.id, time.time() + VALIDITY, TRIES
    ask("INSERT INTO challenge VALUES (?, ?, ?, ?, ?, ?)", *row)
    return redirect("/otp")


@app.get("/otp/mail")
def what_became_of_the_mail() -> str:
    """One look, for the page, which asks each second: no view waits for a mail."""
    found = ask("SELECT mail FROM challenge WHERE id = ?", session.get("challenge"))
    return ENDS.get(jobs.handle(found[0]).state, "The mail is on its way …") if found else "Log in again."


@app.route("/otp", methods=["GET", "POST"])
def one_time_password() -> str | Response:
    """The code out of the mail: it works once, in time, and within three tries."""
    id, code = session.get("challenge"), digest(request.form.get("one-time-code", "").strip())
    if request.method == "POST":
        ask("UPDATE challenge SET tries = tries - 1 WHERE id = ?", id)
        right = "DELETE FROM challenge WHERE id = ? AND code = ? AND tries >= 0 AND ends > ? RETURNING name"
        if found := ask(right, id, code, time.time()):
            session.clear()
            session["name"] = found[0]
            return redirect("/home")
    return page("One-time password", CODE, "The code is wrong or too old.")


@app.get("/home")
def home() -> str | Response:
    return page(f"Welcome, {session['name']}") if "name" in session else redirect("/")


def page(title: str, fields: Any = (), wrong: str = "") -> str:
    return render_template("page.html", title=title, fields=fields, wrong=wrong if request.method == "POST" else "")


def ask(sql: str, *values: object) -> Any:
    """Challenges are kept here, since a cookie could be sent again after each wrong code."""
    with closing(sqlite3.connect(f"{app.root_path}/challenges.sqlite", isolation_level=None)) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS challenge (id PRIMARY KEY, name, code, mail, ends, tries)")
        return connection.execute(sql, values).fetchone()


def digest(otp: str) -> str:
    return hmac.digest(app.config["SECRET_KEY"].encode(), f"{session.get('challenge')} {otp}".encode(), "sha256").hex()
