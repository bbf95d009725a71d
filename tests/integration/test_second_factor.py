"""The second factor: what it takes to get in, by the pages and by the API."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import flask
import pyotp
import pytest
from click.testing import CliRunner
from integration.served import PASSWORD, error_of, make_app, settings_of, value_of
from integration.visits import Visit
from services import PROGRAM

from pijobs.audit import AuditLog
from pijobs.cli.main import cli
from pijobs.database import Database
from pijobs.payload.keys import KeyRing
from pijobs.server.accounts import Accounts
from pijobs.server.factors import PERIOD, RECOVERY, TOTP, Factors
from pijobs.server.lockout import MOST_OF_BOTH

SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


class Clock:
    """Of the second factors; seconds."""

    def __init__(self, app: flask.Flask) -> None:
        self.now, settings = 1_700_000_000.0, settings_of(app)
        make = lambda: Factors(Database.of(settings), KeyRing.of(settings), lambda: self.now)  # noqa: E731
        self.factors = settings.resource(Factors, make)

    def code(self, steps: int = 0, secret: str = SECRET) -> str:
        return pyotp.TOTP(secret).at(int(self.now) + steps * PERIOD)


@pytest.fixture
def app(tmp_path: Path) -> flask.Flask:
    return make_app(tmp_path, PLUGINS=("mail",))


@pytest.fixture
def clock(app: flask.Flask) -> Clock:
    Accounts.of(settings_of(app)).add("root", PASSWORD, "admin")
    return Clock(app)


@pytest.fixture
def phone(clock: Clock) -> Clock:
    """An app of root's, which showed that it has the secret."""
    assert clock.factors.add_totp("root", "phone", SECRET, clock.code())
    clock.now += PERIOD
    return clock


def test_the_password_alone_opens_no_page(app: flask.Flask, phone: Clock) -> None:
    visit = Visit(app, None)
    assert visit.sign_in("root").headers["Location"].startswith("/pages/second-factor")
    for path in ("/", "/jobs", "/account", "/smtp/new", "/factors/new", "/audit"):
        assert visit.get(path).headers["Location"].startswith("/pages/second-factor"), path
    pause = visit.post("/workers/pause", form_of="/second-factor", reason="x")
    assert pause.headers["Location"].startswith("/pages/second-factor")
    added = visit.post("/factors/add", form_of="/second-factor", code="000000")
    assert added.status_code == 403
    assert visit.post("/second-factor", form_of="/second-factor", code="000000").status_code == 401
    assert visit.get("/").status_code == 302
    right = visit.post("/second-factor", form_of="/second-factor", code=phone.code(), next="/pages/jobs")
    assert right.headers["Location"] == "/pages/jobs"
    assert visit.get("/jobs").status_code == 200


def test_the_password_alone_gives_no_token(app: flask.Flask, phone: Clock) -> None:
    values = {"username": "root", "password": PASSWORD}
    client = app.test_client()
    assert error_of(client.post("/auth", json=values)) == (400, 905)
    assert error_of(client.post("/auth", json={**values, "otp": "000000"})) == (401, 4031)
    assert value_of(client.post("/auth", json={**values, "otp": phone.code()}))["token"]


def test_a_code_opens_once(phone: Clock) -> None:
    code = phone.code()
    assert phone.factors.takes("root", code) == TOTP
    assert phone.factors.takes("root", code) is None
    # Nor does an older one, after a newer one was used.
    assert phone.factors.takes("root", phone.code(1)) == TOTP
    assert phone.factors.takes("root", phone.code(0)) is None


@pytest.mark.parametrize(("steps", "kind"), [(-2, None), (-1, TOTP), (1, TOTP), (2, None)])
def test_a_code_is_right_for_a_while(phone: Clock, steps: int, kind: str | None) -> None:
    phone.now += 100 * PERIOD
    assert phone.factors.takes("root", phone.code(steps)) == kind


def test_guessing_codes_ends_wherever_it_comes_from(app: flask.Flask, phone: Clock) -> None:
    for number in range(MOST_OF_BOTH):
        client = app.test_client()
        client.environ_base["REMOTE_ADDR"] = f"192.0.2.{number}"
        values = {"username": "root", "password": PASSWORD, "otp": "000000"}
        assert error_of(client.post("/auth", json=values)) == (401, 4031)
    assert error_of(app.test_client().post("/auth", json={**values, "otp": phone.code()})) == (429, 429)


def test_a_recovery_code_opens_once_and_for_its_account(phone: Clock) -> None:
    codes = phone.factors.new_recovery_codes("root")
    assert len(set(codes)) == 10 and phone.factors.recovery_codes_left("root") == 10
    assert phone.factors.takes("alice", codes[0]) is None
    assert phone.factors.takes("root", codes[0].upper().replace("-", " ")) == RECOVERY
    assert phone.factors.takes("root", codes[0]) is None
    renewed = phone.factors.new_recovery_codes("root")
    assert phone.factors.takes("root", codes[1]) is None and phone.factors.takes("root", renewed[1]) == RECOVERY


@pytest.mark.parametrize("code", ["", " ", "-", "é" * 6, "\ud800", "1" * 5000, "١٢٣٤٥٦", "12345", "x" * 5000])
def test_nonsense_is_no_code(phone: Clock, code: str) -> None:
    assert phone.factors.takes("root", code) is None


