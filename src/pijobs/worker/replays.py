"""What this process did, so that it does none of it again.

Whoever can write to the storage can put back an instance that was done; so does a backup that is restored. Each worker
process remembers the newest :data:`MOST` that the storage took as done. What is left open: other processes, a process
that started meanwhile, what was done before so many others, and what ended in another way. Behind its deadline nothing
runs: the envelope tells that, and can't be changed.
"""

from __future__ import annotations

from collections import OrderedDict

from pijobs.base import threads

#: Ids that a process remembers; about 100 bytes each.
MOST = 50_000


class Done:
    """Ids of instances that are done.

    :param most: the oldest go first.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._lock = threads.Lock()
        # Python's hash of a text is keyed anew in each process: nobody makes two ids that look alike.
        self._known: OrderedDict[int, None] = OrderedDict()

    def add(self, instance_id: str) -> None:
        """Remember one that the storage took as done."""
        with self._lock:
            self._known[hash(instance_id)] = None
            if len(self._known) > self._most:
                self._known.popitem(last=False)

    def __contains__(self, instance_id: str) -> bool:
        return hash(instance_id) in self._known

    def __len__(self) -> int:
        return len(self._known)
