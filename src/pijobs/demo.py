"""What the demos of plugins have in common: the real server and a real worker, on the embedded storage."""

from __future__ import annotations

import json
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from pijobs.base import clock, processes, threads

__all__ = ["PATIENCE", "Answered", "Demo", "DemoFailed"]

#: Seconds for a process to come up, and for a message to arrive.
PATIENCE = 120.0
_ADMIN = "demo"
_CONFIG = """\
# Written by a demo of pijobs.
SECRET_KEY = {secret!r}
SQLALCHEMY_DATABASE_URI = {database!r}
PI_JOB_QUEUE_CLASS = 'pijobs.HueyQueue'
PI_JOB_QUEUE_URL = {queue!r}
"""


class DemoFailed(Exception):
    """What the demo is there to show did not happen."""


@dataclass(frozen=True)
class Answered:
    """A request to the demo's server.

    :param at: Unix time when it was sent.
    :param seconds: until it was answered.
    """

    at: float
    seconds: float
    value: Any


class Demo:
    """Everything the demo starts; all of it ends with the ``with`` block.

    :param say: takes each line for people.
    """

    def __init__(self, *, say: Callable[[str], object]) -> None:
        self.say = say
        #: What ends with the demo.
        self.cleanup = ExitStack()
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._password = secrets.token_urlsafe(9)
        self._token: str | None = None

    def start_other_side(self) -> None:
        """Start what the jobs talk to; :attr:`cleanup` ends it."""

    def show(self) -> None:
        """Do what there is to see, and tell about it. :raises DemoFailed: when it does not happen."""
        raise NotImplementedError

    def run(self, *, once: bool) -> None:
        """Show it and, unless ``once``, stay until Ctrl-C. :raises DemoFailed: when something does not happen."""
        with self:
            self.show()
            if not once:
                self.stay()

    def __enter__(self) -> Demo:
        try:
            self._start()
        except BaseException:
            self.cleanup.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.cleanup.close()

    def stay(self) -> None:
        """Until Ctrl-C, or until a process of the demo ends."""
        try:
            self.say(f"\nThe server stays at {self._url} (admin {_ADMIN!r}, password {self._password!r}).")
            self.say(f"Look at the queue with:  {_python_m()} status --config {self._config}")
            self.say("Ctrl-C ends it.")
            while True:
                self._require_children()
                threads.Event().wait(0.5)
        except KeyboardInterrupt:
            self.say("")

    def post(self, path: str, values: dict[str, Any]) -> Answered:
        """Ask the server. :raises DemoFailed: when it refuses."""
        headers = {"Content-Type": "application/json"} | ({"Authorization": self._token} if self._token else {})
        request = urllib.request.Request(f"{self._url}{path}", json.dumps(values).encode(), headers)
        at, started = clock.time(), clock.monotonic()
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as response:
                return Answered(at, clock.monotonic() - started, json.load(response)["result"]["value"])
        except urllib.error.HTTPError as error:
            raise DemoFailed(f"POST {path} was answered with {error.code}: {error.read().decode()}") from None

    def worker_log(self) -> str:
        """The end of it."""
        path = self._directory / "worker.log"
        return path.read_text(errors="replace")[-2000:] if path.exists() else "(none)"

    # -- what runs -------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        self._end_on_sigterm()
        self._directory = Path(self.cleanup.enter_context(tempfile.TemporaryDirectory(prefix="pijobs-demo-")))
        self._config = self._directory / "pi.cfg"
        self._config.touch(mode=0o600)
        self._config.write_text(
            _CONFIG.format(
                secret=secrets.token_hex(32),
                database=f"sqlite:///{self._directory}/pijobs.sqlite",
                queue=f"sqlite:///{self._directory}/queue.sqlite",
            )
        )
        self.start_other_side()
        self._add_admin()
        self._child("server", "--host", "127.0.0.1", "--port", "0")
        self._child("worker", "-l", str(self._directory / "worker.log"))
        self._url = self._wait_for_server()
        self._token = self.post("/auth", {"username": _ADMIN, "password": self._password}).value["token"]

    def _add_admin(self) -> None:
        command = self._command("admin", "add", _ADMIN, "--role", "admin", "--password-stdin")
        done = subprocess.run(command, input=f"{self._password}\n".encode(), capture_output=True, check=False)
        if done.returncode:
            raise DemoFailed(f"no account could be made: {done.stderr.decode(errors='replace').strip()}")

    def _child(self, name: str, *arguments: str) -> None:
        log = self.cleanup.enter_context((self._directory / f"{name}.out").open("wb"))
        child = subprocess.Popen(
            self._command(name, *arguments), cwd=self._directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        self._children[name] = child
        self.cleanup.callback(processes.end, child)

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "pijobs", "--config", str(self._config), *arguments]

    def _wait_for_server(self) -> str:
        """Its address."""
        until = clock.monotonic() + PATIENCE
        while clock.monotonic() < until:
            self._require_children()
            if found := re.search(r"^listening on (\S+)$", self._output("server"), re.MULTILINE):
                return found[1]
            threads.Event().wait(0.05)
        raise DemoFailed(f"the server did not answer within {PATIENCE:g} s")

    def _require_children(self) -> None:
        for name, child in self._children.items():
            if child.poll() is not None:
                said = self._output(name).strip().splitlines()[-10:]
                raise DemoFailed("\n".join([f"the {name} ended with exit code {child.returncode}:", *said]))

    def _output(self, name: str) -> str:
        return (self._directory / f"{name}.out").read_text(errors="replace")

    def _end_on_sigterm(self) -> None:
        """SIGTERM ends the demo as Ctrl-C does: with its children."""
        if threads.current_thread() is threads.main_thread():
            before = signal.signal(signal.SIGTERM, _interrupt)
            self.cleanup.callback(signal.signal, signal.SIGTERM, before)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _python_m() -> str:
    return "pijobs" if Path(sys.argv[0]).name == "pijobs" else "python -m pijobs"
