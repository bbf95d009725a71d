"""An installation as an admin has it: a ``pi.cfg``, the real commands as processes, and a queue to look into."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import shared
from preloaded import Programs, starts_alike
from services import PROGRAM, wait_until

from pijobs.factory import build
from pijobs.jobs import ENDED, State
from pijobs.request.queue import Queue
from pijobs.server.accounts import Accounts
from pijobs.settings import read_config
from pijobs.storage.records import Record

from .web import Web

HERE = Path(__file__).parent
JOBS_MODULE = "jobs_under_test"


class Site:
    """A folder with a ``pi.cfg``.

    :param effects: the file that the jobs under test write their effects to.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder = folder
        self.config = folder / "pi.cfg"
        self.effects = folder / "effects"
        self.effects.touch()
        self.log = folder / "worker.log"
        self.processes: list[subprocess.Popen[bytes]] = []
        self.python = sys.executable
        #: What stands before the command of a process, to start it on another host.
        self.prefix: tuple[str, ...] = ()
        values = {
            "SECRET_KEY": "an acceptance test's secret key",
            "PI_JOB_QUEUE_CLASS": "pijobs.HueyQueue",
            "PI_JOB_QUEUE_PLUGINS": (JOBS_MODULE,),
            "PI_JOB_QUEUE_LEASE": 1,
            # What waits beside a running job can be seen; a test that wants more says so.
            "PI_JOB_QUEUE_WORKERS": 1,
            # A busy machine must not make a fallback of what is no test of fallbacks.
            "PI_JOB_QUEUE_ENQUEUE_TIMEOUT": 5,
            **settings,
        }
        self.config.write_text("".join(f"{name} = {value!r}\n" for name, value in values.items()))
        self.config.chmod(0o600)
        self.environment = {**os.environ, "PYTHONPATH": str(HERE), "PIJOBS_EFFECTS": str(self.effects)}
        sys.path[:] = [str(HERE), *(place for place in sys.path if place != str(HERE))]
        self.queue: Queue = build(read_config(self.config), directory=folder).queue

    # -- commands ------------------------------------------------------------------------------------------------

    def run(
        self, *arguments: str, input: str | None = None, timeout: float = PROGRAM
    ) -> subprocess.CompletedProcess[str]:
        """Run ``pijobs …`` to its end."""
        command = ["-m", "pijobs", "--config", str(self.config), *arguments]
        if programs := self._programs(arguments):
            return programs.run(command, self.environment, self.folder, timeout, input)
        return subprocess.run(
            [self.python, *command],
            cwd=self.folder, env=self.environment, input=input, capture_output=True, text=True, timeout=timeout,
        )  # fmt: skip

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start ``pijobs …`` in a process group of its own."""
        return self.start_module("pijobs", "--config", str(self.config), *arguments)

    def start_module(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start ``python -m …`` likewise."""
        command = ["-m", *arguments]
        if programs := self._programs(arguments):
            process: Any = programs.start(command, self.environment, self.folder, self.folder / "output")
        else:
            with (self.folder / "output").open("ab") as output:
                process = subprocess.Popen(
                    [*self.prefix, self.python, *command],
                    cwd=self.folder, env=self.environment, stdout=output, stderr=output, start_new_session=True,
                )  # fmt: skip
        self.processes.append(process)
        return cast("subprocess.Popen[bytes]", process)

    def _programs(self, arguments: tuple[str, ...]) -> Programs | None:
        """What starts a command quickly; None: it has to be started as an admin does."""
        alike = self.python == sys.executable and not self.prefix and starts_alike(self.environment)
        # gevent has to come before all else.
        return Programs(Path(shared.server("programs"))) if alike and "greenlet" not in arguments else None

    def start_worker(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a worker and wait until the storage knows it."""
        process = self.start("worker", "-l", str(self.log), *arguments)
        wait_until(lambda: self.has_worker(process), what="the sign of life of a worker")
        return process

    def start_server(self, name: str = "root", password: str = "correct horse battery") -> Web:
        """Start the server with an admin account, signed in."""
        Accounts.of(self.queue.settings).add(name, password, "admin")
        self.start("server", "--port", "0")
        pattern = re.compile(r"listening on (http://\S+)")
        wait_until(lambda: pattern.search(self.output()) is not None, what="the start of the server")
        match = pattern.search(self.output())
        assert match is not None
        web = Web(match[1])
        web.sign_in(name, password)
        return web

    def has_worker(self, process: subprocess.Popen[bytes]) -> bool:
        """Whether a worker, or one of its children, gave a sign of life."""
        if process.poll() is not None:
            raise AssertionError(f"the worker ended with {process.returncode}: {self.output()}")
        pids = {process.pid, *children(process.pid)}
        return any(session.info.pid in pids for session in self.storage.sessions())

    def close(self) -> None:
        """End what still runs."""
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self.storage.close()

    def output(self) -> str:
        """What the processes printed and logged."""
        files = [self.folder / "output", self.log]
        return "\n".join(file.read_text(errors="replace") for file in files if file.exists())

    # -- the queue -----------------------------------------------------------------------------------------------

    @property
    def storage(self) -> Any:
        assert self.queue.storage is not None
        return self.queue.storage

    def record(self, instance_id: str) -> Record:
        record: Record = self.storage.get(instance_id)
        return record

    def wait_for(self, instance_id: str, *states: State, timeout: float = 120) -> Record:
        """Wait until the instance stands in one of the states (default: any ended one)."""
        wanted = frozenset(states) or ENDED
        wait_until(lambda: self.record(instance_id).state in wanted, timeout, what=f"{instance_id} in {sorted(wanted)}")
        return self.record(instance_id)

    def counts(self, name: str) -> dict[State, int]:
        """Instances of a job by state."""
        return {
            state: number for (job, state), number in self.storage.depths().counts.items() if job == name and number
        }

    def wait_all_ended(self, name: str, timeout: float = 120) -> dict[State, int]:
        wait_until(lambda: ENDED.issuperset(self.counts(name)), timeout, what=f"the end of all {name}")
        return self.counts(name)

    def effects_of(self, kind: str) -> list[str]:
        """What the jobs did, line by line: the argument of each effect."""
        lines = self.effects.read_text().splitlines()
        return [line.split(" ", 1)[1] for line in lines if line.startswith(f"{kind} ")]


def children(pid: int) -> Iterable[int]:
    """Pids of the direct children."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except FileNotFoundError:
        return []
