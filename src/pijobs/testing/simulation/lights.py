"""Whether readiness tells what goes wrong, while it does and when it is over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pijobs.observe.readiness import readiness
from pijobs.testing.simulation.books import Books
from pijobs.testing.simulation.cast import Cast
from pijobs.testing.simulation.plan import LEASE, Fault
from pijobs.testing.simulation.world import Host, World

#: By fault: the check that is red meanwhile, and seconds after which it must be.
RED: Mapping[str, tuple[str, float]] = {
    "refused": ("storage", 0.1),
    "silent": ("storage", 0.1),
    "read-only": ("storage", 0.1),
    "full": ("storage", 0.1),
    "power of all": ("worker", 31.0),
    "emptied": ("loss", 3.0),
}
#: Checks that may be red, or were told of, when all is over: what they tell of stays true.
TOLD = {"loss", "storage_loss", "clock", "dead_letters", "groups", "breakers"}
#: Where nothing goes wrong, and no spool is.
OBSERVER = Host("observer")
#: Seconds that readiness may take.
LONGEST = 3.0


class Lights:
    """Looks at readiness from a server of its own."""

    def __init__(self, cast: Cast, world: World, books: Books) -> None:
        self.cast, self.world, self.books = cast, world, books

    def _ask(self, host: Host, told: Callable[[dict[str, Any]], object]) -> None:
        """As a server that has just started: nothing that it remembers keeps a light green."""
        process = self.world.process("server of the lights", host)
        self.world.start(process, lambda: told(dict(readiness(self.cast.queue(process)))), "readiness")

    def look_during(self, fault: Fault) -> None:
        """While something is wrong with the storage, or all workers are gone, its check is red."""
        check, after = RED.get(fault.what, ("", 0.0))
        if not check or fault.whom.startswith("spool") or (fault.seconds and fault.seconds < after + LONGEST):
            return
        began, ends = self.world.now, self.world.now + (fault.seconds or float("inf"))
        # A loss is found by a worker that was there before and after it.
        witnesses = [one for one in self.cast.workers.values() if one.alive and self.books.is_quiet(LEASE)]

        def is_judged() -> bool:
            if check == "loss":
                alone = self.books.last_trouble <= began and not self.books.troubles
                return alone and any(one.alive for one in witnesses)
            return self.world.now < ends and not self.books.clocks_were_set

        def look() -> None:
            self.world.pause(after)
            if not self.world.over:
                self._ask(OBSERVER, judge)

        def judge(found: dict[str, Any]) -> None:
            if is_judged() and (check not in found or found[check].ok):
                told = found[check].message if check in found else "nothing"
                self.books.breaks("lights", f"{check} is not red while the fault '{fault}' lasts: {told}")

        self.world.start(self.world.outside, look, "a look at the lights")

    def judge_at_the_end(self, until: float) -> None:
        """All is green again, at the latest at that time."""
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
