"""One history: servers, workers, an admin and the faults, by a plan."""

from __future__ import annotations

import contextlib
import functools
import itertools
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pijobs.errors import (
    InstanceNotFound,
    KeyConflict,
    PijobsError,
    QueueUnavailable,
    StateConflict,
    StorageError,
)
from pijobs.factory import OWN_CLASS, HueyQueue, Installation, Parts, configure
from pijobs.observe.readiness import readiness
from pijobs.plugins.registry import Registry
from pijobs.request.queue import Queue
from pijobs.storage.contract import Record
from pijobs.testing.simulation import staging, stand_ins
from pijobs.testing.simulation.books import Books
from pijobs.testing.simulation.entries import Broken, Entry
from pijobs.testing.simulation.places import Place
from pijobs.testing.simulation.plan import LEASE, PEACE, TROUBLE, Act, Call, Fault, Plan
from pijobs.testing.simulation.world import Host, Process, World
from pijobs.worker import main as worker_main
from pijobs.worker.engine import Engine
from pijobs.worker.periodic import Periodic

#: Seconds that a killed process takes to come back.
RESTART = 0.4
#: Seconds within which the next worker of its host has given back what a killed one ran.
AT_ONCE = RESTART + 1.2


@dataclass
class Outcome:
    """How a history went."""

    seed: int
    broken: Broken | None
    story: list[tuple[float, str, str]]
    steps: int
    seconds: float
    entries: dict[int, Entry] = field(default_factory=dict)
    #: How each instance ended, by the number of its call.
    records: dict[int, Record] = field(default_factory=dict)
    #: Ids whose enqueue may have been done although its caller heard of none, or of another way.
    doubts: list[str] = field(default_factory=list)


@functools.cache
def _parts() -> Parts:
    settings = {
        "SECRET_KEY": "only for simulations",
        "PI_JOB_QUEUE_CLASS": OWN_CLASS,
        "PI_JOB_QUEUE_URL": "memory://",
        "PI_JOB_QUEUE_PLUGINS": ["pijobs.testing.simulation.jobs"],
        "PI_JOB_QUEUE_LEASE": LEASE,
    }
    return configure(settings, directory=Path(tempfile.gettempdir()))


def _queue(parts: Parts, storage: Any, spool: Any, fallback: tuple[str, ...], *, old: bool) -> HueyQueue:
    registry = parts.registry
    if old:
        registry = Registry({name: job for name, job in registry.items() if name != "sim.new"})
    queue = HueyQueue.__new__(HueyQueue)
    queue._huey = None
    options = {"PI_JOB_QUEUE_FALLBACK": fallback}
    queue.option = lambda name: options.get(f"PI_JOB_QUEUE_{name}", parts.settings[f"PI_JOB_QUEUE_{name}"])  # type: ignore[method-assign]
    Queue.__init__(queue, parts.settings, registry, parts.plugins, storage=storage, spool=spool)
    return queue


