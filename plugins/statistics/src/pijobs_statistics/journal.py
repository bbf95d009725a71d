"""A journal in files. Lines survive the kill of their process, and the next process on this host hands them in.

Each process locks a file of its own; a file without a lock belongs to a dead process. The name of a file is the id of
its batch, so a batch that is handed in twice counts once.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pijobs.base import threads
from pijobs.base.files import create

log = logging.getLogger(__name__)

_SUFFIX = ".journal"
#: Lines kept in memory while the folder can't be written.
_MOST = 10_000

HandIn = Callable[[str, list[Any]], None]


class Journal:
    """The journal of one process. :param folder: made at first use, with mode 0700."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threads.Lock()
        self._file: tuple[Path, int] | None = None
        self._memory: list[Any] = []
        self._warned = False
        self.lines = 0

    def append(self, line: Sequence[Any]) -> None:
        """Append a line. Raises no error: if the file can't be written, the line stays in memory."""
        text = json.dumps(line).encode() + b"\n"
        with self._lock:
            try:
                if self._file is None:
                    self._file = self._open()
                os.write(self._file[1], text)
            except OSError as error:
                if not self._warned:
                    log.warning("%s can't be written, a killed worker loses what it counted: %s", self._folder, error)
                    self._warned = True
                self._memory = [*self._memory[1 - _MOST :], line]
            self.lines += 1

    def hand_in(self, take: HandIn) -> None:
        """Give all lines to ``take``, also those of dead processes, and delete them.

        :param take: called with the id of a batch and its lines; if it raises an error, the lines are kept.
        """
        with self._lock:
            mine, self._file = self._file, None
            memory, self._memory = self._memory, []
            self.lines = 0
        if memory:
            try:
                take(uuid.uuid4().hex, memory)
            except BaseException:
                with self._lock:
                    self._memory = [*memory, *self._memory]
                raise
        if mine is not None:
            self._give(*mine, take)
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")) if self._folder.is_dir() else ():
            if (descriptor := _lock(path)) is not None:
                self._give(path, descriptor, take)

    def _give(self, path: Path, descriptor: int, take: HandIn) -> None:
        try:
            lines = [_parsed(line) for line in path.read_bytes().splitlines()]
            known = [line for line in lines if line is not None]
            if known:
                take(path.stem, known)
            path.unlink()
        finally:
            os.close(descriptor)

    def _open(self) -> tuple[Path, int]:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        while True:
            path = self._folder / f"{uuid.uuid4().hex}{_SUFFIX}"
            create(path)
            # Another process may have locked the new file as that of a dead process.
            if (descriptor := _lock(path)) is not None:
                return path, descriptor


def _lock(path: Path) -> int | None:
    """Open and lock a file; None if another process holds it, or it does not exist any more."""
    descriptor = None
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.stat(path).st_ino == os.fstat(descriptor).st_ino:
            return descriptor
    except OSError:
        pass
    if descriptor is not None:
        os.close(descriptor)
    return None


def _parsed(line: bytes) -> Any:
    with suppress(ValueError):  # an incomplete line, from a full disk
        return json.loads(line)
    return None
