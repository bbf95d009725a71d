"""A real privacyIDEA, its worker, Redis and an SMTP server; what must arrive arrives, and what must not does not."""

from __future__ import annotations

import base64
import os
import re
import signal
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis
from redis_on_disk import Redis
from services import free_port, wait_until

from pijobs_mail.sink import Fault, Received, Sink
from pijobs_privacyidea.instance import Instance, InstanceFailed

if TYPE_CHECKING:
    import flask

# privacyIDEA's own warnings are not ours to mend.
pytestmark = pytest.mark.filterwarnings("default")

#: Seconds to wait for what must happen; the machine may be busy.
PATIENCE = 180.0
PIN = "1234"


def otp_of(received: Received) -> str:
    part = received.message.get_body(("plain",))
    assert part is not None
    found = re.search(r"\b\d{6}\b", part.get_content())
    assert found is not None
    return found[0]


def challenge(instance: Instance) -> str:
    """The transaction of a new challenge."""
    answer = instance.challenge("alice", PIN)
    assert answer["detail"].get("transaction_id"), answer["detail"].get("message")
    return str(answer["detail"]["transaction_id"])


def arrives_and_signs_in(instance: Instance, sink: Sink, transaction: str) -> None:
    """Each OTP is tried once: the mail of a test before, whose fate was unknown, may come again."""
    tried: set[str] = set()

    def taken() -> bool:
        new = {otp_of(mail) for mail in sink.mails} - tried
        tried.update(new)
        return any(instance.sign_in("alice", otp, transaction) for otp in new)

    wait_until(taken, PATIENCE, what="the sign-in")


def opened_by(pid: int) -> set[str]:
    return {os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir() if link.exists()}


def newest(instance: Instance) -> dict[str, Any]:
    """The record of the instance that was enqueued last."""
    jobs: list[dict[str, Any]] = instance.ask("/jobqueue/jobs", "GET")["result"]["value"]["jobs"]
    return jobs[0]


def test_the_mail_arrives_and_the_sign_in_succeeds_and_nobody_kept_otp_or_address(
    instance: Instance, sink: Sink, redis_server: Redis
) -> None:
    instance.set_smtp_server("otp", sink.port, queued=True)
    transaction = challenge(instance)
    with redis.Redis.from_url(redis_server.url) as client:
        stored = b"".join(client.dump(key) or b"" for key in client.scan_iter())
    with instance.working():
        mail = sink.wait_for(1, PATIENCE)[0]
        assert instance.sign_in("alice", otp_of(mail), transaction)
    log = (instance.here / "queue.log").read_bytes()
    for secret in (otp_of(mail).encode(), b"alice@example.com"):
        assert secret not in stored + redis_server.written() + log
        assert base64.b64encode(secret) not in redis_server.written() + log
    assert mail.message["Reply-To"] == mail.message["From"] == "privacyidea@example.com"


def test_the_mail_arrives_when_the_smtp_server_comes_back(instance: Instance) -> None:
    port = free_port()
    instance.set_smtp_server("otp", port, queued=True)
    with instance.working():
        transaction = challenge(instance)
        wait_until(lambda: newest(instance)["state"] == "scheduled", PATIENCE)
        with Sink(port=port) as sink:
            arrives_and_signs_in(instance, sink, transaction)


def test_the_mail_arrives_when_the_smtp_server_first_says_451(instance: Instance, sink: Sink) -> None:
    sink.fail_at("RCPT", Fault("451 4.7.1 try again", times=1))
    instance.set_smtp_server("otp", sink.port, queued=True)
    with instance.working():
        arrives_and_signs_in(instance, sink, challenge(instance))


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_the_mail_arrives_when_the_worker_is_ended_while_it_sends(
    instance: Instance, sink: Sink, ending: signal.Signals
) -> None:
    sink.delay = 0.5
    instance.set_smtp_server("otp", sink.port, queued=True)
    with instance.working("-t", "0") as worker:
        transaction = challenge(instance)
        wait_until(lambda: sink.connections > 0, PATIENCE)
        worker.send_signal(ending)
        worker.wait(PATIENCE)
    with instance.working():
        arrives_and_signs_in(instance, sink, transaction)


def test_with_redis_frozen_the_request_gets_its_challenge_and_the_mail_arrives(
    instance: Instance, sink: Sink, redis_server: Redis
) -> None:
    instance.set_smtp_server("otp", sink.port, queued=True)
    with instance.working():
        os.kill(redis_server.process.pid, signal.SIGSTOP)
        try:
            transaction = challenge(instance)
            arrives_and_signs_in(instance, sink, transaction)
        finally:
            os.kill(redis_server.process.pid, signal.SIGCONT)


def test_a_server_that_hangs_does_not_hold_up_the_mails_of_another(
    instance: Instance, sink: Sink, app: flask.Flask
) -> None:
    with Sink(delay=120) as hanging:
        instance.set_smtp_server("hanging", hanging.port, queued=True, timeout=60)
        instance.set_smtp_server("otp", sink.port, queued=True)
        with instance.working():
            enqueue(app, "hanging", "bob@example.com", "body")
            wait_until(lambda: hanging.connections > 0, PATIENCE)
            began = time.monotonic()
            challenge(instance)
            sink.wait_for(1, PATIENCE)
            assert time.monotonic() - began < 30


