"""The processes of a history: servers, workers, and the service manager that restarts them."""

from __future__ import annotations

import contextlib
import copy
import functools
import itertools
import operator
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pijobs.errors import KeyConflict, QueueUnavailable, StorageError
from pijobs.factory import OWN_CLASS, HueyQueue, Installation, Parts, configure
from pijobs.payload.codec import Codec
from pijobs.payload.keys import KeyRing
from pijobs.plugins.registry import Registry
from pijobs.request.calls import JobCall
from pijobs.request.queue import Queue
from pijobs.storage import protocol
from pijobs.testing.simulation.books import Books
from pijobs.testing.simulation.places import Place
from pijobs.testing.simulation.plan import LEASE, Call, Plan
from pijobs.testing.simulation.tasks import Event
from pijobs.testing.simulation.world import Host, Process, World
from pijobs.worker import main as worker_main
from pijobs.worker.engine import Engine
from pijobs.worker.periodic import Periodic

#: Seconds until a killed process is restarted.
RESTART = 0.4
#: The protocol of the older release, and a job that it does not know.
OLD_PROTOCOL, NEW_JOB = protocol.NEWEST - 1, "sim.new"


@functools.cache
def own_parts() -> Parts:
    """The installation of the simulation's own jobs."""
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
        registry = Registry({name: job for name, job in registry.items() if name != NEW_JOB})
    queue = HueyQueue.__new__(HueyQueue)
    queue._huey = None
    settings = parts.settings.replaced({"PI_JOB_QUEUE_FALLBACK": fallback})
    # One codec for each process: the format that it writes depends on the process's release.
    codec = Codec(KeyRing.of(parts.settings), settings.name, lambda: int(storage.protocol))
    queue.codec = lambda: codec  # type: ignore[method-assign]
    Queue.__init__(queue, settings, registry, parts.plugins, storage=storage, spool=spool)
    return queue


