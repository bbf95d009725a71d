"""The last release and the present one on one queue: a rolling upgrade, and a step back."""

from __future__ import annotations

import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import pytest
from preloaded import Programs, Started
from releases import LAST, last_release
from services import own_database, wait_until
from shared import server

from pijobs.factory import build
from pijobs.jobs import ENDED, State
from pijobs.payload.codec import open_envelope
from pijobs.request.queue import Queue
from pijobs.settings import read_config

HERE = Path(__file__).parent
Release = Literal["last", "present"]
BOTH: list[tuple[Release, Release]] = [("last", "present"), ("present", "last")]


@dataclass
class Installation:
    """One ``pi.cfg``, and processes of both releases that use it."""

    folder: Path
    processes: list[Started] = field(default_factory=list)

    @property
    def config(self) -> Path:
        return self.folder / "pi.cfg"

    def environment(self, release: Release) -> dict[str, str]:
        paths = [str(HERE), *([str(last_release())] if release == "last" else [])]
        more = {"PYTHONPATH": os.pathsep.join(paths), "EFFECTS": str(self.folder / "effects"), "RELEASE": release}
        return {**os.environ, **more}

    def run(self, release: Release, *command: str) -> subprocess.CompletedProcess[str]:
        return Programs(Path(server("programs"))).run(command, self.environment(release), self.folder, 120)

    def enqueue(self, release: Release, first: int, last: int) -> None:
        done = self.run(release, str(HERE / "enqueue_numbers.py"), str(self.config), str(first), str(last))
        assert done.returncode == 0, done.stderr

    def pijobs(self, release: Release, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run(release, "-m", "pijobs", "--config", str(self.config), *arguments)

    def start_worker(self, release: Release) -> Started:
        command = ["-m", "pijobs", "--config", str(self.config), "worker", "-w", "2", "-l", "-"]
        programs = Programs(Path(server("programs")))
        process = programs.start(command, self.environment(release), self.folder, self.folder / "output")
        self.processes.append(process)

        def is_there() -> bool:
            assert process.poll() is None, (self.folder / "output").read_text()
            return any(record.info.pid == process.pid for record in self.storage.sessions())

        wait_until(is_there, what=f"the worker of the {release} release")
        return process

    def stop(self, process: Started) -> None:
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0

    @property
    def queue(self) -> Queue:
        if not hasattr(self, "_queue"):
            self._queue = build(read_config(self.config), directory=self.folder, file=self.config).queue
        return self._queue

    @property
    def storage(self) -> Any:
        return self.queue.storage

    def ended(self) -> bool:
        counts = self.storage.depths().counts
        return all(state in ENDED for (_, state), number in counts.items() if number)

    def effects(self) -> Counter[int]:
        """How often each number was written."""
        file = self.folder / "effects"
        return Counter(int(line.split()[0]) for line in file.read_text().splitlines()) if file.exists() else Counter()

    def releases(self) -> set[str]:
        """Which releases wrote something."""
        return {line.split()[1] for line in (self.folder / "effects").read_text().splitlines()}

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()
        self.storage.close()


SERVERS = [pytest.param(name, marks=pytest.mark.chaos) for name in ("postgresql", "mariadb")]


@pytest.fixture(params=["sqlite", "redis", *SERVERS])
def installation(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Installation]:
    url = f"sqlite:///{tmp_path}/queue.sqlite"
    if request.param != "sqlite":
        url = request.getfixturevalue(f"{request.param}_url")
        url = url if request.param == "redis" else own_database(url)
    values = {
        "SECRET_KEY": "the secret key of both releases", "PI_JOB_QUEUE_CLASS": "pijobs.HueyQueue",
        "PI_JOB_QUEUE_URL": url, "PI_JOB_QUEUE_NAME": f"releases-{uuid4().hex}",
        "PI_JOB_QUEUE_PLUGINS": ("two_releases_jobs",), "PI_JOB_QUEUE_ENQUEUE_TIMEOUT": 10,
        # No lease ends while the machine is busy: each effect is there once.
        "PI_JOB_QUEUE_LEASE": 60,
    }  # fmt: skip
    (tmp_path / "pi.cfg").write_text("".join(f"{name} = {value!r}\n" for name, value in values.items()))
    (tmp_path / "pi.cfg").chmod(0o600)
    monkeypatch.syspath_prepend(str(HERE))
    made = Installation(tmp_path)
    yield made
    made.close()


def numbers(first: int, last: int) -> Counter[int]:
    """What must be written exactly once when these were enqueued."""
    return Counter([*range(first, last), *(n + 10_000 for n in range(first, last) if n % 4 == 1)])


def test_the_last_release_is_the_last_one(installation: Installation) -> None:
    assert f"pijobs {LAST}" in installation.pijobs("last", "--version").stdout
    program = installation.folder / "where.py"
    program.write_text("import pijobs; print(pijobs.__file__)")
    places = [installation.run(release, str(program)).stdout for release in ("last", "present")]
    assert str(last_release()) in places[0] and str(last_release()) not in places[1]


@pytest.mark.parametrize(("enqueues", "runs"), BOTH)
def test_what_one_release_enqueues_the_other_one_runs(
    installation: Installation, enqueues: Release, runs: Release
) -> None:
    installation.enqueue(enqueues, 0, 16)
    installation.start_worker(runs)
    wait_until(installation.ended, what="the end of all")
    assert installation.effects() == numbers(0, 16) and installation.releases() == {runs}
    states = Counter({state: number for (_, state), number in installation.storage.depths().counts.items()})
    assert states == {State.DONE: len(numbers(0, 16)), State.CANCELLED: 4}


def test_both_work_side_by_side_and_one_goes_on_with_what_the_other_left(installation: Installation) -> None:
    installation.enqueue("last", 0, 8)
    workers = [installation.start_worker(release) for release in ("last", "present")]
    installation.enqueue("present", 8, 40)
    installation.enqueue("last", 40, 72)
    wait_until(installation.ended, what="the end of all")
    assert installation.effects() == numbers(0, 72)
    for release in ("last", "present"):  # each takes over from the other one
        other = workers[0] if release == "present" else workers[1]
        if other.poll() is None:
            status = installation.pijobs(release, "workers")
            assert status.returncode == 0 and str(other.pid) in status.stdout, status.stderr
    workers[0].kill()
    installation.enqueue("last", 72, 80)
    wait_until(installation.ended, what="the end of all")
    assert installation.effects() == numbers(0, 80)


def test_the_new_format_is_taken_into_use_by_a_command_and_given_up_by_another(installation: Installation) -> None:
    old = installation.start_worker("last")
    refused = installation.pijobs("present", "schema", "upgrade")
    assert refused.returncode == 1 and f"pid {old.pid} ({LAST})" in refused.stdout, refused.stderr
    installation.stop(old)
    assert installation.pijobs("present", "schema", "upgrade").returncode == 0
    installation.enqueue("present", 0, 8)
    records = [one for state in (State.QUEUED, State.SCHEDULED) for one in installation.storage.page(state).records]
    versions = [open_envelope(record.envelope).version for record in records]
    assert versions.count(2) >= len(records) - 1  # a process learns the protocol when it connects, at its first call
    back = installation.pijobs("present", "schema", "downgrade")
    assert back.returncode == 0 and f"{versions.count(2)} instances were rewritten" in back.stdout, (
        back.stdout + back.stderr
    )
    installation.start_worker("last")
    wait_until(installation.ended, what="the end of all")
    assert installation.effects() == numbers(0, 8) and installation.releases() == {"last"}
