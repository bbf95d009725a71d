"""Servers and workers as processes that are killed and stopped at random, and replaced."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from acceptance.site import Site, children
from services import wait_until

from pijobs.errors import StorageUnavailable
from pijobs.jobs import ENDED

from . import books
from .jobs_under_chaos import NAME

#: What gives a process a wrong clock.
SHIFTED = Path(__file__).parent / "shifted"
#: Jobs that may wait before servers take a rest.
BACKLOG = 300
#: So long without an effect, nothing waits (seconds).
IDLE = 2.0


@dataclass
class Toll:
    """What was done to whom."""

    workers: int = 0
    servers: int = 0
    storage: int = 0
    stops: int = 0
    network: int = 0

    @property
    def kills(self) -> int:
        return self.workers + self.servers + self.storage + self.network


@dataclass
class Crowd:
    """:param pause: mean seconds between two enqueues of one server.
    :param work: mean seconds that a job takes.
    :param worker_types: one worker process each.
    :param shifts: by how many seconds the clocks of workers and servers are wrong, in turn.
    :param places: what starts a process on a host, for workers first and then for servers; none: on this one."""

    site: Site
    chance: random.Random
    pause: float = 0.02
    work: float = 0.005
    worker_types: tuple[str, ...] = ("thread", "process")
    servers: int = 2
    shifts: tuple[float, ...] = (0.0,)
    places: tuple[tuple[str, ...], ...] = ()
    toll: Toll = field(default_factory=Toll)
    _workers: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)
    _servers: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)
    _stopped: list[tuple[float, int]] = field(default_factory=list)
    _effects: int = 0
    _last_effect: float = field(default_factory=time.monotonic)
    _without_effect: int = 0
    _has_nothing_to_do: bool = False

    @property
    def book(self) -> Path:
        return self.site.folder / "book"

    @property
    def rest(self) -> Path:
        """While this file exists, servers do not enqueue."""
        return self.site.folder / "rest"

    def go_through(self, jobs: int, kills: int, strike: Callable[[], None] | None = None) -> None:
        """Enqueue and work until both numbers are reached. Blows fall on those at work: each one waits for
        effects, if there is any work left."""
        effects = 0
        while self.toll.kills < kills or self.acknowledged() < jobs:
            self._pace(jobs * (self.toll.kills + 1) / max(kills, 1))
            self.tend()
            # A random moment is the point here: nothing is waited for.
            time.sleep(self.chance.uniform(0.01, 0.3))
            size = self.site.effects.stat().st_size
            if self.toll.kills < kills and (size > effects or self._has_nothing_to_do):
                effects = size
                (strike or self.strike)()

    def _pace(self, most: float) -> None:
        """Let the servers rest while there are enough calls for so many kills, or too many jobs that wait."""
        acknowledged, effects = self.acknowledged(), len(books.lines(self.site.effects))
        if effects > self._effects:
            self._effects, self._last_effect = effects, time.monotonic()
        elif time.monotonic() - self._last_effect > IDLE:
            # Nothing waits any more: the rest has expired, or was replaced.
            self._without_effect = acknowledged - effects
        waiting = acknowledged - effects - self._without_effect
        self._has_nothing_to_do = acknowledged > most and waiting == 0
        if acknowledged > most or waiting > BACKLOG:
            self.rest.touch()
        else:
            self.rest.unlink(missing_ok=True)

    def tend(self) -> None:
        """Replace what was killed, and wake what was stopped for long enough."""
        for until, pid in list(self._stopped):
            if time.monotonic() >= until:
                self._stopped.remove((until, pid))
                self._signal(pid, signal.SIGCONT)
        for slot in range(len(self.worker_types)):
            if slot not in self._workers or self._workers[slot].poll() is not None:
                self._workers.pop(slot, None)
                self._workers[slot] = self._start_worker(slot)
        for slot in range(self.servers):
            if slot not in self._servers or self._servers[slot].poll() is not None:
                self._servers[slot] = self._start_server(slot)

    def strike(self) -> None:
        """Kill or stop something."""
        kind = self.chance.random()
        if kind < 0.25:
            self.stop_worker()
        elif kind < 0.8:
            self.kill_worker()
        else:
            self.kill_server()

    def kill_worker(self) -> None:
        """All of its processes, or only the parent, or only one child."""
        # The one that works for longest: the others may not have begun.
        pid = next(iter(self._workers.values())).pid
        family = list(children(pid))
        kind = self.chance.random()
        if family and kind < 0.5:
            self._signal(self.chance.choice(family), signal.SIGKILL, group=False)
        elif family and kind < 0.7:
            self._signal(pid, signal.SIGKILL, group=False)
        else:
            self._signal(pid, signal.SIGKILL)
        self.toll.workers += 1

    def stop_worker(self) -> None:
        """For a moment, or for longer than its lease."""
        process = self.chance.choice(list(self._workers.values()))
        self._signal(process.pid, signal.SIGSTOP)
        self._stopped.append((time.monotonic() + self.chance.choice([0.2, 2.0]), process.pid))
        self.toll.stops += 1

    def kill_server(self) -> None:
        process = self.chance.choice(list(self._servers.values()))
        self._signal(process.pid, signal.SIGKILL)
        self.toll.servers += 1

    def acknowledged(self) -> int:
        return sum(line.startswith("ack ") for line in books.lines(self.book))

    def finish(self, timeout: float) -> books.Books:
        """No more calls and no more faults: everything must come to its end, and the books are read."""
        for process in self._servers.values():
            self._signal(process.pid, signal.SIGKILL)
            process.wait()
        self.servers = 0
        for _, pid in self._stopped:
            self._signal(pid, signal.SIGCONT)
        self._stopped = []
        wait_until(self._all_ended, timeout, what=f"the end of all jobs ({self.site.output()[-2000:]})")
        return books.read(self.site, self.book)

    def _all_ended(self) -> bool:
        self.tend()
        time.sleep(0.1)  # the storage has other work than to be asked
        try:
            return ENDED.issuperset(self.site.counts(NAME))
        except StorageUnavailable:
            return False

    def _start_worker(self, slot: int) -> subprocess.Popen[bytes]:
        options = ("-w", "2", "-k", self.worker_types[slot], "-c", "0.3", "-l", str(self.site.log))
        self._set_clock(slot)
        self.site.prefix = self._place(slot)
        return self.site.start("worker", *options)

    def _start_server(self, slot: int) -> subprocess.Popen[bytes]:
        seed = str(self.chance.random())
        self._set_clock(slot)
        self.site.prefix = self._place(len(self.worker_types) + slot)
        program = ("chaos.enqueuer", str(self.site.config), str(self.book), seed, str(self.pause), str(self.work))
        return self.site.start_module(*program)

    def _place(self, number: int) -> tuple[str, ...]:
        return self.places[number] if self.places else ()

    def _set_clock(self, slot: int) -> None:
        shift = self.shifts[slot % len(self.shifts)]
        environment = self.site.environment
        places = [place for place in environment["PYTHONPATH"].split(os.pathsep) if place != str(SHIFTED)]
        environment["PYTHONPATH"] = os.pathsep.join([str(SHIFTED), *places] if shift else places)
        environment["PIJOBS_CLOCK_SHIFT"] = str(shift)

    def _signal(self, pid: int, signum: signal.Signals, *, group: bool = True) -> None:
        with suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(pid, signum)
