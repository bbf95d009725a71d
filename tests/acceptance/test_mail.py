"""The main job, end to end: a mail leaves the request and arrives."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from services import wait_until

from pijobs.jobs import WAITING, State
from pijobs_mail.sink.server import Fault, Sink

from .conftest import MakeSite
from .site import Site, children
from .web import Web

OTP = "490137"
SMTP_PASSWORD = "the-smtp-password-9f2"


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink(logins={"otp": SMTP_PASSWORD}) as sink:
        yield sink


@pytest.fixture
def mail_site(make_site: MakeSite) -> Site:
    return make_site(PLUGINS=("mail", "jobs_under_test"))


def define(web: Web, sink: Sink, identifier: str, **values: Any) -> dict[str, Any]:
    """Save an SMTP server definition, and return it as a client would post it again."""
    definition = {
        "server": sink.host, "port": sink.port, "sender": "server@example.com", "username": "otp",
        "password": SMTP_PASSWORD, **values,
    }  # fmt: skip
    web.call("POST", f"/smtpserver/{identifier}", **definition)
    return {"identifier": identifier, **definition, "password": "__CENSORED__"}


def test_the_box_takes_the_mail_out_of_the_request(mail_site: Site) -> None:
    with Sink(delay=0.3, logins={"otp": SMTP_PASSWORD}) as slow:
        web = mail_site.start_server()
        mail_site.start_worker()
        with_box = define(web, slow, "boxed", enqueue_job=True)
        without = define(web, slow, "plain", enqueue_job=False)
        # Order of events, not seconds: the queued answer is there before the conversation can have ended.
        web.call("POST", "/smtpserver/send_test_email", **with_box, recipient="alice@example.com")
        assert not slow.mails
        slow.wait_for(1, timeout=30)
        web.call("POST", "/smtpserver/send_test_email", **without, recipient="bob@example.com")
        assert [mail.recipients for mail in slow.mails] == [("alice@example.com",), ("bob@example.com",)]
    assert mail_site.wait_all_ended("mail.send") == {State.DONE: 1}
    assert [job["state"] for job in web.call("GET", "/jobs?name=mail.send")["jobs"]] == ["done"]
    log = mail_site.output()
    assert "mail.send" in log
    for secret in ("alice@example.com", "bob@example.com", SMTP_PASSWORD):
        assert secret not in log


def test_the_historic_lines_of_privacyideas_documentation_work(make_site: MakeSite, sink: Sink) -> None:
    site = make_site(CLASS="privacyidea.lib.queues.huey_queue.HueyQueue", PLUGINS=("mail",))
    web = site.start_server()
    site.start_worker()
    definition = define(web, sink, "main", enqueue_job=True)
    web.call("POST", "/smtpserver/send_test_email", **definition, recipient="alice@example.com")
    assert len(sink.wait_for(1, timeout=120)) == 1


@pytest.mark.each_storage
def test_a_worker_killed_in_the_middle_of_a_mail_loses_nothing(mail_site: Site) -> None:
    with Sink(faults={"DATA": Fault(hang=True, times=1)}, logins={"otp": SMTP_PASSWORD}) as hanging:
        web = mail_site.start_server()
        first = mail_site.start_worker()
        definition = define(web, hanging, "main", enqueue_job=True)
        web.call("POST", "/smtpserver/send_test_email", **definition, recipient="alice@example.com")
        wait_until(lambda: mail_site.counts("mail.send").get(State.RUNNING) == 1, what="the attempt")
        mail_site.start_worker()
        os.killpg(first.pid, signal.SIGKILL)
        killed = time.monotonic()
        # One lease of 1 s, the beat that finds it out, and the conversation of the second worker.
        hanging.wait_for(1, timeout=30)
        assert time.monotonic() - killed < 8
        assert mail_site.wait_all_ended("mail.send") == {State.DONE: 1}
    record = mail_site.storage.page(State.DONE, name="mail.send").records[0]
    assert record.crashes == 1


def test_a_mail_waits_for_its_server_and_arrives(mail_site: Site, sink: Sink) -> None:
    sink.fail_at("RCPT", Fault("451 4.7.1 try again in 1 seconds", times=1))
    web = mail_site.start_server()
    mail_site.start_worker()
    definition = define(web, sink, "main", enqueue_job=True)
    web.call("POST", "/smtpserver/send_test_email", **definition, recipient="alice@example.com")
    assert len(sink.wait_for(1, timeout=120)) == 1


def test_a_definition_deleted_meanwhile_leaves_a_dead_letter_that_says_so(mail_site: Site, sink: Sink) -> None:
    web = mail_site.start_server()
    definition = define(web, sink, "shortlived", enqueue_job=True)
    web.call("POST", "/smtpserver/send_test_email", **definition, recipient="alice@example.com")
    web.call("DELETE", "/smtpserver/shortlived")
    mail_site.start_worker()
    wait_until(lambda: mail_site.counts("mail.send").get(State.DEAD) == 1, what="the dead letter")
    listed = mail_site.run("jobs", "list", "--state", "dead")
    assert "'shortlived' was deleted" in listed.stdout, listed.stdout + listed.stderr


def test_a_second_host_with_another_database_throws_no_mail_away_and_is_red(mail_site: Site, sink: Sink) -> None:
    web = mail_site.start_server()
    mail_site.start_worker()
    second = mail_site.config.with_name("second.cfg")
    second.write_text(mail_site.config.read_text() + f"SQLALCHEMY_DATABASE_URI = 'sqlite:///{second}.sqlite'\n")
    second.chmod(0o600)
    process = mail_site.start("--config", str(second), "worker", "-l", str(mail_site.folder / "second.log"))
    wait_until(lambda: mail_site.has_worker(process), what="the second host's worker")
    definition = define(web, sink, "main", enqueue_job=True)
    for _ in range(10):
        web.call("POST", "/smtpserver/send_test_email", **definition, recipient="alice@example.com")
    assert mail_site.wait_all_ended("mail.send") == {State.DONE: 10}
    assert len(sink.mails) == 10

    def is_red(*config: str, says: list[str]) -> bool:
        checked = mail_site.run(*config, "config", "check")
        return checked.returncode == 1 and all(text in checked.stdout for text in says)

    # A lease of one second: on a busy machine, a worker may be missing from one look.
    there = [f"pid {mail_site.processes[-2].pid}", f"{second}.sqlite"]
    wait_until(lambda: is_red("--config", str(second), says=there), what="the other database, seen from there")
    wait_until(lambda: is_red(says=[f"pid {process.pid}"]), what="the other database, seen from here")


def test_the_worker_reads_the_definition_as_it_is_then(mail_site: Site, sink: Sink) -> None:
    web = mail_site.start_server()
    definition = define(web, sink, "main", enqueue_job=True)
    web.call("POST", "/smtpserver/send_test_email", **definition, recipient="alice@example.com")
    with Sink(logins={"otp": SMTP_PASSWORD}) as other:
        define(web, other, "main", enqueue_job=True)
        mail_site.start_worker()
        other.wait_for(1, timeout=30)
    assert not sink.mails


@pytest.mark.each_storage
def test_neither_storage_nor_log_holds_what_must_not_be_seen(mail_site: Site, sink: Sink, storage_url: str) -> None:
    web = mail_site.start_server()
    worker = mail_site.start_worker("-v")
    define(web, sink, "main", enqueue_job=True)
    sink.fail_at("RCPT", Fault(f"550 5.1.1 no such user carol@example.com, the text was {OTP}"))
    from pijobs_mail.send import send_mail

    failed = send_mail(
        "main", to="carol@example.com", subject="Your OTP", text=f"Your OTP is {OTP}.", queue=mail_site.queue
    )
    assert mail_site.wait_for(failed.id).state is State.DEAD
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait(120)
    waiting = send_mail("main", to="dave@example.com", subject="x", text=f"Your OTP is {OTP}.", queue=mail_site.queue)
    assert mail_site.record(waiting.id).state is State.QUEUED
    kept = stored_bytes(mail_site, storage_url) + mail_site.output().encode()
    kept += b"".join(file.read_bytes() for file in mail_site.folder.glob("*.sqlite*"))
    for secret in (OTP, "carol@example.com", "dave@example.com", SMTP_PASSWORD, "correct horse battery"):
        assert secret.encode() not in kept, secret
    assert waiting.id.encode() in kept  # the search can find something


def stored_bytes(site: Site, storage_url: str) -> bytes:
    """All that the storage keeps, as ``strings`` would see it."""
    if storage_url.startswith("sqlite"):
        return b"".join(file.read_bytes() for file in Path(site.folder).glob("queue.sqlite*"))
    client = redis.Redis.from_url(storage_url)
    name = site.queue.settings.name
    # Not DUMP: that may be compressed.
    dump = []
    for key in client.scan_iter(f"*{name}*"):
        kind = client.type(key)
        dump.append(key)
        if kind == b"hash":
            dump += [part for pair in client.hgetall(key).items() for part in pair]
        elif kind == b"zset":
            dump += client.zrange(key, 0, -1)
        elif kind == b"list":
            dump += client.lrange(key, 0, -1)
        elif kind == b"set":
            dump += client.smembers(key)
        else:
            dump.append(client.get(key))
    return b"\n".join(part for part in dump if part)


def test_jobs_can_be_retried_by_command(mail_site: Site, sink: Sink) -> None:
    web = mail_site.start_server()
    mail_site.start_worker()
    definition = define(web, sink, "main", enqueue_job=True)
    sink.fail_at("RCPT", Fault("550 5.1.1 no such user", times=1))
    web.call("POST", "/smtpserver/send_test_email", **definition, recipient="alice@example.com")
    wait_until(lambda: mail_site.counts("mail.send").get(State.DEAD) == 1, what="the dead letter")
    dead = mail_site.storage.page(State.DEAD, name="mail.send").records[0]
    done = mail_site.run("jobs", "retry", dead.id)
    assert done.returncode == 0, done.stderr
    assert len(sink.wait_for(1, timeout=120)) == 1


def test_a_process_worker_sends_mails_too(mail_site: Site, sink: Sink) -> None:
    web = mail_site.start_server()
    worker = mail_site.start_worker("-k", "process", "-w", "2")
    assert len(list(children(worker.pid))) >= 2
    definition = define(web, sink, "main", enqueue_job=True)
    web.call("POST", "/smtpserver/send_test_email", **definition, recipient="alice@example.com")
    assert len(sink.wait_for(1, timeout=120)) == 1


def test_a_wrong_login_burns_no_attempt_and_readiness_says_so(mail_site: Site, sink: Sink) -> None:
    web = mail_site.start_server()
    mail_site.start_worker()
    define(web, sink, "main", password="the-old-password-77", enqueue_job=True)
    send = {"server": "main", "to": "alice@example.com", "subject": "x", "text": "x"}
    ids = [mail_site.queue.enqueue("mail.send", (), send, expires=3600).id for _ in range(3)]

    def told() -> str:
        status, answer = web.ask("GET", "/healthz")
        return str(answer) if status == 503 else ""

    # Not "535" alone: an age in milliseconds may contain it.
    wait_until(lambda: "requires another login" in told(), what="red readiness with the reply to the login")
    assert ": 535 " in told()
    assert "the-old-password-77" not in told() + mail_site.output()
    assert {mail_site.record(id).attempts for id in ids} == {0}
    assert not sink.mails
    define(web, sink, "main", enqueue_job=True)
    # Whoever mended it lets the server be tried at once; the others come when they are due.
    assert mail_site.run("resume", "smtp:main").returncode == 0
    fresh = mail_site.queue.enqueue("mail.send", (), send, expires=3600).id
    assert mail_site.wait_for(fresh).state is State.DONE
    wait_until(lambda: not told(), what="green readiness")
    assert {mail_site.record(id).attempts for id in ids if mail_site.record(id).state in WAITING} <= {0}


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_a_worker_that_ends_says_good_bye_on_its_warm_connections(mail_site: Site, sink: Sink, kind: str) -> None:
    web = mail_site.start_server()
    worker = mail_site.start_worker("-w", "1", "-k", kind)
    define(web, sink, "main", enqueue_job=True)
    send = {"server": "main", "to": "alice@example.com", "subject": "x", "text": "x"}
    mail_site.wait_for(mail_site.queue.enqueue("mail.send", (), send, expires=600).id)
    assert sink.steps["QUIT"] == 0
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(120) == 0
    assert (sink.connections, sink.steps["QUIT"]) == (1, 1)
