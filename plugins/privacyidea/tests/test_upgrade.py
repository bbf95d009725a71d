"""privacyIDEA's own install line, before ours and after it: how every upgrade of privacyIDEA ends.

Each environment is made from nothing, by the newest patch release. All releases by ``make compat``; one by CI.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pijobs_privacyidea.doctor import TRIED

ROOT = Path(__file__).parents[3]
PATIENCE = 600
pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.slow, pytest.mark.timeout(1800)]
#: privacyIDEA is made with SQLite and asked for its queue, as at each start of a server.
START = """
import logging
logging.basicConfig()
from privacyidea.app import create_app
from privacyidea.lib.queue import has_job_queue
app = create_app(config_name="production", silent=True)
with app.app_context():
    print("queue:", has_job_queue())
"""


class Environment:
    """One of Python in a folder, made by uv where it is at hand."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "env/bin"
        self._uv = str(Path(sys.executable).with_name("uv"))
        if Path(self._uv).exists():
            self._run(self._uv, "venv", "--quiet", "--python", sys.executable, str(folder / "env"))
        else:
            self._uv = ""
            self._run(sys.executable, "-m", "venv", str(folder / "env"))
        self.config = folder / "pi.cfg"
        self.config.write_text(
            f"SECRET_KEY = '{'x' * 32}'\nPI_PEPPER = 'pepper'\nPI_ENCFILE = '{folder}/enckey'\n"
            f"PI_AUDIT_KEY_PRIVATE = '{folder}/private.pem'\nPI_AUDIT_KEY_PUBLIC = '{folder}/public.pem'\n"
            f"SQLALCHEMY_DATABASE_URI = 'sqlite:///{folder}/pi.sqlite'\nPI_LOGFILE = '{folder}/pi.log'\n"
            "PI_JOB_QUEUE_CLASS = 'pijobs_privacyidea.HueyQueue'\nPI_JOB_QUEUE_URL = 'redis://127.0.0.1:1/0'\n"
        )
        self.config.chmod(0o600)

    def install(self, *arguments: str) -> None:
        pip = ["pip", "install", "--quiet", "--python", str(self.bin / "python")]
        self._run(*([self._uv, *pip] if self._uv else [str(self.bin / "python"), "-m", *pip[:3]]), *arguments)

    def install_pijobs(self) -> None:
        folders = (ROOT, ROOT / "plugins/mail", ROOT / "plugins/privacyidea")
        self.install(*(word for folder in folders for word in ("--editable", str(folder))))

    def install_privacyidea(self, release: str) -> None:
        """As its documentation says."""
        self.install("--no-deps", f"privacyidea~={release}.0")
        self.install("-r", str(self.bin.parent / "lib/privacyidea/requirements.txt"))

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PRIVACYIDEA_CONFIGFILE": str(self.config)}
        program = str(self.bin / command[0])
        return subprocess.run(
            [program, *command[1:]], env=environment, cwd=self.config.parent, capture_output=True, text=True,
            timeout=PATIENCE,
        )  # fmt: skip

    def _run(self, *command: str) -> None:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"


def releases() -> list[object]:
    """The newest one for CI, all for ``make compat``."""
    return [*(pytest.param(release, marks=pytest.mark.chaos) for release in TRIED[:-1]), TRIED[-1]]


@pytest.mark.parametrize("release", releases())
def test_an_upgrade_of_privacyidea_stops_no_login_and_the_doctor_says_what_to_do(release: str, tmp_path: Path) -> None:
    environment = Environment(tmp_path)
    environment.install_privacyidea(release)
    environment.install_pijobs()
    for command in (("setup", "create_enckey"), ("setup", "create_audit_keys"), ("setup", "create_tables", "-s")):
        made = environment.run("pi-manage", *command)
        assert made.returncode == 0, made.stdout + made.stderr
    before = environment.run("python", "-c", START)
    assert "queue: True" in before.stdout, before.stdout + before.stderr

    environment.install_privacyidea(release)  # what pijobs needs newer is gone now
    after = environment.run("python", "-c", START)
    assert "queue: False" in after.stdout, after.stdout + after.stderr
    assert "pijobs needs" in after.stderr and "mails are sent in the request" in after.stderr
    worker = environment.run("privacyidea-queue-huey") if _is_ours(environment) else environment.run("pijobs", "worker")
    assert worker.returncode == 2, worker.stdout + worker.stderr
    assert "is installed, pijobs needs" in worker.stderr and "pip install 'huey" in worker.stderr
    doctor = environment.run("pijobs", "privacyidea", "doctor")
    assert doctor.returncode == 1
    first, advice = doctor.stdout.splitlines()[:2]
    assert first.startswith("bad") and "pijobs needs" in first and "pip install 'huey" in advice

    environment.install_pijobs()
    again = environment.run("python", "-c", START)
    assert "queue: True" in again.stdout, again.stdout + again.stderr


def _is_ours(environment: Environment) -> bool:
    return b"pijobs" in (environment.bin / "privacyidea-queue-huey").read_bytes()
