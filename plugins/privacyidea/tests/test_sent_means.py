"""What privacyIDEA calls sent is queued: an SMS by mail, a registration, and a password reset."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
from challenges import PATIENCE, PIN, challenge, jobs, otp_of
from preloaded import Programs
from quick_instance import made
from redis_on_disk import Redis
from services import free_port

from pijobs_mail.sink.server import Sink
from pijobs_privacyidea.instance import MOBILE, Instance, InstanceFailed

# privacyIDEA's own warnings are not ours to mend.
pytestmark = pytest.mark.filterwarnings("default")

BY_MAIL = "privacyidea.lib.smsprovider.SmtpSMSProvider.SmtpSMSProvider"
COLUMNS = {
    "userid": "id", "username": "login", "email": "mail", "password": "password", "surname": "surname",
    "givenname": "givenname", "phone": "phone", "mobile": "mobile",
}  # fmt: skip


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, redis_on_disk: Redis, programs: Programs) -> Iterator[Instance]:
    """With a realm whose users privacyIDEA may add and change."""
    here = tmp_path_factory.mktemp("sent")
    with made(here, programs, redis_on_disk.url, PI_BASE_URL="https://pi.example.com") as instance:
        columns = ", ".join(f"{name} TEXT" for name in COLUMNS.values() if name != "id")
        users(instance, f"CREATE TABLE users (id INTEGER PRIMARY KEY, {columns})")
        users(instance, "INSERT INTO users (login, mail) VALUES ('dora', 'dora@example.com')")
        instance.ask(
            "/resolver/sql", type="sqlresolver", Driver="sqlite", Server=f"/{here}", Database="users.sqlite",
            Table="users", Map=json.dumps(COLUMNS), Editable="1", Password_Hash_Type="SSHA256", Limit="100",
        )  # fmt: skip
        instance.ask("/realm/editable", resolvers="sql")
        action = "realm=editable, resolver=sql, smtpconfig=notices"
        instance.ask("/policy/register", scope="register", action=action, realm="")  # 3.11 wants it named
        instance.ask("/policy/reset", scope="user", action="password_reset", realm="editable")
        instance.ask("/system/setConfig", **{"recovery.identifier": "notices"})
        yield instance


def users(instance: Instance, statement: str) -> list[Any]:
    with sqlite3.connect(instance.here / "users.sqlite") as database:
        return database.execute(statement).fetchall()


def register(instance: Instance, name: str) -> dict[str, Any]:
    about = {"username": name, "surname": "S", "givenname": "G", "email": f"{name}@example.com", "password": "p" * 12}
    return instance.ask("/register", **about)


def test_all_are_queued_and_only_the_otp_has_a_deadline(instance: Instance, sink: Sink) -> None:
    instance.set_smtp_server("notices", sink.port, queued=True)
    options = {"SMTPIDENTIFIER": "notices", "MAILTO": "{phone}@sms.example.com", "SUBJECT": "SMS", "BODY": "{otp}"}
    given = {f"option.{name}": value for name, value in options.items()}
    instance.ask("/smsgateway", name="mails", module=BY_MAIL, **given)
    instance.ask("/system/setConfig", **{"sms.identifier": "mails"})
    instance.ask("/token/init", type="sms", user="bob", realm="demo", pin=PIN, phone=MOBILE + "1")
    transaction = challenge(instance, "bob")
    assert register(instance, "emil")["result"]["value"] is True
    reset = instance.ask("/recover", user="dora", realm="editable", email="dora@example.com")
    assert reset["result"]["value"] is True
    of_tokens = sorted((", token PISM" in job["label"], job["deadline"] is not None) for job in jobs(instance))
    assert of_tokens == [(False, False), (False, False), (True, True)]
    assert sink.mails == []
    with instance.working():
        mails = {mail.recipients[0]: mail for mail in sink.wait_for(3, PATIENCE)}
    assert {"emil@example.com", "dora@example.com"} < set(mails)
    assert instance.sign_in("bob", otp_of(next(mails[to] for to in mails if "sms." in to)), transaction)


@pytest.mark.parametrize("queued", [False, True], ids=["in the request", "queued"])
def test_a_registration_whose_mail_nobody_takes_fails_and_its_user_stays(
    instance: Instance, redis_server: Redis, queued: bool
) -> None:
    instance.set_smtp_server("notices", free_port(), queued=queued)
    name = f"frieda{queued}"
    with redis_server.away(), pytest.raises(InstanceFailed, match="/register: 500"):
        register(instance, name)
    assert (name,) in users(instance, "SELECT login FROM users")
