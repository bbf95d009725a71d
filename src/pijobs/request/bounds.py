"""Limits on waiting instances: each job has a bound, so that no job can fill the whole storage.

Each process counts the waiting instances of a job now and then, and only after the storage has answered, so an enqueue
costs only a look at the clock. A process counts at once when it has stored as many as there was room for. So the number
can exceed the bound by what other processes store in between.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pijobs.base import clock
from pijobs.base.told import Told
from pijobs.errors import StorageUnavailable
from pijobs.storage.contract import Storage
from pijobs.storage.values import NewInstance

log = logging.getLogger(__name__)

#: What to do with a call at the bound: run it in the request, refuse it, or drop the least urgent instance. That is a
#: waiting one, or the call itself if it is less urgent than usual for its job. If neither is, it runs in the request.
ANSWERS = ("direct", "refuse", "drop")
#: Applies to all jobs without their own bound.
ALL = "*"
#: Seconds between two counts of a job: far from its bound, and close to it.
RARELY, OFTEN = 10.0, 1.0


@dataclass(frozen=True)
class Bound:
    """The bound of one job.

    :ivar waiting: how many instances may wait; None: any number.
    :ivar age: seconds for which the oldest due one may wait; None: any time.
    :ivar full: one of :data:`ANSWERS`.
    """

    waiting: int | None = None
    age: float | None = None
    full: str = "direct"

    @classmethod
    def of(cls, settings: Mapping[str, Mapping[str, Any]], name: str) -> Bound | None:
        """The bound of a job in ``PI_JOB_QUEUE_BOUNDS``."""
        found = settings.get(name, settings.get(ALL))
        return cls(**found) if found else None

    def reached(self, waiting: int, age: float) -> str | None:
        """A sentence about the bound that is reached, or None."""
        if self.waiting is not None and waiting >= self.waiting:
            return Told("{number} instances wait, which is its bound", number=self.waiting)
        if self.age is not None and age > self.age:
            return Told(
                "the oldest due instance waits for {age:.0f} s, more than its bound of {bound:g} s",
                age=age,
                bound=self.age,
            )
        return None


@dataclass
class _Look:
    again: float = 0.0
    reached: str | None = None
    #: How many more instances there was room for, minus those that this process has stored since.
    left: float = 0


@dataclass
class Bounds:
    """What one process knows about the waiting instances of each job in one storage."""

    storage: Storage
    settings: Mapping[str, Mapping[str, Any]]
    #: Seconds that a count may take.
    timeout: float
    _looks: dict[str, _Look] = field(default_factory=dict)

    def of(self, name: str) -> Bound:
        """The bound of a job, or an unlimited one."""
        return Bound.of(self.settings, name) or Bound()

    def reached(self, name: str) -> str | None:
        """Why no more instances of the job may wait, as far as this process knows. Counts only if it was so before.

        :raises StorageUnavailable: the storage does not answer.
        """
        look = self._looks.get(name)
        if look is None or look.reached is None:
            return None
        if clock.monotonic() >= look.again:
            self._look(name, look)
        return look.reached

    def made_room(self, new: NewInstance, reached: str) -> bool:
        """Whether a waiting, less urgent instance was dropped for this one.

        :param reached: the sentence about the bound.
        :raises StorageUnavailable: the storage does not answer.
        """
        reason = f"dropped for a more urgent one: {reached}"
        given_up = self.storage.make_room(new.name, priority=new.priority, reason=reason, timeout=self.timeout)
        if given_up is not None:
            log.info("job %s %s: -> cancelled (%s)", new.name, given_up, reason)
        return given_up is not None

    def room(self, name: str) -> float:
        """How many instances of the job may be stored at once, at least 1. May count first."""
        if (bound := Bound.of(self.settings, name)) is None or bound.waiting is None:
            return math.inf
        look = self._looks.setdefault(name, _Look())
        if look.left <= 0 and look.reached is None:
            try:
                self._look(name, look)
            except StorageUnavailable:  # the enqueue reports it
                return math.inf
        return max(1, look.left)

    def stored(self, name: str, number: int = 1) -> None:
        """The storage stored instances of the job. Count, if it is time to."""
        look = self._looks.setdefault(name, _Look())
        look.left -= number
        if look.left <= 0 or clock.monotonic() >= look.again:
            try:
                self._look(name, look)
            except StorageUnavailable as error:
                log.debug("job %s: its waiting instances could not be counted: %s", name, error)

    def _look(self, name: str, look: _Look) -> None:
        bound = Bound.of(self.settings, name)
        if bound is None:
            look.again = look.left = math.inf
            return
        look.again, look.left = clock.monotonic() + OFTEN, math.inf
        most = bound.waiting or 1
        waiting, oldest = self.storage.waiting(name, most=most, timeout=self.timeout)
        age = 0.0 if oldest is None else max(0.0, (self.storage.now() - oldest) / 1000)
        look.reached = bound.reached(waiting if bound.waiting else 0, age)
        if bound.waiting is not None and look.reached is None:
            look.left = bound.waiting - waiting
        near = waiting * 2 >= most or (bound.age is not None and age * 2 > bound.age)
        if look.reached is None and not near:
            look.again += RARELY - OFTEN
