"""What privacyIDEA's start and privacyIDEA's calls find in the class."""

from __future__ import annotations

import ast
import sys
import threading
from collections.abc import Iterator
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from pathlib import Path
from typing import Any

import flask
import huey
import pytest
from privacyidea.lib.queues.base import BaseQueue, QueueError

import pijobs_privacyidea
from pijobs.errors import ConfigurationError, SettingsError, StorageUnavailable
from pijobs.settings import CORE_SETTINGS, Settings
from pijobs_mail.errors import MessageError
from pijobs_mail.servers.definitions import SETTINGS as MAIL_SETTINGS
from pijobs_privacyidea import HueyQueue, definitions, doctor, mail
from pijobs_privacyidea.findings import Finding, Level, verdict
from pijobs_privacyidea.queue import has_random_key
from pijobs_privacyidea.settings import SETTINGS

NOBODY = "redis://127.0.0.1:1/0"
SERVER = {
    "id": 1, "identifier": "main", "server": "localhost", "port": 25, "username": "u", "password": "00:11",
    "sender": "pi@example.com", "tls": False, "description": "", "timeout": 10, "enqueue_job": True,
}  # fmt: skip


def settings() -> Settings:
    return Settings({}, [*CORE_SETTINGS, *SETTINGS])


@pytest.fixture(autouse=True)
def no_server_for_otps(monkeypatch: pytest.MonkeyPatch) -> None:
    """privacyIDEA's configuration needs its app."""
    monkeypatch.setattr(definitions, "otp_server", lambda: None)


def call(*args: Any, **config: Any) -> dict[str, Any]:
    return mail.call(settings(), {**SERVER, **config}, *args)[1]


def test_the_constructor_needs_no_app_context_starts_no_thread_and_connects_to_nothing() -> None:
    before = threading.active_count()
    queue = HueyQueue({"url": NOBODY})
    assert threading.active_count() == before
    assert mail.NAME in queue.jobs
    assert queue.options == {"url": NOBODY}


def test_the_class_is_a_queue_of_privacyidea_and_its_huey_holds_the_jobs() -> None:
    queue = HueyQueue({"url": NOBODY, "name": "some-name", "keys": ["k"]})
    assert isinstance(queue, BaseQueue) and isinstance(queue.huey, huey.RedisHuey)
    assert queue.huey.name == "some-name" and not queue.huey.store_none
    assert {kind.__name__ for kind in queue.huey._registry._registry.values()} == set(queue.jobs)


def test_wrong_settings_are_refused_all_at_once_and_not_as_a_value_error() -> None:
    with pytest.raises(SettingsError) as caught:
        HueyQueue({"url": "http://x", "leese": 3, "privacyidea_otp_servers": "otp"})
    assert len(caught.value.faults) == 3
    assert not isinstance(caught.value, (ImportError, ValueError))


def test_an_import_that_fails_is_no_import_error_which_privacyidea_would_pass_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pijobs_privacyidea.queue", None)
    with pytest.raises(RuntimeError, match="the job queue can't be imported"):
        pijobs_privacyidea.__getattr__("HueyQueue")


def test_without_the_mail_plugin_the_start_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'privacyidea' and 'mail'"):
        HueyQueue({"url": NOBODY, "plugins": ["privacyidea"]})


def test_a_name_registered_twice_and_an_unknown_name_are_queue_errors() -> None:
    queue = HueyQueue({"immediate": True, "keys": ["k"]})
    queue.register_job(mail.NAME, print)
    with pytest.raises(QueueError):
        queue.register_job(mail.NAME, print)
    with pytest.raises(QueueError):
        queue.enqueue("test.unknown", (), {})


def test_a_job_of_somebody_else_runs_at_once_with_immediate() -> None:
    ran: list[int] = []
    queue = HueyQueue({"immediate": True, "keys": ["k"]})
    queue.register_job("test.append", ran.append)
    queue.enqueue("test.append", (3,), {})
    assert ran == [3]


def test_the_call_carries_the_name_of_a_saved_server_and_nothing_of_its_definition() -> None:
    kwargs = call("alice@example.com", "code", "123456")
    assert (kwargs["server"], kwargs["definition"]) == ("main", None)
    assert "00:11" not in repr(kwargs)


def test_the_call_carries_a_definition_that_is_not_saved() -> None:
    config = {name: value for name, value in SERVER.items() if name != "id"}
    kwargs = mail.call(settings(), config, "alice@example.com", "s", "b")[1]
    assert kwargs["server"] is None
    assert kwargs["definition"]["password"] == "00:11"


