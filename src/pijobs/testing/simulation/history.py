"""Runs one history by its plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from pijobs.factory import Parts
from pijobs.storage import protocol
from pijobs.storage.records import Record
from pijobs.testing.simulation import staging, stand_ins
from pijobs.testing.simulation.admin import Admin
from pijobs.testing.simulation.books import Books
from pijobs.testing.simulation.cast import Cast, own_parts
from pijobs.testing.simulation.entries import Broken, Entry
from pijobs.testing.simulation.faults import Faults
from pijobs.testing.simulation.lights import Lights
from pijobs.testing.simulation.places import Place
from pijobs.testing.simulation.plan import LEASE, PEACE, TROUBLE, Plan
from pijobs.testing.simulation.world import Host, World

MakePlace = Callable[[World, str, Host], Place]
#: Seconds until another process takes over the jobs of a dead one, and until the rest settles at the end.
RECOVERY, SETTLING = 3 * LEASE + 1, 2 * LEASE + 0.5
#: Most task switches of a history. A busy one takes 5,000.
MOST_STEPS = 50_000


@dataclass
class Outcome:
    """The result of a history."""

    seed: int
    broken: Broken | None
    story: list[tuple[float, str, str]]
    steps: int
    seconds: float
    entries: dict[int, Entry] = field(default_factory=dict)
    #: The last record of each instance, by the number of its call.
    records: dict[int, Record] = field(default_factory=dict)
    #: Ids that may be enqueued although the caller received no answer, or used a fallback.
    doubts: list[str] = field(default_factory=list)


class History:
    """One run of a plan."""

    def __init__(self, plan: Plan, world: World, make_place: MakePlace, parts: Parts) -> None:
        self.plan, self.world = plan, world
        hosts = [Host(f"host {index}", ahead) for index, ahead in enumerate(plan.ahead or (0.0,) * plan.hosts)]
        spools = [Place(world, f"spool {host.name[5:]}", host) for host in hosts] if plan.spool else []
        self.places = [make_place(world, "storage", Host("storage")), *spools]
        world.one_pid = self.places[0].shares_connections
        for place in self.places:
            place.has_connections = plan.connections
            # A place with connections can only be called by a task.
            if place.waits_inside and not plan.old_release and plan.seed % 2:
                place.truth.set_protocol(protocol.NEWEST, oldest_reader=protocol.NEWEST)
        self.books = Books(world, self.places)
        world.books = self.books  # type: ignore[attr-defined]
        self.cast = Cast(plan, world, hosts, self.places, self.books, parts)
        self.lights = Lights(self.cast, world, self.books)
        self.faults = Faults(self.cast, self.books, world, self.lights)
        self.admin = Admin(self.cast, self.books, world, self.lights)

    def happen(self) -> None:
        world, books, cast = self.world, self.books, self.cast
        for index in range(self.plan.servers):
            cast.start_server(index)
        for index in range(len(self.plan.workers)):
            cast.start_worker(index)
        self.faults.begin()
        self.admin.begin()
        world.start(world.outside, cast.watch, "service manager")
        while world.now < TROUBLE and self._goes_on() and not self._is_over():
            world.run(world.now + 0.5, self._is_over)
        if not self._is_over():
            self._make_peace()
            self._go_on_in_peace()
            end = world.now + SETTLING
            self._settle(end)
        for task, error in world.errors:
            books.breaks("raised", f"{task.process.name}, {task.name}: {type(error).__name__}: {error}")
        if books.broken is None:
            books.judge_all()
            self.lights.judge_at_the_end(end)

    def _make_peace(self) -> None:
        self.world.tell("from now on nothing begins to go wrong any more")
        for place in self.places:
            place.truth.resume()
            for group in ("at here", "at there"):
                place.truth.resume(group)
        self.cast.upgrade()

    def _go_on_in_peace(self) -> None:
        """Go on without faults until all calls, acts and instances have ended."""
        world, books = self.world, self.books
        # Instances that were scheduled by a wrong clock wait longer, and some faults outlast TROUBLE.
        limit = world.now + PEACE + sum(abs(fault.amount) + fault.seconds for fault in self.plan.faults)
        peace = world.now
        while world.now < limit and self._goes_on() and not self._is_over():
            world.run(world.now + 1.0, self._is_over)
            if world.now - peace > RECOVERY and books.is_quiet(RECOVERY):
                books.judge_recovery(RECOVERY)
            if round(world.now - limit) % 8 == 0 and self._goes_on():
                self.cast.go_on_serving()

    def _settle(self, end: float) -> None:
        """Wait for the last acknowledgements and the end of dead sessions, and use the new protocol."""
        world = self.world
        for place in self.places:
            if self.plan.old_release and all(one.info.protocol == protocol.NEWEST for one in place.truth.sessions()):
                place.truth.set_protocol(protocol.NEWEST, oldest_reader=protocol.NEWEST)
        world.run(world.now + LEASE / 2, self._is_over)
        while world.now < end and (self.books.left_over() or self._goes_on()) and not self._is_over():
            world.run(min(end, world.now + LEASE / 2), self._is_over)

    def _goes_on(self) -> bool:
        return bool(self.cast.calls_left or self.faults.left or self.admin.left or self.books.unfinished())

    def _is_over(self) -> bool:
        if self.world.steps > MOST_STEPS:
            seconds = f"{self.world.now:.0f} s"
            self.books.breaks("busy", f"{MOST_STEPS} turns in {seconds}: something goes on without a pause")
        return self.books.broken is not None or bool(self.world.errors)


def play(plan: Plan, *, telling: bool = False, make_place: MakePlace = Place, parts: Parts | None = None) -> Outcome:
    """Run a plan, and judge the history."""
    world = World(plan.seed, telling=telling)
    with staging.described(world), stand_ins.in_world(world), staging.logs(world, telling):
        history = History(plan, world, make_place, parts or own_parts())
        try:
            history.happen()
            books = history.books
            known = {entry.call.number: books.found(entry) for entry in books.entries.values() if entry.id is not None}
            records = {number: found[1] for number, found in known.items() if found is not None}
        finally:
            world.end()
            for place in history.places:
                place.close()
    doubts = [instance_id for place in history.places for instance_id in place.doubts]
    return Outcome(plan.seed, books.broken, world.story, world.steps, world.now, books.entries, records, doubts)
