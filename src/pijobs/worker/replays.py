"""Remembers what was done, so that it is not done again.

Somebody who can write to the storage can put back a done instance. So can a restored backup. Each worker process
remembers the newest :data:`MOST` instances that the storage stored as done. It shares them through the database of
definitions (:mod:`pijobs.definitions.done`), which a writer of the storage can't reach. Other processes, and those that
start later, read them there. This does not cover: done instances that a process has not shared yet (it does once a
second, when one of its threads looks for the next instance); instances older than the newest ones; other outcomes; a
database that does not answer, or was restored, too. An instance past its deadline never runs, because the deadline is
in the envelope, which can't be changed.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Iterable
from hashlib import blake2b
from typing import TYPE_CHECKING

from pijobs.base import clock, threads

if TYPE_CHECKING:
    from pijobs.definitions.done import Ledger
    from pijobs.settings import Settings

#: How many instances a process remembers; about 100 bytes each.
MOST = 50_000
#: Seconds between reading the instances of other processes, and between storing those of this one.
EVERY = 1.0
#: Seconds since enqueue within which no other process can have done an instance.
YOUNG = 1.5


def ledger_of(settings: Settings, queue: str) -> Ledger | None:
    """The shared table of a queue's processes; None if no plugin has definitions, and so there is no database."""
    if "pijobs.definitions.records" not in sys.modules:
        return None
    from pijobs.definitions.done import Ledger

    return Ledger.of(settings, queue)


def mark_of(instance_id: str) -> int:
    """A 64-bit mark of an instance. Ids are authenticated, so nobody can create two with the same mark."""
    return int.from_bytes(blake2b(instance_id.encode(errors="replace"), digest_size=8).digest(), "big")


class Done:
    """Marks of instances that are done.

    :param ledger: the shared table; None: this process remembers only its own instances.
    :param most: how many to remember; the oldest are forgotten first.
    """

    def __init__(self, ledger: Ledger | None = None, most: int = MOST) -> None:
        self._ledger = ledger
        self._most = most
        self._lock = threads.Lock()
        # A separate lock: readers do not wait until others have stored.
        self._telling, self._asking = threads.Lock(), threads.Lock()
        self._known: OrderedDict[int, None] = OrderedDict()
        self._untold: list[int] = []
        self._told = self._asked = float("-inf")

    def add(self, instance_id: str) -> None:
        """Remember an instance that the storage stored as done."""
        mark = mark_of(instance_id)
        self._remember([mark])
        if self._ledger is not None:
            self._untold.append(mark)

    def has(self, instance_id: str, age: float) -> bool:
        """Whether an instance is done, as far as this process or the database knows.

        :param age: seconds since it was enqueued.
        """
        mark = mark_of(instance_id)
        if mark not in self._known and age >= YOUNG:
            self._ask()
        return mark in self._known

    def tell(self, *, last: bool = False) -> None:
        """Share new instances with the other processes, in one transaction a second at most.

        :param last: share all, because the process ends.
        """
        if not self._untold or not self._telling.acquire(blocking=last):
            return
        try:
            while self._untold and self._ledger is not None and (last or clock.monotonic() - self._told >= EVERY):
                self._told = clock.monotonic()
                marks = self._untold[: self._ledger.most_in_row]
                if not self._ledger.append(marks):
                    # The database is away or missing. What is stored later is limited, too.
                    del self._untold[: -self._most]
                    break
                del self._untold[: len(marks)]
        finally:
            self._telling.release()

    def _ask(self) -> None:
        if self._ledger is None:
            return
        # Other threads wait for the answer.
        with self._asking:
            if clock.monotonic() - self._asked >= EVERY:
                self._asked = clock.monotonic()
                self._remember(self._ledger.new(self._most))

    def _remember(self, marks: Iterable[int]) -> None:
        with self._lock:
            for mark in marks:
                self._known[mark] = None
            while len(self._known) > self._most:
                self._known.popitem(last=False)

    def __len__(self) -> int:
        return len(self._known)
