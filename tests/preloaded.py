"""Starts programs of Python as forks of a process that has imported what they need of others.

These imports are most of what a start costs: half a second of a processor for a command of pijobs, two for one of
privacyIDEA. Nothing of pijobs is imported before the fork. A program runs as its own script or module: by its
arguments and its environment.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

#: What is imported before the fork. Not all are in each environment.
PIJOBS = (
    "argon2", "click", "cryptography.fernet", "cryptography.hazmat.primitives.ciphers.aead",
    "cryptography.hazmat.primitives.kdf.hkdf", "email.policy", "flask", "hiredis", "httpx", "huey.consumer",
    "importlib.resources.readers", "logging.config", "msgspec", "phonenumbers", "pluggy", "prometheus_client",
    "psycopg", "pymysql", "redis.asyncio", "rich.console", "rich.table", "sqlalchemy",
    "sqlalchemy.dialects.mysql.pymysql", "sqlalchemy.dialects.postgresql.psycopg", "sqlalchemy.dialects.sqlite",
    "werkzeug.middleware.proxy_fix", "werkzeug.serving",
)  # fmt: skip
PRIVACYIDEA = ("privacyidea.app", "privacyidea.cli.pimanage", "cryptography.x509")
#: What the interpreter, the C library and the linker read before any module.
EARLY = ("PYTHON", "LC_", "LANG", "LD_")
START_TIMEOUT = 120.0
#: Processor seconds of the programs that this process started and that ended, with their children.
used = 0.0


class Started:
    """A process that was forked elsewhere, with what is used of :class:`subprocess.Popen`."""

    def __init__(self, place: Path, request: Mapping[str, Any]) -> None:
        self.args = request["command"]
        self._keeper = socket.socket(socket.AF_UNIX)
        self._keeper.connect(str(place))
        self._keeper.sendall(json.dumps(request).encode() + b"\n")
        self._told = b""
        self.pid = int(self._line(START_TIMEOUT))
        self.returncode: int | None = None

    def __del__(self) -> None:
        # A test that kills its process need not wait for it.
        self._keeper.close()

    def wait(self, timeout: float | None = None) -> int:
        """:raises subprocess.TimeoutExpired: when it runs yet."""
        global used
        if self.returncode is None:
            code, seconds = self._line(timeout).split()
            self.returncode = int(code)
            used += float(seconds)
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
            raise subprocess.TimeoutExpired(self.args, timeout or 0) from None
        line, _, self._told = self._told.partition(b"\n")
        return line


class Programs:
    """Starts programs by the process that has imported.

    :param place: its socket.
    """

    def __init__(self, place: Path) -> None:
        self._place = place

    def start(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        here: Path,
        log: Path,
        given: Path = Path(os.devnull),
    ) -> Started:
        """Start a program in a session of its own: the file of a script of Python or, after ``-m``, a module.

        :param given: its input.
        """
        return self._start(command, environment, here, given, log, log)

    def run(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        here: Path,
        timeout: float,
        input: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end, as :func:`subprocess.run` does."""
        with tempfile.TemporaryDirectory(prefix="pijobs-") as folder:
            given, out, err = (Path(folder, name) for name in ("in", "out", "err"))
            given.write_text(input or "")
            process = self._start(command, environment, here, given, out, err)
            try:
                code = process.wait(timeout)
            finally:
                process.kill()
            return subprocess.CompletedProcess([*command], code, out.read_text(), err.read_text())

    def _start(
        self, command: Sequence[str], environment: Mapping[str, str], here: Path, given: Path, out: Path, err: Path
    ) -> Started:
        files = {"given": str(given), "out": str(out), "err": str(err)}
        return Started(
            self._place, {"command": [*command], "environment": dict(environment), "here": str(here.resolve()), **files}
        )


def starts_alike(environment: Mapping[str, str]) -> bool:
    """Whether the process that has imported was started in the same way as one with this environment would be."""
    for name in environment.keys() | os.environ.keys():
        if name.startswith(EARLY) and name != "PYTHONPATH" and environment.get(name) != os.environ.get(name):
            return False
    return not any(Path(place, "sitecustomize.py").exists() for place in _python_path(environment))


def _python_path(environment: Mapping[str, str]) -> list[str]:
    return [place for place in environment.get("PYTHONPATH", "").split(os.pathsep) if place]


@contextmanager
def importing(folder: Path, modules: Sequence[str]) -> Iterator[Path]:
    """Start the process that imports; its socket. It ends with this process at the latest.

    :param folder: for the socket; its path must be short.
    """
    place = folder / "programs"
    process = subprocess.Popen([sys.executable, __file__, str(place), *modules], stdin=subprocess.PIPE)
    try:
        end = time.monotonic() + START_TIMEOUT
        while not place.exists():
            assert process.poll() is None and time.monotonic() < end, "the process that starts programs does not start"
            time.sleep(0.02)
        yield place
    finally:
        process.kill()
        process.communicate()


# -- The process that has imported ------------------------------------------------------------------------------------


def serve(place: str, *modules: str) -> None:
    """Fork for each connection; a child returns to end as every program of Python does."""
    for module in modules:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    # A collection in a child, at its end at the latest, would copy each page that has an object on it: 0.3 s.
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{place}.new")
        server.listen(64)
        os.rename(f"{place}.new", place)
        while sys.stdin not in select.select([server, sys.stdin], [], [])[0]:
            client, _ = server.accept()
            if os.fork() == 0:
                server.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                return _keep(client)
            client.close()


def _keep(client: socket.socket) -> None:
    """Tell the process id of the program, and then its exit code and its seconds of the processor."""
    request = json.loads(client.makefile("rb").readline())
    leads, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        client.close()
        os.close(leads)
        os.setsid()
        os.close(told)
        return _become(**request)
    os.close(told)
    os.read(leads, 1)  # until it leads a session
    client.sendall(f"{pid}\n".encode())
    _, status, usage = os.wait4(pid, 0)
    with contextlib.suppress(BrokenPipeError):
        client.sendall(f"{os.waitstatus_to_exitcode(status)} {usage.ru_utime + usage.ru_stime}\n".encode())
    os._exit(0)


def _become(command: list[str], environment: dict[str, str], here: str, given: str, out: str, err: str) -> None:
    os.chdir(here)
    for path, stream, mode in ((given, 0, os.O_RDONLY), (out, 1, os.O_WRONLY), (err, 2, os.O_WRONLY)):
        file = os.open(path, mode | (os.O_APPEND | os.O_CREAT if mode else 0), 0o600)
        os.dup2(file, stream)
        os.close(file)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    places = _python_path(environment)
    sys.path[1:1] = places
    sys.orig_argv = [sys.executable, *command]  # a program that starts itself again must not become another of us
    if command[0] == "-m":
        sys.argv, sys.path[0] = command[1:], here
        runpy.run_module(command[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[0] = command, str(Path(command[0]).parent)
        runpy.run_path(command[0], run_name="__main__")


if __name__ == "__main__":
    serve(*sys.argv[1:])