class Cast:
    """The processes of a history.

    :param places: the storage, and then the spool of each host.
    """

    def __init__(self, plan: Plan, world: World, hosts: list[Host], places: list[Place], books: Books, parts: Parts):
        self.plan, self.world, self.hosts, self.places, self.books = plan, world, hosts, places, books
        self.parts = parts
        self.storage = places[0]
        self.servers: dict[int, Process] = {}
        self.workers: dict[int, Process] = {}
        self.flags: dict[Process, Event] = {}
        #: The queue of each server process. A forked child has a copy.
        self.queues: dict[Process, HueyQueue] = {}
        self.children: dict[int, list[Process]] = {}
        #: The kinds of processes (workers, servers) that are upgraded.
        self.upgraded: set[str] = set()
        #: Numbers of the calls that were made.
        self.made: set[int] = set()
        self._more = itertools.count(1000)

    def queue(self, process: Process, *, old: bool = False) -> HueyQueue:
        """Make the queue of a process."""
        process.protocol = OLD_PROTOCOL if old else protocol.NEWEST
        spool = next((place for place in self.places[1:] if place.host is process.host), None)
        storage = self.storage.open(process)
        return _queue(self.parts, storage, spool and spool.open(process), self.plan.fallback, old=old)

    @property
    def calls_left(self) -> int:
        """The number of calls still to make."""
        return sum(call.number not in self.made for call in self.plan.calls)

    def _is_old(self, kind: str, index: int) -> bool:
        return self.plan.old_release and index == 0 and kind not in self.upgraded

    # -- servers -------------------------------------------------------------------------------------------------

    def start_server(self, index: int) -> None:
        process = self.servers[index] = self.world.process(f"server {index}", self.hosts[index % len(self.hosts)])
        self.children[index] = []
        calls = [call for call in self.plan.calls if call.server == index and call.number not in self.made]
        self.world.start(process, lambda: self._serve(process, index, calls), "requests")

    def _serve(self, process: Process, index: int, calls: list[Call]) -> None:
        self.queues[process] = self.queue(process, old=self._is_old("servers", index))
        for request in self._requests(calls):
            call = request[0]
            self.world.pause(call.at - self.world.now)
            # After a fork, parent and children serve in turn.
            one = [process, *self.children[index]][call.number % (1 + len(self.children[index]))]
            act = functools.partial(self.request, self.queues[one], *request)
            self.world.start(one, act, f"call {call.number}")

    def _requests(self, calls: list[Call]) -> Iterator[list[Call]]:
        """The calls of each request. With ``plan.together``, alike calls in a row are one request, all or none."""
        kind = operator.attrgetter("job", "has_deadline") if self.plan.together else id
        return ([*alike] for _, alike in itertools.groupby(calls, kind))

    def request(self, queue: Queue, *calls: Call) -> None:
        """Make one call of a server, or several at once."""
        self.made.update(call.number for call in calls)
        if calls[0].job not in queue.registry:
            return
        entries = self.books.calls(*calls)
        try:
            handles = queue.enqueue_many(
                JobCall(
                    call.job, kwargs=call.arguments, delay=call.delay, expires=call.expires, priority=call.priority,
                    key=call.key,
                )
                for call in calls
            )  # fmt: skip
        except QueueUnavailable:
            self.books.refuses(entries)
        except KeyConflict:
            for entry in entries:
                entry.refused = True
        else:
            self.books.returns(entries, handles)

    def fork(self, index: int) -> None:
        """Fork a server: the child gets a copy of its parent's memory, and none of its threads."""
        parent = self.servers[index]
        if not parent.alive or parent not in self.queues or self.world.one_pid:
            return
        child = self.world.process(f"{parent.name} child", parent.host)
        child.protocol = parent.protocol
        shared = (
            self.parts.settings,
            self.queues[parent].settings,
            self.parts.plugins,
            self.parts.registry,
            self.world,
        )
        memo: dict[int, Any] = {id(one): one for one in (*shared, *self.places)}
        memo[id(parent)] = child
        if (gate := self.world.gates.get(parent.pid)) is not None:
            gate._before()
        for place in self.places:
            if number := place.connections_of(parent):
                self.books.breaks("fork", f"{parent.name} forks with {number} open connections to the {place.name}")
        self.queues[child] = copy.deepcopy(self.queues[parent], memo)
        if gate is not None:
            gate._after_in_parent()
        self.children[index].append(child)

    def go_on_serving(self) -> None:
        """Have each server enqueue: on a host without a worker, an enqueue empties the spool."""
        for index, process in self.servers.items():
            queue = self.queue(process)
            if "sim.job" in queue.registry:
                call = Call(self.world.now, index, next(self._more), "sim.job")
                self.world.start(process, functools.partial(self.request, queue, call), "one more")
            elif (mover := queue.enqueuer.mover) is not None:
                self.world.start(process, mover.after_enqueue, "after an enqueue")

    # -- workers -------------------------------------------------------------------------------------------------

    def start_worker(self, index: int) -> None:
        process = self.workers[index] = self.world.process(f"worker {index}", self.hosts[index % len(self.hosts)])
        self.flags[process] = Event()
        self.world.start(process, lambda: self._work(process, index), "main")

    def _engine(self, process: Process, index: int) -> tuple[Engine, HueyQueue]:
        queue = self.queue(process, old=self._is_old("workers", index))
        app: Any = SimpleNamespace(app_context=contextlib.nullcontext)
        installation = Installation(self.parts.settings, self.parts.plugins, queue.registry, queue)
        options = worker_main.WorkerOptions(workers=self.plan.workers[index])
        engine = worker_main.make_engine(installation, app, options)
        engine.stop_flag = self.flags[process]
        return engine, queue

    def _work(self, process: Process, index: int) -> None:
        """Run as huey's consumer does: slots, periodic jobs, replacements of stuck slots; and stop."""
        engine, queue = self._engine(process, index)
        flag = self.flags[process]
        start = functools.partial(self.world.start, process, functools.partial(self._slot, engine, flag), "slot")
        tasks = [start() for _ in range(self.plan.workers[index])]
        periodic, stuck = Periodic(queue), 0
        while not flag.is_set():
            with contextlib.suppress(StorageError):
                periodic.enqueue_due()
            for task in list(tasks):
                slot = task.local.get(-1, {}).get("slot")
                if slot is not None and (slot.is_stuck or task.ended) and stuck < 20:
                    tasks.remove(task)
                    stuck += 1
                    tasks.append(start())
            flag.wait(1.0)
        end = self.world.now + 5.0
        while any(not task.ended for task in tasks) and self.world.now < end:
            self.world.pause(0.05)
        self.books.cut(process)  # unfinished jobs may run again
        engine.close()
        process.alive, process.died = False, self.world.now

    def _slot(self, engine: Engine, flag: Event) -> None:
        slot = engine.enter(None)
        assert self.world.current is not None
        self.world.current.local[-1] = {"slot": slot}
        while not flag.is_set() and not slot.is_stuck:
            task = engine.dequeue()
            if task is not None:
                engine.execute(task)
        engine.leave()

    # -- the service manager -------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Restart killed processes whose host has power."""
        while True:
            self.world.pause(RESTART)
            for index, process in list(self.workers.items()):
                if not process.alive and process.host.has_power:
                    self.world.tell("starts again", process.name)
                    self.start_worker(index)
            for index, process in list(self.servers.items()):
                if not process.alive and process.host.has_power:
                    self.start_server(index)

    def replace_worker(self, index: int, process: Process) -> None:
        """Kill and restart a worker that did not stop in time."""
        if self.workers[index] is process:
            process.alive, process.died = False, self.world.now
            if process.host.has_power:
                self.start_worker(index)

    def upgrade_workers(self) -> None:
        """Replace the older release's worker by this release's."""
        if self.plan.old_release and "workers" not in self.upgraded:
            self.upgraded.add("workers")
            self.flags[self.workers[0]].set()

    def upgrade(self) -> None:
        """Upgrade the workers and the servers."""
        self.upgrade_workers()
        self.upgraded.add("servers")
        if self.plan.old_release:
            self.world.kill(self.servers[0])
