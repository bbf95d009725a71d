"""What was done, so that none of it is done again.

Whoever can write to the storage can put back an instance that was done; so does a backup that is restored. Each worker
process remembers the newest :data:`MOST` that the storage took as done, and tells them to the database of definitions,
which who writes to the storage can't reach: other processes, and those that start later, read them there
(:mod:`pijobs.definitions.done`). What is left open: what a process did and has not told yet, for other processes (it
tells once a second, when one of its threads looks for the next instance); what was done before so many others; what
ended in another way; a database that does not answer, or that was restored, too. Behind its deadline nothing runs: the
envelope tells that, and can't be changed.
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

#: Instances that a process remembers; about 100 bytes each.
MOST = 50_000
#: Seconds between two looks at what other processes did, and between two times that this one tells what it did.
EVERY = 1.0
#: Seconds; what was enqueued so lately was not done by another process before.
YOUNG = 1.5


def ledger_of(settings: Settings, queue: str) -> Ledger | None:
    """Where the processes of a queue tell each other; None where no plugin has definitions, and so no database."""
    if "pijobs.definitions.records" not in sys.modules:
        return None
    from pijobs.definitions.done import Ledger

    return Ledger.of(settings, queue)


def mark_of(instance_id: str) -> int:
    """64 bits that stand for an instance. Ids are authenticated, so nobody makes two that look alike."""
    return int.from_bytes(blake2b(instance_id.encode(errors="replace"), digest_size=8).digest(), "big")


class Done:
    """Marks of instances that are done.

    :param ledger: where processes tell each other; None: this one remembers for itself.
    :param most: the oldest go first.
    """

    def __init__(self, ledger: Ledger | None = None, most: int = MOST) -> None:
        self._ledger = ledger
        self._most = most
        self._lock = threads.Lock()
        # Apart: who asks does not wait until others have told.
        self._telling, self._asking = threads.Lock(), threads.Lock()
        self._known: OrderedDict[int, None] = OrderedDict()
        self._untold: list[int] = []
        self._told = self._asked = float("-inf")

    def add(self, instance_id: str) -> None:
        """Remember one that the storage took as done."""
        mark = mark_of(instance_id)
        self._remember([mark])
        if self._ledger is not None:
            self._untold.append(mark)

    def has(self, instance_id: str, age: float) -> bool:
        """Whether an instance is done, as far as this process knows or the database tells.

        :param age: seconds since it was enqueued.
        """
        mark = mark_of(instance_id)
        if mark not in self._known and age >= YOUNG:
            self._ask()
        return mark in self._known

    def tell(self, *, last: bool = False) -> None:
        """Now and then: tell the other processes. It costs a transaction a second at most.

        :param last: tell all, since the process ends.
        """
        if not self._untold or not self._telling.acquire(blocking=last):
            return
        try:
            while self._untold and self._ledger is not None and (last or clock.monotonic() - self._told >= EVERY):
                self._told = clock.monotonic()
                marks = self._untold[: self._ledger.most_in_row]
                if not self._ledger.append(marks):
                    # It is away, or not there yet: what it is told later has a bound, too.
                    del self._untold[: -self._most]
                    break
                del self._untold[: len(marks)]
        finally:
            self._telling.release()

    def _ask(self) -> None:
        if self._ledger is None:
            return
        # Who comes meanwhile waits for the answer.
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
