"""For plugin authors: a job of theirs under many bad worlds."""

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

#: Of all worlds that were played in this process.
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Instance:
    """What became of one call."""

    #: None: the call was refused, since nothing took it.
    id: str | None
    name: str
    #: How it ended; ``unknown`` for a call whose server was killed before it heard.
    state: str
    reason: str | None
    #: How often its effect may be there (promise 1): once, and once more for each time that its process was killed or
    #: frozen while it ran, or that the answer to its enqueue got lost. Further attempts of the job come on top.
    may_have_run: int
    #: Whether the answer to its enqueue got lost, so that it may run by a fallback, and from the storage.
    in_doubt: bool = False


class BadWorld:
    """One history: servers, workers and storages, in which things go wrong."""

    def __init__(self, seed: int, parts: Parts, *, telling: bool = False) -> None:
        # What an installation keeps in memory, or in its database under the queue's name, no world has from another.
        settings = copy.copy(parts.settings)
        settings._resources = {}
        settings._values = {**settings._values, "PI_JOB_QUEUE_NAME": f"world-{next(_numbers)}"}
        self.seed, self._parts, self._telling = seed, replace(parts, settings=settings), telling
        self._calls: list[Call] = []
        self._plan = plans.make(seed)
        self.outcome: Outcome | None = None

    def call(self, name: str, kwargs: Mapping[str, Any] | None = None, *, at: float = 1.0, **options: Any) -> None:
        """Let a server enqueue this.

        :param at: seconds after the world begins; faults come within the first twelve.
        :param options: ``delay``, ``expires``, ``priority``, ``key`` of the enqueue.
        """
        number = len(self._calls) + 1
        server = number % self._plan.servers
        self._calls.append(Call(at, server, number, name, how="plugin", kwargs=dict(kwargs or {}), **options))

    def run(self) -> list[Instance]:
        """Let it all happen, until nothing goes wrong any more and all has ended.

        :returns: the calls in their order.
        :raises AssertionError: when a promise of the queue is broken.
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
        """Who did what, and when."""
        return "" if self.outcome is None else "\n".join(story(self._plan, self.outcome))


@contextmanager
def _interleaved() -> Iterator[None]:
    """Before and after a job's function, others go on."""
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
    """Plays a test under many worlds; see the fixture ``bad_worlds``."""

    def __init__(self, settings: Mapping[str, Any], directory: Path) -> None:
        first = {"SECRET_KEY": "only for tests", "PI_JOB_QUEUE_CLASS": OWN_CLASS, "PI_JOB_QUEUE_URL": "memory://"}
        self._parts = configure({**first, **settings, "PI_JOB_QUEUE_LEASE": LEASE}, directory=directory)
        self._parts.plugins.refuse_failed()

    @property
    def settings(self) -> Settings:
        """Of the installation, for what a test has to set up beforehand."""
        return self._parts.settings

    def __call__(self, test: Callable[[BadWorld], object], *, worlds: int = 100, seed: int | None = None) -> None:
        """Call ``test`` for each of so many worlds.

        :param seed: play this one only, as a failure names it.
        :raises AssertionError: with the seed and the story of the first world in which the test fails.
        """
        for one in range(1, worlds + 1) if seed is None else [seed]:
            try:
                test(BadWorld(one, self._parts))
            except Exception as error:
                told = BadWorld(one, self._parts, telling=True)
                try:
                    test(told)
                except Exception:
                    raise AssertionError(f"in the world of seed={one}: {error}\n\n{told.story()}") from error
                raise AssertionError(
                    f"in the world of seed={one}: {error}\n\nIt does not fail again: the test, or its job, keeps "
                    "something between two worlds, or depends on chance or on the time of the host"
                ) from error
