"""The faults of a history, carried out."""

from __future__ import annotations

import functools
from collections.abc import Callable

from pijobs.testing.simulation.books import Books
from pijobs.testing.simulation.cast import RESTART, Cast
from pijobs.testing.simulation.lights import Lights
from pijobs.testing.simulation.places import Place
from pijobs.testing.simulation.plan import LEASE, Fault
from pijobs.testing.simulation.world import Process, World

#: Seconds until the next worker on the host has returned a killed worker's instances.
AT_ONCE = RESTART + 1.2


class Faults:
    """All faults of a plan."""

    def __init__(self, cast: Cast, books: Books, world: World, lights: Lights) -> None:
        self.cast, self.books, self.world, self.lights = cast, books, world, lights
        self.director = world.outside
        self.left = len(cast.plan.faults)

    def begin(self) -> None:
        for fault in self.cast.plan.faults:
            self.world.start(self.director, functools.partial(self._befall, fault), str(fault))

    def _befall(self, fault: Fault) -> None:
        self.world.pause(fault.at - self.world.now)
        self.world.tell(str(fault))
        self.lights.look_during(fault)
        self.books.troubles += 1
        self._happen(fault)
        if fault.what in ("freeze", "stop"):
            self.world.pause(max(fault.seconds, RESTART))
        self.books.troubles -= 1
        self.books.last_trouble = self.world.now
        self.left -= 1

    def _happen(self, fault: Fault) -> None:
        kind, _, number = fault.whom.partition(" ")
        if kind == "host":
            self._take_power(fault, int(number))
        elif kind in ("worker", "server"):
            self._befall_process(fault, kind, int(number))
        elif place := next((place for place in self.cast.places if place.name == fault.whom), None):
            self._befall_place(fault, place)

    def _later(self, seconds: float, function: Callable[[], object]) -> None:
        def wait() -> None:
            self.world.pause(seconds)
            function()

        self.world.start(self.director, wait, "later")

    # -- processes and hosts -------------------------------------------------------------------------------------

    def _befall_process(self, fault: Fault, kind: str, index: int) -> None:
        process = (self.cast.workers if kind == "worker" else self.cast.servers)[index]
        if fault.what == "cut off":
            self.cast.storage.cut_off.add(process)
            self.books.cut(process)
            self.world.pause(fault.seconds)
            self.cast.storage.cut_off.discard(process)
        elif fault.what == "freeze":
            process.frozen_until = max(process.frozen_until, self.world.now + fault.seconds)
            self.books.cut(process, None if fault.seconds > LEASE * 0.7 else fault.seconds)
        elif fault.what == "stop":
            self.cast.flags[process].set()
            self._later(7.0, lambda: self.cast.replace_worker(index, process))
        elif fault.what == "fork":
            self.cast.fork(index)
        else:
            for one in list(self.cast.workers.values()) if fault.what == "kill all" else [process]:
                if not one.alive:
                    continue  # after a power loss, nobody can see by its id that it died
                self._kill(one)
                self._later(AT_ONCE, functools.partial(self._judge_recovery_at_once, one))

    def _kill(self, process: Process) -> None:
        if process.alive:
            self.world.kill(process)
            self.books.cut(process)

    def _judge_recovery_at_once(self, process: Process) -> None:
        """Judge the recovery by the next worker of the host, before the lease ends, if there is no other fault."""
        if self.books.is_quiet(AT_ONCE - 0.01) and process.name.startswith("worker"):
            self.books.judge_recovery(AT_ONCE - 0.01, process)

    def _take_power(self, fault: Fault, index: int) -> None:
        """Cut the power of one host or of all. After that, nobody can see by their ids which processes died."""
        hosts = self.cast.hosts if fault.what == "power of all" else [self.cast.hosts[index]]
        for host in hosts:
            host.outages, host.boots = host.outages + 1, host.boots + 1
        for process in list(self.world.processes):
            if process.host in hosts and process.name.startswith(("worker", "server")):
                self._kill(process)
        self.world.pause(fault.seconds)
        for host in hosts:
            host.outages -= 1

    # -- storages ------------------------------------------------------------------------------------------------

    def _befall_place(self, fault: Fault, place: Place) -> None:
        if fault.what in ("clock of the storage", "clock of a host"):
            host = place.host if fault.what.endswith("storage") else self.cast.hosts[0]
            self.books.clocks_were_set = True
            host.ahead += fault.amount
        elif fault.what in ("emptied", "restored"):
            self._lose(fault, place)
        elif fault.what == "damaged":
            spoilt = place.damage()
            self.books.damaged |= {spoilt} if spoilt is not None else set()
        else:
            place.troubles.append(fault.what)
            self.world.pause(fault.seconds)
            place.troubles.remove(fault.what)

    def _lose(self, fault: Fault, place: Place) -> None:
        """Lose all data, or go back to a state before."""
        if fault.what == "restored":
            place.remember()
            self.world.pause(fault.seconds)
            self.world.tell("the storage goes back to what it was then")
        seen = {record.info.id: record.seen for record in place.truth.sessions()}
        (place.go_back if fault.what == "restored" else place.empty)()
        left = {record.info.id: record.seen for record in place.truth.sessions()}
        # From a worker's view, another worker may have closed a session that was lost.
        known = seen if fault.what == "emptied" else left
        witnesses = [session for session, last in seen.items() if session in known and left.get(session, 0) < last]
        self.lights.look_after_loss(fault, [place.sessions[one] for one in witnesses if one in place.sessions])