@pytest.mark.parametrize("recipient", [None, [], "", "no address", ["two\r\nlines@example.com", "@"]])
def test_a_mail_that_cannot_be_sent_is_refused_in_the_request(recipient: Any) -> None:
    queue = HueyQueue({"url": NOBODY, "keys": ["k"]})
    with pytest.raises(QueueError, match="to"):
        queue.enqueue(mail.NAME, (SERVER, recipient, "subject", "body", None, None, "plain"), {})


def test_the_body_of_the_caller_is_not_written_into() -> None:
    body = MIMEMultipart()
    body.attach(MIMEText("x"))
    kwargs = call("alice@example.com", "code", body)
    assert body["Subject"] is None
    assert (kwargs["message"]["Subject"], kwargs["subject"]) == (None, "code")


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ({"reply_to": "a@example.com,b@example.com"}, {"reply_to": "a@example.com, b@example.com"}),
        ({"reply_to": "a@example.com, nobody at all"}, {"reply_to": "a@example.com"}),
        ({"reply_to": ""}, {"reply_to": None}),
        ({"subject": "two\nlines"}, {"subject": "two\nlines"}),
        ({"subject": None}, {"subject": ""}),
        ({"subject": "a\udc80b"}, {"subject": "a?b"}),
        ({"body": None}, {"text": ""}),
        ({"body": "a\0b"}, {"text": "a\0b"}),
        ({"sender": "a@example.com, b@example.com"}, {"sender": "a@example.com"}),
        ({"recipient": ["a@example.com", " ", "b@my_host"]}, {"to": ["a@example.com", " ", "b@my_host"]}),
        ({"sender": "IT, Hotline <pi@example.com>"}, {"sender": "IT, Hotline <pi@example.com>"}),
    ],
)
def test_what_sending_in_the_request_takes_is_taken(given: dict[str, Any], taken: dict[str, Any]) -> None:
    arguments = {"recipient": "a@example.com", "subject": "s", "body": "b", **given}
    kwargs = mail.call(settings(), SERVER, **arguments)[1]
    assert {name: kwargs[name] for name in taken} == taken


@pytest.mark.parametrize("sender", ["", "root", "pi@my_host", "IT, Hotline <pi@example.com>"])
def test_any_sender_that_a_server_could_be_given_is_taken(sender: str) -> None:
    assert call("alice@example.com", "s", "b", sender=sender)["to"] == ["alice@example.com"]


def test_a_sender_that_none_could_be_given_is_refused_by_its_name() -> None:
    with pytest.raises(MessageError, match=r"^sender: "):
        call("alice@example.com", "s", "b", sender="p i@example.com")


@pytest.mark.parametrize(
    "server", ["mail.example.com:587", "//mail.example.com", "mail.example.com/", "SMTPS://my_host"]
)
def test_any_server_that_sending_in_the_request_finds_is_taken(server: str) -> None:
    mail.call(settings(), {**SERVER, "server": server}, "alice@example.com", "s", "b")


