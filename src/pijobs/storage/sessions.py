"""Worker processes as a storage knows them: plain values, as in :mod:`pijobs.storage.values`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import msgspec

from pijobs.storage.protocol import FIRST
from pijobs.storage.values import Ended

#: The most characters of a text that a worker reports, and the largest number (ms since the epoch).
MAX_FACT, MAX_MOMENT = 500, 10**14


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """What a worker process reports about itself."""

    id: str
    host: str
    pid: int
    started: int
    version: str
    worker_type: str = "thread"
    workers: int = 1
    #: Ids of the keys it can decrypt with.
    keys: tuple[str, ...] = ()
    #: Names of the jobs it knows.
    jobs: tuple[str, ...] = ()
    #: The database of definitions that it reads, see :class:`pijobs.definitions.records.Fingerprint`; "" without
    #: definitions, None if unknown.
    definitions: str | None = None
    #: By key id: when the newest instance that it read under another key than its newest was enqueued (ms).
    other_keys: Mapping[str, int] = field(default_factory=dict)
    #: Where its process id is valid, see :func:`pijobs.base.processes.place`; "" if unknown.
    place: str = ""
    #: When its process started, see :func:`pijobs.base.processes.start_time`.
    process_started: int = 0
    #: The newest protocol that it supports; by default that of 0.1.0, which does not report it.
    protocol: int = FIRST
    #: When somebody asked it to take no more jobs (ms); 0: nobody did. Other processes write this.
    quiet: int = 0
    #: 1 when it takes no more jobs and runs none.
    resting: int = 0
    #: Mean number of attempts that ran at the same time within about the last minute, times 1000; None: a release that
    #: does not report it.
    busy: int | None = None
    #: Mean time of an attempt (ms).
    took: int = 0
    #: The commit of its release, if known.
    commit: str = ""

    def dump(self) -> str:
        """The text that a storage keeps. Facts that 0.1.0 does not know are written like names of jobs, because it
        refuses sessions with unknown fields."""
        facts = asdict(self)
        more = {name: facts.pop(name) for name in (*facts,) if name not in _FACTS_OF_0_1_0}
        return json.dumps({**facts, "jobs": [*self.jobs, _MORE + json.dumps(more)]}, separators=(",", ":"))

    @classmethod
    def load(cls, text: str | bytes) -> SessionInfo:
        """Reads what :meth:`dump` wrote, also in another release: unknown facts are left out."""
        facts = json.loads(text)
        if not isinstance(facts["jobs"], list):
            raise TypeError("expected a list of jobs")
        names = [name for name in facts["jobs"] if not name.startswith(_MORE)]
        for name in facts["jobs"][len(names) :]:
            facts.update(json.loads(name[len(_MORE) :]))
        known = {field.name: facts[field.name] for field in fields(cls) if field.name in facts}
        return msgspec.convert({**known, "jobs": names}, cls)

    @classmethod
    def read(cls, text: str | bytes) -> SessionInfo | None:
        """The same; None for what can't be read, or no worker writes: whoever may write to the storage must not be able
        to break a page."""
        try:
            info = cls.load(text)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None
        return info if all(map(_is_told, asdict(info).values())) else None


def _is_told(fact: Any) -> bool:
    """Whether a fact has an allowed size."""
    if isinstance(fact, str):
        return len(fact) <= MAX_FACT
    if isinstance(fact, int):
        return abs(fact) <= MAX_MOMENT
    if isinstance(fact, dict):
        return all(map(_is_told, [*fact, *fact.values()]))
    return not isinstance(fact, tuple) or all(map(_is_told, fact))


_MORE = "@"
_FACTS_OF_0_1_0 = frozenset({"id", "host", "pid", "started", "version", "worker_type", "workers", "keys", "jobs"})


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A live session, as people see it."""

    info: SessionInfo
    #: Last sign of life.
    seen: int
    #: End of the lease if no further sign of life comes.
    until: int
    #: Ids of the instances it runs.
    running: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Beat:
    """Answer of :meth:`Storage.beat`."""

    #: False: the session counted as dead, and its instances went back to the queue. The worker must open a new one.
    alive: bool
    ended: list[Ended] = field(default_factory=list)
    #: The leases of this session in the storage: (id, token) of each.
    held: list[tuple[str, str]] = field(default_factory=list)
    #: The storage's time of this sign of life.
    now: int = 0
    #: The last sign of life before this one that the storage has: of this session, else of any. None: it has none.
    before: int | None = None
    #: Stays the same as long as the storage keeps its data; changes after it was emptied.
    epoch: int = 0
