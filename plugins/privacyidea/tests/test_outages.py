"""The OTP mail arrives, and the sign-in succeeds, though something was away, stopped or killed."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest
import sqlalchemy
from challenges import LONGER, PATIENCE, arrives_and_signs_in, becomes, challenge, pijobs, timed_challenge
from preloaded import Programs
from quick_instance import made
from redis_on_disk import Redis
from services import free_port, wait_until

from pijobs_mail.sink.server import Sink
from pijobs_privacyidea.instance import Instance

# privacyIDEA's own warnings are not ours to mend.
pytestmark = pytest.mark.filterwarnings("default")

AWAY = 20.0  # seconds
LEASE = 3.0  # seconds, as the instance has it


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, redis_on_disk: Redis, programs: Programs) -> Iterator[Instance]:
    """One of its own: with a spool, and no more time for an enqueue than by default."""
    here = tmp_path_factory.mktemp("outages")
    # A spool is an SQL storage, which needs SQLAlchemy 2; releases up to 3.12 come with 1.4.
    has_spool = not sqlalchemy.__version__.startswith("1.")
    spool = {"PI_JOB_QUEUE_SPOOL": str(here / "spool.sqlite")} if has_spool else {}
    with made(here, programs, redis_on_disk.url, **spool) as instance:
        yield instance


@pytest.mark.slow
def test_the_mail_arrives_when_the_smtp_server_was_away_for_20_s(instance: Instance) -> None:
    port = free_port()
    instance.set_smtp_server("otp", port, queued=True)
    with instance.working():
        transaction = challenge(instance)
        back = time.monotonic() + AWAY
        becomes(instance, "scheduled")
        wait_until(lambda: time.monotonic() > back, PATIENCE)
        with Sink(port=port) as sink:
            arrives_and_signs_in(instance, sink, transaction)


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP], ids=lambda each: each.name)
def test_the_mail_arrives_when_the_worker_is_ended_or_stopped_while_it_sends(
    instance: Instance, sink: Sink, ending: signal.Signals
) -> None:
    sink.delay = 0.5
    instance.set_smtp_server("otp", sink.port, queued=True)
    with instance.working("-t", "0") as worker:
        transaction = challenge(instance)
        wait_until(lambda: sink.connections > 0, PATIENCE)
        worker.send_signal(ending)
        if ending is not signal.SIGSTOP:
            worker.wait(PATIENCE)
        with instance.working():
            arrives_and_signs_in(instance, sink, transaction)


@pytest.mark.parametrize("trouble", ["frozen", "away"])
def test_without_redis_the_request_gets_its_challenge_in_time_and_the_mail_arrives(
    instance: Instance, sink: Sink, redis_server: Redis, trouble: str
) -> None:
    instance.set_smtp_server("otp", sink.port, queued=True)
    with instance.working():
        # The first one after a change reads the configuration anew.
        arrives_and_signs_in(instance, sink, challenge(instance))
        transaction, usual = timed_challenge(instance)
        arrives_and_signs_in(instance, sink, transaction)
        with redis_server.frozen() if trouble == "frozen" else redis_server.away():
            transaction, took = timed_challenge(instance)
            arrives_and_signs_in(instance, sink, transaction)
        assert took < usual + LONGER


def test_without_redis_and_worker_the_mail_is_sent_in_the_request(
    instance: Instance, sink: Sink, redis_server: Redis
) -> None:
    instance.set_smtp_server("otp", sink.port, queued=True)
    challenge(instance)
    _, usual = timed_challenge(instance)
    # The worker of a test before counts as alive for one lease: the mail would go to the spool.
    lapsed = time.monotonic() + LEASE
    wait_until(lambda: time.monotonic() > lapsed, PATIENCE)
    with redis_server.frozen():
        transaction, took = timed_challenge(instance)
        arrives_and_signs_in(instance, sink, transaction)
    assert took < usual + LONGER


def test_the_commands_tell_that_redis_does_not_answer(instance: Instance, redis_server: Redis) -> None:
    with redis_server.frozen():
        purged = pijobs(instance, "privacyidea", "purge-old", "--yes")
        examined = pijobs(instance, "privacyidea", "doctor")
    assert (purged.returncode, purged.stdout) == (3, "")
    assert "Redis is not available" in purged.stderr and "Traceback" not in purged.stderr
    assert examined.returncode == 1
    assert "the storage of the queue does not answer" in examined.stdout
