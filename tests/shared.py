"""A pytest plugin: what a run makes once, for all of its processes.

The process that the others belong to starts a server when one of them asks for it the first time, and ends all when the
run ends. It listens on a socket in a folder of its own, which ``PIJOBS_TEST_RUN`` names.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path

import pytest

RUN = "PIJOBS_TEST_RUN"
#: How to start a server, by its name; what the context gives is told to who asked.
Starters = dict[str, Callable[[], AbstractContextManager[str]]]


class _Host:
    """The servers of a run."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pijobs-run-"))
        self._listener = Listener(str(self.folder / "socket"), "AF_UNIX", backlog=64)
        self._locks: dict[str, threading.Lock] = defaultdict(threading.Lock)
        self._answers: dict[str, tuple[str, str]] = {}
        self._started = ExitStack()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: Connection[tuple[str, str], str]) -> None:
        with connection:
            name = connection.recv()
            with self._locks[name]:
                if name not in self._answers:
                    self._answers[name] = self._start(name)
            connection.send(self._answers[name])

    def _start(self, name: str) -> tuple[str, str]:
        from services import STARTERS

        try:
            return "there", self._started.enter_context(STARTERS[name]())
        except pytest.skip.Exception as skipped:
            return "skipped", str(skipped)
        except BaseException as error:  # pytest's failures are no Exceptions
            return "failed", str(error)

    def close(self) -> None:
        self._listener.close()
        self._started.close()
        shutil.rmtree(self.folder, ignore_errors=True)


_HOST = pytest.StashKey[_Host]()


def pytest_configure(config: pytest.Config) -> None:
    """Begin a run, unless this is a part of one."""
    if RUN not in os.environ:
        config.stash[_HOST] = _Host()
        os.environ[RUN] = str(config.stash[_HOST].folder)
        # The servers end with the run, also when somebody ends it.
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the servers of the run."""
    if _HOST in config.stash:
        config.stash[_HOST].close()
        del os.environ[RUN]


def server(name: str) -> str:
    """What the server of this name is reached by; it is started if nobody asked before. It may be missing."""
    with Client(str(Path(os.environ[RUN], "socket")), "AF_UNIX") as connection:
        connection.send(name)
        result, text = connection.recv()
    if result == "skipped":
        pytest.skip(text)
    if result == "failed":
        pytest.fail(text)
    return str(text)
