"""Judges whether readiness reports each fault, and only while it lasts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pijobs.observe.checks import severity_of
from pijobs.observe.readiness import readiness
from pijobs.testing.simulation.books import Books
from pijobs.testing.simulation.cast import Cast
from pijobs.testing.simulation.plan import LEASE, PAUSE, Fault
from pijobs.testing.simulation.world import Host, Process, World

#: By fault: the check that must fail meanwhile, and the seconds until it must.
RED: Mapping[str, tuple[str, float]] = {
    "refused": ("storage", 0.1),
    "silent": ("storage", 0.1),
    "read-only": ("storage", 0.1),
    "full": ("storage", 0.1),
    "power of all": ("worker", 31.0),
    "emptied": ("loss", 3.0),
    "restored": ("loss", 3.0),
}
#: The same, for faults of a spool.
RED_OF_SPOOL: Mapping[str, tuple[str, float]] = {"refused": ("spool", 0.1)}
#: Checks that may fail at the end: their findings stay true.
TOLD = {"loss", "storage_loss", "clock", "dead_letters", "groups", "breakers"}
#: A host without faults or spool.
OBSERVER = Host("observer")
#: Most seconds that readiness may take.
LONGEST = 3.0


class Lights:
    """Asks for readiness from a server process of its own."""

    def __init__(self, cast: Cast, world: World, books: Books) -> None:
        self.cast, self.world, self.books = cast, world, books

    def _ask(self, host: Host, receive: Callable[[dict[str, Any]], object]) -> None:
        """Ask from a newly started server, which remembers nothing."""
        process = self.world.process("server of the lights", host)
        self.world.start(process, lambda: receive(dict(readiness(self.cast.queue(process)))), "readiness")

    def look_during(self, fault: Fault) -> None:
        """Judge that the check fails while the storage has a fault, or all workers are gone."""
        of_spool = fault.whom.startswith("spool")
        check, after = (RED_OF_SPOOL if of_spool else RED).get(fault.what, ("", 0.0))
        if not check or check == "loss" or fault.seconds < after + LONGEST:
            return
        ends = self.world.now + fault.seconds
        host = self.cast.hosts[int(fault.whom.split()[1])] if of_spool else OBSERVER
        self._look(host, check, after, f"the fault '{fault}' lasts", lambda: self.world.now < ends)

    def look_after_loss(self, fault: Fault, witnesses: Iterable[Process]) -> None:
        """Judge that a worker that was there before and after a loss reports it.

        :param witnesses: workers whose last heartbeat is lost.
        """
        books, began = self.books, self.world.now
        was_calm = books.troubles == 1 and began - books.last_trouble > LEASE
        able = [one for one in witnesses if one.alive and was_calm]

        def is_judged() -> bool:
            return books.last_trouble <= began and not books.troubles and any(one.alive for one in able)

        check, after = RED[fault.what]
        self._look(OBSERVER, check, after, f"everybody can tell of the fault '{fault}'", is_judged)

    def look_at_pause(self) -> None:
        """Judge that a pause is reported as a warning."""
        if self.world.seed % 2 and self.books.is_quiet(LEASE):
            began = self.world.now
            self._look(OBSERVER, "paused", 0.1, "something is paused", lambda: self.world.now < began + PAUSE)

    def _look(self, host: Host, check: str, after: float, meanwhile: str, is_judged: Callable[[], bool]) -> None:
        calm = self.books.is_quiet(LEASE)

        def look() -> None:
            self.world.pause(after)
            if not self.world.over:
                self._ask(host, judge)

        def judge(found: dict[str, Any]) -> None:
            disturbed = self.books.clocks_were_set or (check == "paused" and not (calm and self.books.is_quiet(0.2)))
            if not disturbed and is_judged() and (check not in found or severity_of(found[check]) is None):
                message = found[check].message if check in found else "nothing"
                self.books.breaks("lights", f"{check} is not red while {meanwhile}: {message}")

        self.world.start(self.world.outside, look, "a look at the lights")

    def judge_at_the_end(self, until: float) -> None:
        """Judge that no check fails any more at that time."""
        while (red := self._red()) and self.world.now < until:
            self.world.run(self.world.now + LEASE / 4)
        for name, message in red:
            self.books.breaks("lights", f"{name} is red at the end: {message}")

    def _red(self) -> list[tuple[str, str]]:
        answers: list[dict[str, Any]] = []
        self._ask(self.cast.hosts[0], answers.append)
        self.world.run(self.world.now + LONGEST, lambda: bool(answers or self.world.errors))
        for error in self.world.errors:
            self.books.breaks("raised", f"readiness: {error[1]!r}")
        if not answers:
            return [("readiness", f"it takes more than {LONGEST:g} s")]
        return [(name, check.message) for name, check in answers[0].items() if not check.ok and name not in TOLD]
