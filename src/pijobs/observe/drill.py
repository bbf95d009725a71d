"""The drill: sends test messages through the configured queue and its live workers to a destination of its own. It
shows that an installation works, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import itertools
import statistics
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from pijobs.base import clock
from pijobs.definitions import DefinitionStore
from pijobs.errors import PijobsError, StateConflict
from pijobs.jobs import READING_ORDER, State
from pijobs.observe.status import overview
from pijobs.request.queue import Handle, Queue
from pijobs.settings import Settings

_ENDED = (State.DONE, State.DEAD, State.EXPIRED, State.CANCELLED)
#: Seconds to wait, at the end, for attempts that still run.
_LAST_ATTEMPTS = 2.0


class Destination(ABC):
    """The destination of a drill, on a port of this machine.

    :ivar values: the fields of a definition that leads there.
    """

    values: Mapping[str, Any]

    @abstractmethod
    def wait_for(self, number: int, seconds: float) -> None:
        """:raises TimeoutError: when fewer arrive in that time."""

    @abstractmethod
    def arrived(self) -> Mapping[str, float]:
        """What arrived, by key: the first time, in seconds since the epoch."""


@dataclass(frozen=True)
class Exercise:
    """What a plugin's drill sends, and where.

    :param name: what ``pijobs drill`` is called with.
    :param things: what is sent, in plural; for people.
    :param open_store: the definitions of an installation.
    :param group: of the jobs that use a definition, with ``{}`` for its identifier.
    :param destination: makes one that listens at an address of this machine.
    :param send: ``send(queue, identifier, number, expires)`` sends the thing of a number by a definition, and gives its
        key and its handle.
    """

    name: str
    things: str
    open_store: Callable[[Settings], DefinitionStore]
    group: str
    destination: Callable[[str], AbstractContextManager[Destination]]
    send: Callable[[Queue, str, int, float], tuple[str, Handle]]


@dataclass(frozen=True)
class Plan:
    """What is tried.

    :param number: of things to send.
    :param rate: of them in a second.
    :param within: seconds; one that takes longer makes the drill fail.
    :param host: address of this machine that workers reach it by.
    """

    number: int = 50
    rate: float = 10.0
    within: float = 10.0
    host: str = "127.0.0.1"


@dataclass
class Verdict:
    """The result.

    :param seconds: from enqueue to accepted by the destination: ``p50``, ``p95``, ``p99``.
    :param faults: why the installation is not ok, in words.
    """

    things: str
    number: int
    accepted: int = 0
    workers: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.faults

    def as_json(self) -> dict[str, Any]:
        return {
            "ok": self.ok, self.things: self.number, "accepted": self.accepted, "workers": self.workers,
            "seconds": self.seconds, "faults": self.faults,
        }  # fmt: skip


class Drill:
    """One drill. Everything that it created is removed at the end of the ``with`` block.

    :ivar interrupted: to be set by a signal handler beside what it raises, since Python drops an exception that strikes
        in a destructor or in a callback of a weak reference.
    """

    def __init__(self, queue: Queue, exercise: Exercise, plan: Plan) -> None:
        self._queue = queue
        self._exercise = exercise
        self._plan = plan
        self._identifier = ""
        self._sent: dict[str, tuple[Handle, float]] = {}
        self._cleanup = contextlib.ExitStack()
        self.interrupted = False

    def __enter__(self) -> Drill:
        return self

    def __exit__(self, *error: object) -> None:
        self._cleanup.close()

    def run(self) -> Verdict:
        """
        :raises StorageUnavailable: when the storage does not answer.
        :raises DatabaseUnavailable: when that of the definitions does not.
        :raises KeyboardInterrupt: when it is interrupted.
        """
        verdict = Verdict(self._exercise.things, self._plan.number)
        storage = self._queue.storage
        if storage is None or self._queue.mode != "queued":
            verdict.faults.append(f"no queue is configured: all {verdict.things} are sent in the request")
            return verdict
        storage.ping()
        verdict.workers = sum(row["workers"] for row in overview(self._queue)["workers"])
        if not verdict.workers:
            verdict.faults.append("there is no live worker; start one with 'pijobs worker', with the same pi.cfg")
            return verdict
        destination = self._cleanup.enter_context(self._exercise.destination(self._plan.host))
        self._define(destination)
        self._send()
        self._judge(verdict, destination)
        return verdict

    @property
    def _group(self) -> str:
        return self._exercise.group.format(self._identifier)

    def _define(self, destination: Destination) -> None:
        store = self._exercise.open_store(self._queue.settings)
        # The first free name: a new name for each drill would leave new series in the metrics.
        taken = store.list()
        self._identifier = next(name for name in map("pijobs-drill-{}".format, itertools.count(1)) if name not in taken)
        self._cleanup.callback(self._forget_group)
        self._cleanup.callback(self._forget_instances)
        self._cleanup.callback(store.delete, self._identifier)
        values = {"enqueue_job": True, "description": "temporary, of 'pijobs drill'"}
        store.save(self._identifier, {**destination.values, **values})

    def _send(self) -> None:
        begin = clock.monotonic()
        for number in range(self._plan.number):
            clock.sleep(max(0.0, begin + number / self._plan.rate - clock.monotonic()))
            started = clock.time()
            key, handle = self._exercise.send(self._queue, self._identifier, number, self._plan.within)
            self._sent[key] = handle, started
            if self.interrupted:
                raise KeyboardInterrupt

    def _judge(self, verdict: Verdict, destination: Destination) -> None:
        plan, things = self._plan, self._exercise.things
        with contextlib.suppress(TimeoutError):
            destination.wait_for(plan.number, plan.within)
        arrived = destination.arrived()
        times = sorted(arrived[key] - started for key, (_, started) in self._sent.items() if key in arrived)
        verdict.accepted = len(times)
        if times:
            cuts = statistics.quantiles([*times, times[-1]], n=100, method="inclusive")
            verdict.seconds = {f"p{one}": round(max(0.0, cuts[one - 1]), 3) for one in (50, 95, 99)}
        aside = Counter(handle.via for handle, _ in self._sent.values() if handle.via != "storage")
        verdict.faults += [
            f"{number} {things} took the fallback {way}: the storage was slow" for way, number in aside.items()
        ]
        lost = [handle.id for key, (handle, _) in self._sent.items() if key not in arrived]
        if lost:
            verdict.faults.append(
                f"{len(lost)} of {plan.number} {things} did not arrive within {plan.within:g} s: "
                + "; ".join(f"{number} {why}" for why, number in Counter(map(self._why, lost)).most_common(3))
            )
        elif times and times[-1] > plan.within:
            verdict.faults.append(f"the slowest of the {things} took {times[-1]:.1f} s, more than {plan.within:g} s")

    def _why(self, instance_id: str) -> str:
        assert self._queue.storage is not None
        try:
            record = self._queue.storage.get(instance_id)
        except PijobsError as error:
            return str(error)
        waits = "waits for a worker that is free" if record.state is State.QUEUED else "no reason is known"
        return f"{record.state.value} ({record.reason or waits})"

    # -- the end -------------------------------------------------------------------------------------------------

    def _forget_instances(self) -> None:
        """Cancel what waits, give running attempts a moment to end, then remove the records."""
        until = clock.monotonic() + _LAST_ATTEMPTS
        with contextlib.suppress(PijobsError):
            while [one for one in self._instances() if not self._forget(one)]:
                if clock.monotonic() > until:
                    return
                clock.sleep(0.05)

    def _instances(self) -> Iterator[str]:
        """All instances of this drill, found by their group, because a signal may come before a handle is stored."""
        assert self._queue.storage is not None
        for state in READING_ORDER:
            cursor = None
            while True:
                page = self._queue.storage.page(state, group=self._group, cursor=cursor, limit=500)
                yield from [record.id for record in page.records]
                cursor = page.cursor
                if cursor is None:
                    break

    def _forget(self, instance_id: str) -> bool:
        assert self._queue.storage is not None
        try:
            if self._queue.storage.get(instance_id).state not in _ENDED:
                self._queue.cancel(instance_id, "the drill is over")
            self._queue.remove(instance_id)
        except StateConflict:  # it runs
            return False
        except PijobsError:  # it has gone, or the storage has
            return True
        return True

    def _forget_group(self) -> None:
        """The workers' housekeeping removes a group without state."""
        assert self._queue.storage is not None
        with contextlib.suppress(PijobsError):
            group = self._queue.storage.group(self._group)
            if group is not None:
                self._queue.storage.set_group(
                    group.name, version=group.version, limit=None, blocked_until=None, policy=""
                )
