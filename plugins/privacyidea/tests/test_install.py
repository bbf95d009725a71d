"""privacyIDEA as it runs in earnest."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from challenges import PIN, arrives_and_signs_in, challenge
from quick_instance import RELEASE
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


class Container(Instance):
    """Laid out as privacyIDEA's own image: no pi.cfg, secrets in files, all else in the environment."""

    def __init__(self, here: Path, settings: dict[str, str]) -> None:
        super().__init__(here, {})
        self.config.unlink()
        self._settings = settings
        (here / "enckey").write_bytes(os.urandom(96))
        (here / "secret_key").write_text(os.urandom(32).hex())

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PRIVACYIDEA_", "PI_"))}
        return {
            **kept, **self._settings, "PI_CONFIG_NAME": "docker", "PI_PEPPER": "pepper",
            "SQLALCHEMY_DATABASE_URI": f"sqlite:///{self.here}/privacyidea.sqlite",
            "PI_ENCFILE": f"{self.here}/enckey", "PI_SECRET_KEY_FILE": f"{self.here}/secret_key",
            "PRIVACYIDEA_PI_AUDIT_NO_SIGN": "true", "PRIVACYIDEA_PI_HASH_ALGO_LIST": '["pbkdf2_sha512"]',
        }  # fmt: skip

    def run(self, *command: str, **environment: str) -> Any:
        return super().run(str(Path(sys.executable).with_name(command[0])), *command[1:], **environment)


@pytest.mark.skipif(RELEASE < (3, 14), reason="the image of earlier releases has another layout")
def test_in_the_layout_of_privacyideas_image_the_recipe_needs_no_file_of_settings(
    tmp_path: Path, redis_server: Redis, sink: Sink
) -> None:
    recipe = Path(__file__).parents[3] / "contrib/docker/privacyidea-image.yml"
    server, worker = (yaml.safe_load(recipe.read_text())["services"][name] for name in ("pi", "pi-queue"))
    settings = {
        **server["environment"],
        "PRIVACYIDEA_PI_JOB_QUEUE_URL": redis_server.url,
        "PRIVACYIDEA_PI_JOB_QUEUE_SPOOL": f"{tmp_path}/spool.sqlite",
    }
    one = {"0.0.0.0:8080": "127.0.0.1:{port}", "4": "1"}
    serve = [sys.executable, *(one.get(word, word) for word in server["command"][1:])]
    work = [str(Path(sys.executable).with_name("pijobs")), *worker["command"][1:]]
    with Container(tmp_path, settings) as container:
        container.run("pi-manage", "setup", "create_tables")
        container.run("pi-manage", "admin", "add", "admin", "--password", container.password)
        container.serve(*serve)
        container.add_people("alice")
        container.set_smtp_server("otp", sink.port, queued=True)
        container.ask("/system/setConfig", **{"email.identifier": "otp"})
        container.add_email_token("alice", PIN)
        container.start(*work)
        container.wait_for("/healthz")
        arrives_and_signs_in(container, sink, challenge(container))
        told = container.run("pijobs", "--app", APP, "privacyidea", "doctor")
    assert told.stdout.endswith("\nready\n"), told.stdout + told.stderr
