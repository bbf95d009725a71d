"""No SQLite connection is open at a fork.

SQLite counts locks per process, as POSIX does, and keeps that count and the index of the write-ahead log in the memory
of the process (https://sqlite.org/howtocorrupt.html, section 2.6). A child inherits the count, but not the locks. If it
uses the file anyway, its parent counts itself as the last user, removes the log, and with it what the child stores
there. So all code that keeps or uses a connection to a file registers here. Before a fork the gate lets nobody begin,
waits until nobody uses a connection, and closes the idle ones; parent and child open new connections when they need
them. If somebody still uses one after :data:`PATIENCE`, the child refuses that file, because it can neither use nor
close what it inherited.
"""

from __future__ import annotations

import os
import weakref
from contextlib import suppress
from typing import Protocol

from pijobs.base import threads
from pijobs.errors import StorageUnavailable

#: Seconds that a fork waits for threads that use a file; a transaction takes some milliseconds.
PATIENCE = 5.0


class Keeper(Protocol):
    """An object that keeps idle connections to files."""

    def close_idle(self) -> None:
        """Close all idle connections."""


class FileBusy(StorageUnavailable):
    """the process is just being forked, and no SQLite file may be used meanwhile"""


class FileLost(StorageUnavailable):
    """a fork made the SQLite file unusable in this process"""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"this process was forked while its parent was using the SQLite file {path}, and can't use it safely; "
            "start it again, or fork before the queue is used"
        )


class _Use:
    """One use of one file, as a block. A class, because it runs for each mail, and a generator takes three times as
    long."""

    __slots__ = ("_gate", "_timeout", "path", "thread")

    def __init__(self, gate: Gate, path: str, timeout: float) -> None:
        self._gate, self.path, self._timeout, self.thread = gate, path, timeout, threads.get_ident()

    def __enter__(self) -> None:
        self._gate.enter(self, self._timeout)

    def __exit__(self, *_: object) -> None:
        self._gate.leave(self)


class Gate:
    """Keeps the forks of a process apart from its SQLite files."""

    def __init__(self) -> None:
        self._keepers: weakref.WeakSet[Keeper] = weakref.WeakSet()
        self._lost: frozenset[str] = frozenset()
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._made: dict[str, threads.Condition] = {}
        self._uses: set[_Use] = set()
        #: Number of forks in progress.
        self._forks = 0

    @property
    def _changed(self) -> threads.Condition:
        # Created at first use, because gevent may replace parts of threading after this module was imported.
        return self._made.get("changed") or self._made.setdefault("changed", threads.Condition())

    def keep(self, keeper: Keeper) -> None:
        """Close its idle connections at each fork. Only a weak reference is held."""
        with self._changed:
            self._keepers.add(keeper)

    def use(self, path: str, timeout: float) -> _Use:
        """Connections to a file may be used, opened and closed in this block only.

        :param timeout: seconds to wait for a fork.
        :raises FileBusy: when it takes longer.
        :raises FileLost: in a child that can't use the file.
        """
        return _Use(self, path, timeout)

    def leave(self, use: _Use) -> None:
        with self._changed:
            self._uses.discard(use)
            if self._forks:
                self._changed.notify_all()

    def enter(self, use: _Use, timeout: float) -> None:
        if self._pid != os.getpid():  # a fork in C, which calls no Python hook
            self._after_in_child()
        if use.path in self._lost:
            raise FileLost(use.path)
        with self._changed:
            # Those that use a connection must be able to finish.
            waits = self._forks and not any(other.thread == use.thread for other in self._uses)
            if waits and not self._changed.wait_for(lambda: not self._forks, timeout):
                raise FileBusy
            self._uses.add(use)

    def _before(self) -> None:
        me = threads.get_ident()
        with self._changed:
            self._forks += 1
            # This thread can't finish its own use before the fork.
            self._changed.wait_for(lambda: all(use.thread == me for use in self._uses), PATIENCE)
        self._close_idle()

    def _after_in_parent(self) -> None:
        with self._changed:
            self._forks -= 1
            self._changed.notify_all()

    def _after_in_child(self) -> None:
        self._lost |= {use.path for use in self._uses}
        self._begin()
        if not self._lost:
            # A connection is left only if nobody was told before the fork (uWSGI). The locks are the parent's, and
            # closing does not change them. If a thread that this child does not have may have been using SQLite,
            # nothing is closed.
            self._close_idle()

    def _close_idle(self) -> None:
        with self._changed:
            keepers = list(self._keepers)
        for keeper in keepers:
            with suppress(Exception):
                keeper.close_idle()


#: The gate of this process.
gate = Gate()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=gate._before, after_in_parent=gate._after_in_parent, after_in_child=gate._after_in_child)
