"""Starts programs as forks of a process that has privacyIDEA imported.

The import takes two seconds of a processor for each worker and each command. Nothing of pijobs is imported before the
fork. A program runs as its own script: by its file, its arguments and its environment.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from services import START_TIMEOUT, wait_until

#: Not all are in each release.
MODULES = ("privacyidea.app", "privacyidea.cli.pimanage", "cryptography.x509")


class Started:
    """A process that was forked elsewhere, with what is used of :class:`subprocess.Popen`."""

    def __init__(self, place: Path, request: Mapping[str, Any]) -> None:
        self._keeper = socket.socket(socket.AF_UNIX)
        self._keeper.connect(str(place))
        self._keeper.sendall(json.dumps(request).encode() + b"\n")
        self._told = b""
        self.pid = int(self._line(START_TIMEOUT))
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """:raises subprocess.TimeoutExpired: when it runs yet."""
        if self.returncode is None:
            self.returncode = int(self._line(timeout))
            self._keeper.close()
        return self.returncode

    def poll(self) -> int | None:
        try:
            return self.wait(0.001)
        except subprocess.TimeoutExpired:
            return None

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def _line(self, timeout: float | None) -> bytes:
        self._keeper.settimeout(timeout)
        try:
            while b"\n" not in self._told:
                more = self._keeper.recv(64)
                assert more, "the process that starts programs ended"
                self._told += more
        except TimeoutError:
            raise subprocess.TimeoutExpired("program", timeout or 0) from None
        line, _, self._told = self._told.partition(b"\n")
        return line


class Preloaded:
    """The process that has imported, and forks.

    :param folder: for its socket; its path must be short.
    """

    def __init__(self, folder: Path) -> None:
        self._place, self._folder, self._started = folder / "s", folder, 0
        self._process = subprocess.Popen([sys.executable, __file__, str(self._place)], stdin=subprocess.DEVNULL)
        wait_until(self._place.exists, START_TIMEOUT, what="the process that starts programs")

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def start(self, command: Sequence[str], environment: Mapping[str, str], here: Path, log: Path) -> Started:
        """Start a program whose file is a script of Python."""
        return self._start(command, environment, here, log, log)

    def run(
        self, command: Sequence[str], environment: Mapping[str, str], here: Path, timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end, as :func:`subprocess.run` does."""
        self._started += 1
        out, err = (self._folder / f"{self._started}.{name}" for name in ("out", "err"))
        process = self._start(command, environment, here, out, err)
        try:
            code = process.wait(timeout)
        finally:
            process.kill()
        return subprocess.CompletedProcess([*command], code, out.read_text(), err.read_text())

    def _start(
        self, command: Sequence[str], environment: Mapping[str, str], here: Path, out: Path, err: Path
    ) -> Started:
        place = {"here": str(here), "out": str(out), "err": str(err)}
        return Started(self._place, {"command": [*command], "environment": dict(environment), **place})


def serve(place: str) -> None:
    """Fork for each connection; a child returns to end as every program of Python does."""
    for module in MODULES:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{place}.new")
        server.listen(8)
        os.rename(f"{place}.new", place)
        while True:
            client, _ = server.accept()
            if os.fork() == 0:
                server.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                return _keep(client)
            client.close()


def _keep(client: socket.socket) -> None:
    """Tell the process id of the program, and then its exit code."""
    request = json.loads(client.makefile("rb").readline())
    pid = os.fork()
    if pid == 0:
        client.close()
        return _become(**request)
    client.sendall(f"{pid}\n".encode())
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    client.sendall(f"{code}\n".encode())
    os._exit(0)


def _become(command: list[str], environment: dict[str, str], here: str, out: str, err: str) -> None:
    os.chdir(here)
    for path, stream in ((out, 1), (err, 2)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(file, stream)
        os.close(file)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    sys.argv = command
    sys.path[0] = str(Path(command[0]).parent)
    runpy.run_path(command[0], run_name="__main__")


if __name__ == "__main__":
    serve(sys.argv[1])