def test_an_otp_that_is_too_late_is_not_sent(instance: Instance, sink: Sink) -> None:
    instance.set_smtp_server("otp", sink.port, queued=True)
    instance.ask("/system/setConfig", **{"email.validtime": 1})
    try:
        challenge(instance)
        due = time.monotonic() + 1.5
        wait_until(lambda: time.monotonic() > due, PATIENCE)
        with instance.working():
            wait_until(lambda: newest(instance)["state"] == "expired", PATIENCE)
    finally:
        instance.ask("/system/setConfig", **{"email.validtime": 120})
    late = newest(instance)["id"]
    assert not any(late in mail.message["Message-ID"] for mail in sink.mails)


def test_a_refusal_for_good_is_a_dead_letter_that_says_why_without_the_address(instance: Instance, sink: Sink) -> None:
    sink.fail_at("RCPT", "550 5.1.1 no such user")
    instance.set_smtp_server("otp", sink.port, queued=True)
    with instance.working():
        challenge(instance)
        wait_until(lambda: newest(instance)["state"] == "dead", PATIENCE)
    record = newest(instance)
    assert "550 5.1.1 no such user" in record["reason"]
    assert "alice@" not in str(record)
    metrics = urllib.request.urlopen(f"{instance.url}/jobqueue/metrics", timeout=PATIENCE).read().decode()
    assert re.search(r'pijobs_instances\{job="smtpserver.send_email",state="dead"\} [1-9]', metrics)


def test_a_definition_that_changes_while_the_mail_waits_counts_as_it_is_now(instance: Instance, sink: Sink) -> None:
    instance.set_smtp_server("otp", free_port(), queued=True)
    transaction = challenge(instance)
    sink_login = {"username": "pi", "password": "s3cret"}
    with Sink(logins={"pi": "s3cret"}) as with_login:
        instance.set_smtp_server("otp", with_login.port, queued=True, **sink_login)
        with instance.working():
            arrives_and_signs_in(instance, with_login, transaction)


def test_after_a_partial_refusal_nobody_gets_the_mail_twice(instance: Instance, sink: Sink, app: flask.Flask) -> None:
    sink.fail_at("RCPT", Fault("451 4.2.2 later", times=1, recipient="bob"))
    instance.set_smtp_server("plain", sink.port, queued=True)
    enqueue(app, "plain", ["alice@example.com", "bob@example.com"], "hello")
    with instance.working():
        mails = sink.wait_for(2, PATIENCE)
        wait_until(lambda: newest(instance)["state"] == "done", PATIENCE)
    assert [list(mail.recipients) for mail in mails] == [["alice@example.com"], ["bob@example.com"]]
    assert mails[0].message["Message-ID"] == mails[1].message["Message-ID"]
    assert mails[1].message.get_all("Subject") == ["subject"]


def test_the_worker_does_not_open_the_log_that_the_server_rotates(instance: Instance) -> None:
    with instance.working() as worker:
        wait_until(lambda: str(instance.here / "queue.log") in opened_by(worker.pid), PATIENCE)
        opened = opened_by(worker.pid)
    assert str(instance.here / "privacyidea.log") not in opened


def test_the_routes_are_for_administrators_of_privacyidea(instance: Instance) -> None:
    assert "jobs" in instance.ask("/jobqueue/jobs", "GET")["result"]["value"]
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{instance.url}/jobqueue/jobs", timeout=PATIENCE)
    assert caught.value.code == 401


def test_a_token_of_nobody_is_refused(instance: Instance) -> None:
    request = urllib.request.Request(f"{instance.url}/jobqueue/jobs", headers={"Authorization": "eyJ.x.y"})
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=PATIENCE)
    assert caught.value.code == 401


def test_jobs_of_the_old_queue_are_counted_and_deleted_and_never_read(
    instance: Instance, redis_server: Redis, tmp_path: Path, app: flask.Flask
) -> None:
    from privacyidea.lib.queue import get_job_queue

    from pijobs_privacyidea.old_queue import count_old, delete_old

    trap = b"cposix\nsystem\n(S'touch %s'\ntR." % str(tmp_path / "ran").encode()
    with app.app_context(), redis.Redis.from_url(redis_server.url) as client:
        settings = get_job_queue().settings
        key = get_job_queue().huey.storage.queue_key
        client.lpush(key, trap)
        with instance.working():
            pass
        assert count_old(settings) == 1
        assert delete_old(settings) == 1
        assert client.exists(key) == 0
    assert not (tmp_path / "ran").exists()


def test_a_test_mail_to_what_is_no_address_is_an_error_at_once(instance: Instance) -> None:
    with pytest.raises(InstanceFailed, match="500"):
        instance.ask("/smtpserver/send_test_email", identifier="x", server="127.0.0.1", port=1, sender="a@example.com",
                     recipient="nobody", enqueue_job=True)  # fmt: skip


def enqueue(app: flask.Flask, server: str, recipient: str | list[str], body: Any) -> None:
    """As privacyIDEA's event handler and tokens do it."""
    from privacyidea.lib.smtpserver import send_email_identifier

    with app.test_request_context():
        assert send_email_identifier(server, recipient, "subject", body) is True