def test_neither_secret_nor_recovery_code_lies_open(phone: Clock, tmp_path: Path) -> None:
    codes = phone.factors.new_recovery_codes("root")
    stored = b"".join(file.read_bytes() for file in tmp_path.glob("pijobs.sqlite*"))
    assert not any(text.encode() in stored for text in (SECRET, codes[0], codes[0].replace("-", "")))


def test_somebody_sets_up_an_app_and_gets_recovery_codes(app: flask.Flask, clock: Clock) -> None:
    visit = Visit(app, None)
    visit.sign_in("root")
    page = visit.text("/factors/new")
    assert "<svg" in page
    wrong = visit.post("/factors/add", form_of="/factors/new", code="000000", label="phone")
    assert wrong.status_code == 400 and not clock.factors.of_account("root")
    secret = re.findall(r"<code>([A-Z2-7]{32})</code>", visit.text("/factors/new"))[0]
    token = visit.token("/account")
    fields = {"csrf_token": token, "code": clock.code(secret=secret), "label": "phone"}
    shown = visit.client.post("/pages/factors/add", data=fields)
    codes = re.findall(r"<code>([a-z0-9-]{19})</code>", shown.text)
    assert len(codes) == 10
    assert "phone" in visit.text("/account")
    visit.post("/sign-out")
    visit.sign_in("root")
    assert visit.post("/second-factor", form_of="/second-factor", code=codes[0]).status_code == 303
    assert visit.get("/").status_code == 200
    acts = [one.content["act"] for one in AuditLog.of(settings_of(app)).newest(who="root")]
    assert acts[:2] == ["second-factor", "sign-in"] and "factor.add" in acts


def test_who_must_have_one_sets_it_up_before_anything_else(app: flask.Flask, clock: Clock) -> None:
    clock.factors.require("root", True)
    visit = Visit(app, None)
    visit.sign_in("root")
    assert visit.get("/jobs").headers["Location"].startswith("/pages/second-factor")
    values = {"username": "root", "password": PASSWORD, "otp": "000000"}
    assert error_of(app.test_client().post("/auth", json=values)) == (401, 4031)
    page = visit.text("/second-factor")
    secret = re.findall(r"<code>([A-Z2-7]{32})</code>", page)[0]
    token = re.findall(r'name="csrf_token" value="([^"]+)"', page)[0]
    fields = {"csrf_token": token, "code": clock.code(secret=secret)}
    assert "Recovery codes" in visit.client.post("/pages/factors/add", data=fields).text
    assert visit.get("/jobs").status_code == 200
    (one,) = clock.factors.of_account("root")
    assert visit.post("/factors/remove", id=one.id).status_code == 409
    clock.factors.require("root", False)
    visit.post("/factors/remove", id=one.id)
    assert clock.factors.of_account("root") == [] and clock.factors.recovery_codes_left("root") == 0


def test_the_factor_of_one_is_not_removed_by_another(app: flask.Flask, phone: Clock) -> None:
    (one,) = phone.factors.of_account("root")
    Visit(app, "viewer").post("/factors/remove", id=one.id)
    assert phone.factors.of_account("root") == [one]


def test_a_secret_moves_to_a_newer_key(app: flask.Flask, phone: Clock) -> None:
    database = Database.of(settings_of(app))
    old = settings_of(app)["SECRET_KEY"]
    both = Factors(database, KeyRing(["a newer key", old]), lambda: phone.now)
    assert both.reencrypt() == 1 and both.reencrypt() == 0
    alone = Factors(database, KeyRing(["a newer key"]), lambda: phone.now)
    assert set(alone.key_ids()) == {KeyRing(["a newer key"]).newest.id}
    assert alone.takes("root", phone.code()) == TOTP


def test_the_command_requires_tells_and_resets(app: flask.Flask, phone: Clock, tmp_path: Path) -> None:
    lines = [f"{name} = {app.config[name]!r}" for name in app.config if name.startswith(("PI_", "SECRET", "SQLA"))]
    (tmp_path / "pi.cfg").touch(mode=0o600)
    (tmp_path / "pi.cfg").write_text("\n".join(lines))

    def command(*arguments: str) -> str:
        return CliRunner().invoke(cli, ["admin", *arguments, "--config", str(tmp_path / "pi.cfg")]).output

    visit = Visit(app, None)
    visit.sign_in("root")
    visit.post("/second-factor", form_of="/second-factor", code=phone.code())
    assert "root: phone (totp); none is required" in command("second-factor", "root")
    assert visit.get("/").status_code == 200
    assert "one is required" in command("second-factor", "root", "--require")
    assert visit.get("/").status_code == 302
    assert "root: none; one is required" in command("second-factor", "root", "--reset")
    assert "no account" in command("second-factor", "nobody", "--require")
    acts = [one.content["act"] for one in AuditLog.of(settings_of(app)).newest(who="root", act="factor.")]
    assert acts == ["factor.reset", "factor.require"]


def test_no_worker_loads_what_it_needs() -> None:
    script = (
        "import sys, pijobs.worker.main, pijobs.cli.worker, pijobs.server.app\n"
        "print([name for name in ('pyotp', 'webauthn', 'segno') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=PROGRAM)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_code_beyond_ascii_adds_no_app(tmp_path: Path) -> None:
    factors = Factors.of(settings_of(make_app(tmp_path)))
    assert factors.add_totp("alice", "app", "JBSWY3DPEHPK3PXP", "ß12345") is False