def test_a_server_that_none_can_be_is_refused_by_its_name() -> None:
    with pytest.raises(MessageError, match=r"^server: expected a host name, "):
        mail.call(settings(), {**SERVER, "server": "mail server"}, "alice@example.com", "s", "b")


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ({"server": "mail server"}, "SMTP server 'main': expected a host name, "),
        ({"sender": "p i@example.com"}, "SMTP server 'main': sender: expected a mail address, "),
        ({"server": "mail.example.com:587", "username": "", "sender": "a@b, c@d"}, "queued, to mail.example.com:587"),
    ],
)
def test_the_doctor_looks_at_the_same(wrong: dict[str, Any], found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(definitions, "saved", lambda _: definitions.plain({**SERVER, **wrong}))
    [finding] = doctor._server(Settings({}, [*CORE_SETTINGS, *MAIL_SETTINGS, *SETTINGS]), "main", SERVER)
    assert found in finding.text


@pytest.mark.parametrize(("mimetype", "part"), [("plain", "text"), ("html", "html")])
def test_a_text_is_sent_as_the_type_that_was_asked_for(mimetype: str, part: str) -> None:
    assert call("alice@example.com", "s", "<b>x</b>", None, None, mimetype)[part] == "<b>x</b>"


def test_the_plugin_imports_public_names_only() -> None:
    inside = ("cli", "codec", "factory", "plugins", "registry", "runner", "session", "storage", "worker")
    imported = set()
    for path in Path(mail.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                imported.add(node.module or "")
            elif isinstance(node, ast.Import):
                imported |= {name.name for name in node.names}
    assert "pijobs.settings" in imported
    assert [name for name in imported if name.startswith(tuple(f"pijobs.{room}" for room in inside))] == []


def test_what_an_upgrade_of_privacyidea_took_away_stops_no_login(monkeypatch: pytest.MonkeyPatch) -> None:
    """privacyIDEA answers an ImportError with a line in its log, and sends in the request from then on."""
    monkeypatch.setattr(pijobs_privacyidea, "unmet", lambda *names: ["huey 3.4.0 is installed: pip install another"])
    with pytest.raises(ImportError, match=r"huey 3\.4\.0 .* mails are sent in the request"):
        pijobs_privacyidea.__getattr__("HueyQueue")


def test_the_class_for_flask_apps_is_refused_under_privacyidea_with_the_line_to_change() -> None:
    from privacyidea.lib.queue import JobCollector

    app = flask.Flask("privacyidea")
    app.config.update(PI_JOB_QUEUE_CLASS="pijobs.HueyQueue", PI_JOB_QUEUE_URL=NOBODY)
    app.config["_app_local_store"] = {}
    with pytest.raises(ConfigurationError, match=r"change the line to .*'pijobs_privacyidea\.HueyQueue'"):
        JobCollector().register_app(app)


def test_with_a_key_of_this_process_alone_a_job_runs_in_the_request(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """privacyIDEA makes a SECRET_KEY where none is given: another one in each process."""
    from privacyidea.config import ProductionConfig

    monkeypatch.delenv("SECRET_KEY", raising=False)
    ran: list[int] = []
    queue, app = HueyQueue({"url": NOBODY}), flask.Flask("privacyidea")
    queue.register_job("test.append", ran.append)
    app.config.from_object(ProductionConfig)
    with app.app_context():
        queue.enqueue("test.append", (3,), {})
    assert ran == [3]
    assert "SECRET_KEY: expected one in pi.cfg or the environment" in caplog.text
    app.config["SECRET_KEY"] = "of pi.cfg"
    assert not has_random_key(app)


def finding(level: str, text: str = "", advice: str = "", *, queued: bool = False) -> Finding:
    return Finding(Level(level), text, advice, queued)


@pytest.mark.parametrize(
    ("findings", "line"),
    [
        ([finding("ok", queued=True)], "ready"),
        ([finding("ok", queued=True), finding("warning")], "ready, with 1 warning above"),
        ([finding("ok")], "not in use; next: tick the box of an SMTP server (send through the job queue)"),
        ([finding("ok", queued=True), finding("bad", "x", "do y")], "not ready; next: do y"),
        ([finding("bad", "x"), finding("bad", "z", "do y")], "not ready; next: x (1 more after it)"),
    ],
)
def test_the_doctor_ends_with_the_next_thing_to_do(findings: list[Finding], line: str) -> None:
    assert verdict(findings) == line


def test_the_doctor_names_the_setting_of_a_storage_that_is_away() -> None:
    def look() -> Iterator[Finding]:
        raise StorageUnavailable("Redis is not available")
        yield

    [found] = doctor._guarded("the old queue", look)
    assert found.level is Level.BAD and "PI_JOB_QUEUE_URL" in found.advice


@pytest.mark.parametrize(("series", "level"), [((3, 12), "warning"), ((3, 11), "bad")])
def test_the_doctor_tells_settings_of_the_environment(
    series: tuple[int, int], level: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(doctor, "_series", lambda: series)
    monkeypatch.setenv("PRIVACYIDEA_PI_JOB_QUEUE_URL", "redis://:s3cret@redis.example.com")
    (tmp_path / "pi.cfg").write_text("PI_JOB_QUEUE_NAME = 'x'\n")
    found = Settings({}, [*CORE_SETTINGS], file=tmp_path / "pi.cfg")
    [told] = doctor._environment(found)
    assert told.level == level and "PI_JOB_QUEUE_URL: set in the environment" in told.text
    assert "s3cret" not in repr(told)
    (tmp_path / "pi.cfg").write_text("PI_JOB_QUEUE_URL = 'redis://localhost'\n")
    assert list(doctor._environment(found)) == []
