"""A login with password and one-time password; the second goes by mail, through the queue."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import click
from flask import Flask, current_app, redirect, render_template_string, request, session, url_for
from werkzeug.security import check_password_hash, generate_password_hash
from werkzeug.wrappers import Response

from pijobs.flask import JobQueue, current_queue
from pijobs_mail.send import send_mail
from pijobs_mail.servers.definitions import open_store

HERE = Path(__file__).parent
VALIDITY = 120  # seconds
TRIES = 3
PAGE = """<!doctype html><html lang="en"><title>Login</title><h1>{{ title }}</h1>
{% if error %}<p role="alert">{{ error }}</p>{% endif %}
{% if fields %}<form method="post">
{% for name, label, kind in fields %}
<p><label>{{ label }} <input name="{{ name }}" type="{{ kind }}" required autocomplete="{{ name }}"></label></p>
{% endfor %}<button>Go on</button></form>{% endif %}</html>"""
LOGIN = (("username", "Name", "text"), ("current-password", "Password", "password"))
OTP = (("one-time-code", "The code that we mailed to you", "text"),)


def create_app() -> Flask:
    app = Flask(__name__)
    app.config.from_pyfile(str(HERE / "pi.cfg"))
    app.config.update(SESSION_COOKIE_SAMESITE="Lax", DUMMY_HASH=generate_password_hash(secrets.token_hex()))
    JobQueue().init_app(app, directory=HERE, file=HERE / "pi.cfg")
    app.add_url_rule("/", view_func=login, methods=["GET", "POST"])
    app.add_url_rule("/otp", view_func=one_time_password, methods=["GET", "POST"])
    app.add_url_rule("/home", view_func=home)
    app.cli.add_command(smtp_server)
    return app


def login() -> str | Response:
    """The password. Whoever has it gets a mail; the page does not wait for the SMTP server."""
    if request.method == "GET":
        return page("Login", LOGIN)
    name = request.form.get("username", "")
    # An unknown name costs as much time as a wrong password.
    address, hashed = current_app.config["USERS"].get(name, ("", current_app.config["DUMMY_HASH"]))
    if not check_password_hash(hashed, request.form.get("current-password", "")) or not address:
        return page("Login", LOGIN, "Name or password is wrong.")
    otp = f"{secrets.randbelow(10**6):06}"
    session.clear()
    session["challenge"] = new_challenge(name, otp)
    # The same key: a second login replaces a mail that still waits. Later than VALIDITY it is never sent.
    text = f"Your one-time password is {otp}\n"
    send_mail("main", to=address, subject="Your login", text=text, expires=VALIDITY, key=f"otp {name}")
    return redirect(url_for("one_time_password"))


def one_time_password() -> str | Response:
    """The code out of the mail."""
    if request.method == "GET":
        return page("One-time password", OTP)
    code = request.form.get("one-time-code", "").strip()
    name = solved(session.get("challenge", ""), code)
    if name is None:
        return page("One-time password", OTP, "The code is wrong or too old.")
    session.clear()
    session["name"] = name
    return redirect(url_for("home"))


def home() -> str | Response:
    if "name" not in session:
        return redirect(url_for("login"))
    return page(f"Welcome, {session['name']}")


def page(title: str, fields: tuple[tuple[str, str, str], ...] = (), error: str = "") -> str:
    return render_template_string(PAGE, title=title, fields=fields, error=error)


@click.command("smtp-server")
@click.argument("host")
@click.argument("port", type=int)
def smtp_server(host: str, port: int) -> None:
    """Define the SMTP server "main", with the queue's box ticked."""
    values = {"server": host, "port": port, "sender": "login@example.com", "enqueue_job": True}
    open_store(current_queue().settings).save("main", values)


# -- challenges: on the server, since a cookie could be sent again after each wrong code ------------------------------


def database() -> sqlite3.Connection:
    connection = sqlite3.connect(HERE / "challenges.sqlite", timeout=5)
    connection.execute("CREATE TABLE IF NOT EXISTS challenge (id PRIMARY KEY, name, code, ends, tries)")
    return connection


def new_challenge(name: str, otp: str) -> str:
    """The id of a challenge that the one-time password solves; an older one of the user ends."""
    challenge = secrets.token_urlsafe()
    with closing(database()) as connection, connection:
        connection.execute("DELETE FROM challenge WHERE name = ? OR ends < ?", (name, time.time()))
        row = (challenge, name, digest(challenge, otp), time.time() + VALIDITY, TRIES)
        connection.execute("INSERT INTO challenge VALUES (?, ?, ?, ?, ?)", row)
    return challenge


def solved(challenge: str, otp: str) -> str | None:
    """The user whose challenge this solves. It works once, in time, and within three tries."""
    with closing(database()) as connection, connection:
        tried = connection.execute(
            "UPDATE challenge SET tries = tries - 1 WHERE id = ? AND tries > 0 AND ends > ? RETURNING name, code",
            (challenge, time.time()),
        ).fetchone()
        if tried is None or not hmac.compare_digest(tried[1], digest(challenge, otp)):
            return None
        connection.execute("DELETE FROM challenge WHERE id = ?", (challenge,))
        return str(tried[0])


def digest(challenge: str, otp: str) -> str:
    key = current_app.config["SECRET_KEY"].encode()
    return hmac.new(key, f"{challenge} {otp}".encode(), hashlib.sha256).hexdigest()
