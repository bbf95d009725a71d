"""What nobody may read is nowhere, and what others left in Redis runs nothing."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from challenges import arrives_and_signs_in, challenge, holds, otp_of, pijobs
from redis_on_disk import Redis

from pijobs_mail.sink.server import Sink
from pijobs_privacyidea.instance import Instance, InstanceFailed

# privacyIDEA's own warnings are not ours to mend.
pytestmark = pytest.mark.filterwarnings("default")

PASSWORD = "Pa55word-of-the-SMTP-login"


def forms(secret: str) -> list[str]:
    """As its bytes in hexadecimal digits, and as its Base64 looks at each of three places in a longer text."""
    raw = secret.encode()
    shifted = [base64.b64encode(b"x" * n + raw)[(n * 8 + 5) // 6 : -4].decode() for n in range(3)]
    return [raw.hex(), *shifted]


def test_redis_its_file_and_the_logs_hold_neither_otp_nor_password_nor_address(
    instance: Instance, redis_server: Redis
) -> None:
    with Sink(logins={"pi": PASSWORD}) as sink:
        login = {"username": "pi", "password": PASSWORD}
        instance.set_smtp_server("otp", sink.port, queued=True, **login)
        transaction = challenge(instance)
        # The test of a definition that is not saved carries the password, in clear for privacyIDEA.
        # It is told that no worker runs, and the mail waits.
        with pytest.raises(InstanceFailed, match="is a worker running"):
            instance.ask(
                "/smtpserver/send_test_email", identifier="new", server="127.0.0.1", port=sink.port, timeout=10,
                sender="pi@example.com", recipient="bob@example.com", enqueue_job=True, **login,
            )  # fmt: skip
        held = redis_server.held()
        with instance.working():
            sink.wait_for(2, 60)
            arrives_and_signs_in(instance, sink, transaction)
            held += redis_server.held()
        otps = {otp_of(mail) for mail in sink.mails if "alice@example.com" in mail.recipients}
    ours = held + redis_server.written() + (instance.here / "queue.log").read_bytes()
    theirs = instance.log.read_bytes() + (instance.here / "privacyidea.log").read_bytes()
    assert ours and theirs
    addresses = ("alice@example.com", "bob@example.com")
    for text in (ours.decode("latin-1"), theirs.decode("latin-1")):
        assert not any(holds(text, otp) for otp in otps)
        assert not any(secret in text for secret in (PASSWORD, *addresses))
        assert not any(form in text for secret in (*otps, PASSWORD, *addresses) for form in forms(secret))


def test_pickles_in_any_list_run_nothing(instance: Instance, redis_server: Redis, sink: Sink, tmp_path: Path) -> None:
    trap = b"cposix\nsystem\n(S'touch %s'\ntR." % str(tmp_path / "ran").encode()
    instance.set_smtp_server("otp", sink.port, queued=True)
    challenge(instance)
    with redis_server.client() as client:
        for key in client.scan_iter():
            if client.type(key) == b"list":
                client.lpush(key, trap)
            elif client.type(key) == b"hash" and client.hexists(key, "body"):
                client.hset(key, "body", trap)
        for name in ("huey.redis.privacyidea", "huey.schedule.privacyidea", "privacyidea"):
            client.lpush(name, trap)
        with instance.working():
            transaction = challenge(instance)
            arrives_and_signs_in(instance, sink, transaction)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["privacyidea", "huey"], ids=["named", "by huey's default, since pi.cfg has no name"])
def test_jobs_of_the_old_queue_are_counted_and_deleted_and_never_read(
    instance: Instance, redis_server: Redis, tmp_path: Path, name: str
) -> None:
    trap = b"cposix\nsystem\n(S'touch %s'\ntR." % str(tmp_path / "ran").encode()
    with redis_server.client() as client:
        # Where huey's RedisHuey of that name keeps them.
        client.lpush(f"huey.redis.{name}", trap)
        client.zadd(f"huey.schedule.{name}", {trap: 1})
        with instance.working():
            pass
        told = pijobs(instance, "privacyidea", "doctor").stdout
        assert f"2 jobs of privacyIDEA's own queue class are left in Redis, in its queue '{name}'" in told
        deleted = pijobs(instance, "privacyidea", "purge-old", "--yes")
        assert deleted.stdout == "2 deleted\n", deleted.stderr
        assert not client.exists(f"huey.redis.{name}", f"huey.schedule.{name}")
    assert not (tmp_path / "ran").exists()
