"""privacyIDEA as it runs in earnest."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from challenges import arrives_and_signs_in, challenge
from redis_on_disk import Redis

from pijobs_mail.sink.server import Sink
from pijobs_privacyidea.instance import APP, Instance

# privacyIDEA's own warnings are not ours to mend.
pytestmark = pytest.mark.filterwarnings("default")

GUNICORN = [sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:{port}", "--workers", "2", f"{APP}()"]


@pytest.fixture(params=["--preload", "--reuse-port"], ids=["preloaded", "loaded by each worker"])
def served_by_gunicorn(instance: Instance, request: pytest.FixtureRequest) -> Iterator[Instance]:
    port, serving = instance.port, instance.serving
    gunicorn = instance.serve(*GUNICORN, request.param)
    yield instance
    gunicorn.terminate()
    gunicorn.wait()
    instance.port, instance.serving = port, serving


def test_under_gunicorn_the_mail_arrives_whichever_process_takes_the_request(
    served_by_gunicorn: Instance, sink: Sink
) -> None:
    instance = served_by_gunicorn
    instance.set_smtp_server("otp", sink.port, queued=True)
    with instance.working():
        for _ in range(4):
            arrives_and_signs_in(instance, sink, challenge(instance))


def test_under_gunicorn_an_outage_of_redis_stands_in_privacyideas_log(
    served_by_gunicorn: Instance, sink: Sink, redis_server: Redis
) -> None:
    instance = served_by_gunicorn
    log = instance.here / "privacyidea.log"
    before = log.stat().st_size
    instance.set_smtp_server("otp", sink.port, queued=True)
    with redis_server.away():
        arrives_and_signs_in(instance, sink, challenge(instance))
    told = log.read_bytes()[before:].decode()
    assert "the queue's storage" in told and "smtpserver.send_email" in told, told[-3000:]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("PI_JOB_QUEUE_LEESE = 3\nPI_JOB_QUEUE_URL = 'http://x'", ["PI_JOB_QUEUE_LEESE", "PI_JOB_QUEUE_URL"]),
        ("PI_JOB_QUEUE_CLASS = 'pijobs_privacyidea.HueyQue'", ["expected 'pijobs_privacyidea.HueyQueue', found"]),
        ("PI_JOB_QUEUE_CLASS = 'pijobs_privacyide.HueyQueue'", ["expected a class that can be imported, found"]),
        ("PI_JOB_QUEUE_CLASS = 'pijobs.HueyQueue'", ["change the line to PI_JOB_QUEUE_CLASS = 'pijobs_privacyidea."]),
        ("del SECRET_KEY", ["SECRET_KEY: expected one in pi.cfg or the environment"]),
    ],
    ids=["all faults", "class", "module", "class for Flask", "no key"],
)
def test_a_wrong_setting_stops_the_start_and_all_faults_are_told(
    instance: Instance, tmp_path: Path, wrong: str, told: list[str]
) -> None:
    copy = Instance(tmp_path, {})
    copy.config.write_text(f"{instance.config.read_text()}{wrong}\n")
    server = copy.start(sys.executable, "-m", "flask", "--app", APP, "run", "--port", "0")
    assert server.wait(120) != 0
    log = copy.log.read_text()
    assert [fault for fault in told if fault not in log] == []
