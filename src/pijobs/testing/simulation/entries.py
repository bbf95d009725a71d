"""The calls of a history and their results."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from pijobs.errors import InstanceNotFound
from pijobs.storage.contract import Storage
from pijobs.storage.records import Record
from pijobs.testing.simulation.plan import Call
from pijobs.testing.simulation.world import Process, Task

#: Behaviours of jobs that end without an effect by the job's own fault.
GUILTY = ("fail", "unprintable", "kill", "hang", "interrupt")


class Broken(AssertionError):
    """A promise was broken."""

    def __init__(self, rule: str, text: str) -> None:
        super().__init__(f"{rule}: {text}")
        self.rule = rule


@dataclass
class Entry:
    """One call and its result."""

    call: Call
    began: float
    #: The calling process.
    process: Process | None = None
    returned: float | None = None
    id: str | None = None
    state: str | None = None
    via: str | None = None
    #: Whether the call was refused by an error.
    refused: bool = False
    #: The begin of each attempt; each effect's time, and the begin of its attempt.
    attempts: list[float] = field(default_factory=list)
    effects: list[tuple[float, float]] = field(default_factory=list)
    #: Begin and end of each run in the request.
    in_request: list[tuple[float, float]] = field(default_factory=list)
    #: For each time that its process was killed or frozen past its lease: whether the job ran alone.
    cuts: list[bool] = field(default_factory=list)
    retried: int = 0
    cancelled: bool = False
    removed: bool = False

    @property
    def cut_off(self) -> int:
        return len(self.cuts)

    @property
    def is_open(self) -> bool:
        """Whether the call can still return."""
        alive = self.process is not None and self.process.alive
        return alive and self.returned is None and not self.refused

    @property
    def lifetime(self) -> float | None:
        default = 3.0 if self.call.job == "sim.code" else None
        return default if self.call.expires is None else self.call.expires

    @property
    def acknowledged(self) -> bool:
        return self.id is not None and self.via in ("storage", "spool")

    def __str__(self) -> str:
        return str(self.call)


@dataclass(eq=False)
class Run:
    """A running attempt."""

    entry: Entry
    task: Task
    began: float
    group: str
    instance_id: str
    crashes: int


def record_of(storage: Storage, instance_id: str) -> Record | None:
    try:
        return storage.get(instance_id)
    except InstanceNotFound:
        return None


def crashes_of(record: Record) -> int:
    return sum(json.loads(line).get("event") == "crashed" for line in record.history)
