"""Runs a plugin author's job in many simulated worlds with faults."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from pijobs.base import functions
from pijobs.factory import OWN_CLASS, Parts, configure
from pijobs.settings import Settings
from pijobs.testing.simulation import plan as plans
from pijobs.testing.simulation.history import Outcome, play
from pijobs.testing.simulation.plan import LEASE, RARE, Call
from pijobs.testing.simulation.present import here as present
from pijobs.testing.simulation.story import story

#: Numbers the worlds of this process.
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Instance:
    """The result of one call."""

    #: None: the call was refused, since no storage or fallback took it.
    id: str | None
    name: str
    #: Its last state; ``unknown`` if the server was killed before the call returned.
    state: str
    reason: str | None
    #: The most effects that promise 1 allows: one, and one more for each time that its process was killed or frozen
    #: while it ran, or that the answer to its enqueue was lost. The job's own retries are not counted.
    may_have_run: int
    #: Whether the answer to its enqueue was lost: then it may run by a fallback, and from the storage, too.
    in_doubt: bool = False


class BadWorld:
    """One history: servers, workers and storages with faults."""

    def __init__(self, seed: int, parts: Parts, *, telling: bool = False) -> None:
        # No world may share resources in memory, or rows in a database under the queue's name, with another.
        settings = copy.copy(parts.settings)
        settings._resources = {}
        settings._values = {**settings._values, "PI_JOB_QUEUE_NAME": f"world-{next(_numbers)}"}
        self.seed, self._parts, self._telling = seed, replace(parts, settings=settings), telling
        self._calls: list[Call] = []
        self._plan = plans.make(seed)
        self.outcome: Outcome | None = None

    def call(self, name: str, kwargs: Mapping[str, Any] | None = None, *, at: float = 1.0, **options: Any) -> None:
        """Have a server enqueue this job.

        :param at: seconds after the world's beginning; faults come in the first twelve seconds.
        :param options: ``delay``, ``expires``, ``priority``, ``key`` of the enqueue.
        """
        number = len(self._calls) + 1
        server = number % self._plan.servers
        self._calls.append(Call(at, server, number, name, how="plugin", kwargs=dict(kwargs or {}), **options))

    def run(self) -> list[Instance]:
        """Run the history, until the faults are over and all instances have ended.

        :returns: the results of the calls, in order.
        :raises AssertionError: if the queue breaks a promise.
        """
        calls = tuple(sorted(self._calls, key=lambda call: call.at))
        faults = tuple(fault for fault in self._plan.faults if fault.what not in RARE)
        self._plan = replace(self._plan, calls=calls, faults=faults, acts=(), old_release=False)
        with _interleaved():
            self.outcome = play(self._plan, telling=self._telling, parts=self._parts)
        if self.outcome.broken is not None:
            raise self.outcome.broken
        return [self._instance(call.number) for call in self._calls]

    def _instance(self, number: int) -> Instance:
        assert self.outcome is not None
        entry, record = self.outcome.entries[number], self.outcome.records.get(number)
        state, reason = (entry.state or "unknown", None) if record is None else (record.state.value, record.reason)
        if entry.refused:
            state, reason = "refused", "nothing took it"
        doubts = self.outcome.doubts.count(entry.id or "")
        return Instance(entry.id, entry.call.job, state, reason, 1 + len(entry.cuts) + doubts, doubts > 0)

    def story(self) -> str:
        """The events of the history as text, in order of time."""
        return "" if self.outcome is None else "\n".join(story(self._plan, self.outcome))


@contextmanager
def _interleaved() -> Iterator[None]:
    """Let other tasks run before and after each job's function."""
    run = functions.run

    def slowly(*args: Any, **options: Any) -> Any:
        here = present()
        here.pause(here.random.random() * 0.5)
        value = run(*args, **options)
        here.pause(here.random.random() * 0.01)
        return value

    with patch.object(functions, "run", slowly):
        yield


class BadWorlds:
    """Runs a test in many worlds; see the fixture ``bad_worlds``."""

    def __init__(self, settings: Mapping[str, Any], directory: Path) -> None:
        first = {"SECRET_KEY": "only for tests", "PI_JOB_QUEUE_CLASS": OWN_CLASS, "PI_JOB_QUEUE_URL": "memory://"}
        self._parts = configure({**first, **settings, "PI_JOB_QUEUE_LEASE": LEASE}, directory=directory)
        self._parts.plugins.refuse_failed()

    @property
    def settings(self) -> Settings:
        """The settings of the installation, for a test's setup."""
        return self._parts.settings

    def __call__(self, test: Callable[[BadWorld], object], *, worlds: int = 100, seed: int | None = None) -> None:
        """Call ``test`` for each world.

        :param seed: run only this world; failures name the seed.
        :raises AssertionError: with the seed and the story of the first world in which the test fails.
        """
        for one in range(1, worlds + 1) if seed is None else [seed]:
            try:
                test(BadWorld(one, self._parts))
            except Exception as error:
                replay = BadWorld(one, self._parts, telling=True)
                try:
                    test(replay)
                except Exception:
                    raise AssertionError(f"in the world of seed={one}: {error}\n\n{replay.story()}") from error
                raise AssertionError(
                    f"in the world of seed={one}: {error}\n\nThe failure did not repeat: the test or its job shares "
                    "state between worlds, or depends on chance or on the host's clock"
                ) from error