class History:
    """One run of a plan."""

    def __init__(
        self,
        plan: Plan,
        world: World,
        make_place: Callable[[World, str, Host], Place] = Place,
        parts: Parts | None = None,
    ) -> None:
        self.plan, self.world, self.parts = plan, world, parts or _parts()
        self.hosts = [Host(f"host {index}", ahead) for index, ahead in enumerate(plan.ahead or (0.0,) * plan.hosts)]
        self.clock = Host("storage")
        self.storage = make_place(world, "storage", self.clock)
        spools = [Place(world, f"spool {host.name[5:]}", host) for host in self.hosts] if plan.spool else []
        self.places = [self.storage, *spools]
        self.books = Books(world, self.places)
        world.books = self.books  # type: ignore[attr-defined]
        self.director = world.outside
        self.servers: dict[int, Process] = {}
        self.workers: dict[int, Process] = {}
        self.engines: dict[Process, Engine] = {}
        self.flags: dict[Process, stand_ins.Event] = {}
        self.restarts: dict[int, int] = {}
        self.at_peace = False
        self._more = itertools.count(1000)
        #: Calls, faults and acts that have not happened yet.
        self._parts_left = len(plan.calls) + len(plan.faults) + len(plan.acts)

    # -- processes -----------------------------------------------------------------------------------------------

    def queue(self, process: Process, *, old: bool = False) -> HueyQueue:
        spool = next((place for place in self.places[1:] if place.host is process.host), None)
        return _queue(
            self.parts, self.storage.open(process), spool and spool.open(process), self.plan.fallback, old=old
        )

    def start_server(self, index: int) -> None:
        process = self.servers[index] = self.world.process(f"server {index}", self.hosts[index % len(self.hosts)])
        calls = [call for call in self.plan.calls if call.server == index and call.number not in self.books.entries]
        self.world.start(process, lambda: self._serve(process, calls), "requests")

    def _serve(self, process: Process, calls: list[Call]) -> None:
        queue = self.queue(process)
        for call in calls:
            self.world.pause(call.at - self.world.now)
            self.world.start(process, functools.partial(self._request, queue, call), f"call {call.number}")

    def _request(self, queue: Queue, call: Call) -> None:
        self._parts_left -= 1
        entry = self.books.calls(call)
        try:
            handle = queue.enqueue(
                call.job,
                kwargs=call.arguments,
                delay=call.delay,
                expires=call.expires,
                priority=call.priority,
                key=call.key,
            )
        except QueueUnavailable:
            entry.refused = True
            self.world.tell(f"call {call.number} is refused")
        except KeyConflict:
            entry.refused = True
        else:
            self.books.returns(entry, handle)

    def start_worker(self, index: int) -> None:
        process = self.workers[index] = self.world.process(f"worker {index}", self.hosts[index % len(self.hosts)])
        self.flags[process] = stand_ins.Event()
        self.world.start(process, lambda: self._work(process, index), "main")

    def _work(self, process: Process, index: int) -> None:
        old = self.plan.old_worker and index == 0 and not self.at_peace
        queue = self.queue(process, old=old)
        app: Any = SimpleNamespace(app_context=contextlib.nullcontext)
        parts = self.parts
        installation = Installation(parts.settings, parts.plugins, queue.registry, queue)
        slots = self.plan.workers[index]
        engine = worker_main.make_engine(installation, app, worker_main.WorkerOptions(workers=slots))
        engine.stop_flag = flag = self.flags[process]
        self.engines[process] = engine
        tasks = [self.world.start(process, functools.partial(self._slot, engine, flag), "slot") for _ in range(slots)]
        periodic, stuck = Periodic(queue), 0
        while not flag.is_set():
            with contextlib.suppress(StorageError):
                periodic.enqueue_due()
            for task in list(tasks):
                slot = task.local.get(-1, {}).get("slot")
                if slot is not None and (slot.is_stuck or task.ended) and stuck < 20:
                    tasks.remove(task)
                    stuck += 1
                    tasks.append(self.world.start(process, functools.partial(self._slot, engine, flag), "slot"))
            flag.wait(1.0)
        end = self.world.now + 5.0
        while any(not task.ended for task in tasks) and self.world.now < end:
            self.world.pause(0.05)
        self.books.cut(process)  # what it could not hand in, may run again
        engine.close()
        process.alive, process.died = False, self.world.now

    def _slot(self, engine: Engine, flag: stand_ins.Event) -> None:
        slot = engine.enter(None)
        assert self.world.current is not None
        self.world.current.local[-1] = {"slot": slot}
        while not flag.is_set() and not slot.is_stuck:
            task = engine.dequeue()
            if task is not None:
                engine.execute(task)
        engine.leave()

    # -- faults and the admin ------------------------------------------------------------------------------------

    def _befall(self, fault: Fault) -> None:
        self.world.pause(fault.at - self.world.now)
        self.world.tell(str(fault))
        self.books.troubles += 1
        self._happen(fault)
        if fault.what in ("freeze", "stop"):
            self.world.pause(max(fault.seconds, RESTART))
        self.books.troubles -= 1
        self.books.last_trouble = self.world.now
        self._parts_left -= 1

    def _happen(self, fault: Fault) -> None:
        kind, _, number = fault.whom.partition(" ")
        if kind in ("worker", "server"):
            self._befall_process(fault, kind, int(number))
            return
        place = self.storage if kind == "storage" else next((p for p in self.places if p.name == fault.whom), None)
        if place is not None:
            self._befall_place(fault, place)

    def _befall_process(self, fault: Fault, kind: str, index: int) -> None:
        process = (self.workers if kind == "worker" else self.servers)[index]
        if fault.what == "cut off":
            self.storage.cut_off.add(process)
            self.books.cut(process)
            self.world.pause(fault.seconds)
            self.storage.cut_off.discard(process)
        elif fault.what == "freeze":
            process.frozen_until = max(process.frozen_until, self.world.now + fault.seconds)
            self.books.cut(process, None if fault.seconds > LEASE * 0.7 else fault.seconds)
        elif fault.what == "stop":
            self.flags[process].set()
            self._later(7.0, lambda: self._come_back(kind, index, process))
        else:
            for one in list(self.workers.values()) if fault.what == "kill all" else [process]:
                self._kill(one)

    def _kill(self, process: Process) -> None:
        if process.alive:
            self.world.kill(process)
            self.books.cut(process)
            self._later(AT_ONCE, lambda: self._judge_recovery_at_once(process))

    def _judge_recovery_at_once(self, process: Process) -> None:
        """By its host, long before its lease is over; if nothing else went wrong meanwhile."""
        if self.books._is_quiet(AT_ONCE - 0.01) and process.name.startswith("worker"):
            self.books.judge_recovery(AT_ONCE - 0.01)

    def _later(self, seconds: float, function: Callable[[], object]) -> None:
        def wait() -> None:
            self.world.pause(seconds)
            function()

        self.world.start(self.director, wait, "later")

    def _come_back(self, kind: str, index: int, process: Process) -> None:
        if kind == "worker" and self.workers[index] is process:
            process.alive, process.died = False, self.world.now
            self.start_worker(index)

    def _watch(self) -> None:
        """The service manager: what was killed comes back."""
        while True:
            self.world.pause(RESTART)
            for index, process in list(self.workers.items()):
                if not process.alive:
                    self.world.tell("starts again", process.name)
                    self.start_worker(index)
            for index, process in list(self.servers.items()):
                if not process.alive:
                    self.start_server(index)

    def _befall_place(self, fault: Fault, place: Place) -> None:
        if fault.what in ("clock of the storage", "clock of a host"):
            host = place.host if fault.what.endswith("storage") else self.hosts[0]
            self.books.clocks_were_set = True
            host.ahead += fault.amount
        elif fault.what == "emptied":
            place.empty()
        elif fault.what == "restored":
            place.remember()
            self.world.pause(fault.seconds)
            self.world.tell("the storage goes back to what it was then")
            place.go_back()
        elif fault.what == "damaged":
            spoilt = place.damage()
            self.books.damaged |= {spoilt} if spoilt is not None else set()
        else:
            place.troubles.append(fault.what)
            self.world.pause(fault.seconds)
            place.troubles.remove(fault.what)

    def _admin(self, acts: tuple[Act, ...]) -> None:
        process = self.world.process("admin", self.hosts[0])

        def act() -> None:
            queue = self.queue(process)
            for one in acts:
                self.world.pause(one.at - self.world.now)
                with contextlib.suppress(PijobsError):
                    self._act(queue, one)
                self._parts_left -= 1

        self.world.start(process, act, "admin")

    def _act(self, queue: Queue, act: Act) -> None:
        assert queue.storage is not None
        if act.what.startswith("pause"):
            group = f"at {act.place}" if act.place else None
            self.world.tell(f"pauses {group or 'the queue'}")
            queue.storage.pause(group)
            self.world.pause(2.0)
            queue.storage.resume(group)
            return
        entry = self.books.entries.get(act.number)
        if entry is None or entry.id is None:
            return
        self.world.tell(f"{act.what} {entry}")
        # Asked for may be done, also if no answer comes.
        entry.cancelled |= act.what == "cancel"
        entry.retried += act.what == "retry"
        before, entry.removed = entry.removed, entry.removed or act.what == "remove"
        try:
            getattr(queue, act.what)(entry.id)
        except (InstanceNotFound, StateConflict):
            entry.removed = before
            raise

    # -- from beginning to end -----------------------------------------------------------------------------------

    def happen(self) -> None:
        world, books = self.world, self.books
        for index in range(self.plan.servers):
            self.start_server(index)
        for index in range(len(self.plan.workers)):
            self.start_worker(index)
        for fault in self.plan.faults:
            world.start(self.director, functools.partial(self._befall, fault), str(fault))
        self._admin(self.plan.acts)
        world.start(self.director, self._watch, "service manager")
        while world.now < TROUBLE and not self._nothing_is_left() and not self._is_over():
            world.run(world.now + 0.5, self._is_over)
        if not self._is_over():
            self._make_peace()
            # What was planned by a clock that was wrong waits for its time.
            limit = world.now + PEACE + sum(abs(fault.amount) for fault in self.plan.faults)
            peace = world.now
            while world.now < limit and (books.unfinished() or self._parts_left) and not self._is_over():
                world.run(world.now + 1.0, self._is_over)
                if world.now - peace > 3 * LEASE + 1:
                    books.judge_recovery(3 * LEASE + 1)
                if round(world.now - limit) % 8 == 0:
                    self._go_on_serving()
            # What was taken for done is heard of; sessions of the dead go.
            world.run(world.now + 2 * LEASE + 0.5, self._is_over)
        for task, error in world.errors:
            books.breaks("raised", f"{task.process.name}, {task.name}: {type(error).__name__}: {error}")
        if books.broken is None:
            books.judge_all()
            self._judge_lights()

    def _go_on_serving(self) -> None:
        """An enqueue of each server: without a worker on its host, it is what empties the spool."""
        for index, process in self.servers.items():
            queue = self.queue(process)
            if "sim.job" in queue.registry:
                call = Call(self.world.now, index, next(self._more), "sim.job")
                self._parts_left += 1
                self.world.start(process, functools.partial(self._request, queue, call), "one more")
            elif (mover := queue._mover) is not None:
                self.world.start(process, mover.after_enqueue, "after an enqueue")

    def _nothing_is_left(self) -> bool:
        return not self._parts_left and not self.books.unfinished()

    def _is_over(self) -> bool:
        return self.books.broken is not None or bool(self.world.errors)

    def _make_peace(self) -> None:
        self.at_peace = True
        self.world.tell("from now on nothing goes wrong any more")
        for place in self.places:
            place.truth.resume()
            for group in ("at here", "at there"):
                place.truth.resume(group)
        if self.plan.old_worker:
            self.flags[self.workers[0]].set()

    def _judge_lights(self) -> None:
        process = self.world.process("server of the lights", self.hosts[0])
        found: list[tuple[str, Any]] = []
        self.world.start(process, lambda: found.extend(readiness(self.queue(process))), "readiness")
        self.world.run(self.world.now + 3.0)
        for error in self.world.errors:
            self.books.breaks("raised", f"readiness: {error[1]!r}")
        told = {"loss", "storage_loss", "clock", "dead_letters", "groups", "breakers"}
        for name, check in found:
            if not check.ok and name not in told:
                self.books.breaks("lights", f"{name} is red at the end: {check.message}")


def play(
    plan: Plan,
    *,
    telling: bool = False,
    make_place: Callable[[World, str, Host], Place] = Place,
    parts: Parts | None = None,
) -> Outcome:
    """Let a plan happen, and judge it."""
    world = World(plan.seed, telling=telling)
    with stand_ins.in_world(world), staging.logs(world, telling), staging.described(world):
        history = History(plan, world, make_place, parts)
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
