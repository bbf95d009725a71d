"""One thread, virtual time, one seed: greenlets in the place of threads, under a scheduler that decides who goes on.

A *host* has a clock, a *process* runs on a host and can be frozen or killed, a *task* is a thread of a process. A task
goes on until it waits; each wait lets the one go on whose time comes first. What would come at one time comes in an
order by the seed. A process that is killed leaves its tasks where they stand: no ``finally`` runs, as with SIGKILL.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import greenlet

#: Seconds since the epoch at which each history begins.
EPOCH = 1_700_000_000.0


@dataclass(eq=False)
class Host:
    """A machine. Its clock is ``ahead`` of true time (seconds)."""

    name: str
    ahead: float = 0.0
    #: Faults that keep it without power.
    outages: int = 0
    #: What it has started so often is, for the processes on it, another machine.
    boots: int = 0

    @property
    def has_power(self) -> bool:
        return not self.outages


@dataclass(eq=False)
class Process:
    """What is frozen and killed."""

    name: str
    host: Host
    pid: int
    alive: bool = True
    died: float = 0.0
    frozen_until: float = 0.0
    #: The newest protocol that its release speaks; 0: that of this release.
    protocol: int = 0
    tasks: list[Task] = field(default_factory=list)


class Task:
    """One thread of a process."""

    def __init__(self, process: Process, name: str, function: Callable[[], object], hub: Any) -> None:
        self.process, self.name = process, name
        self.greenlet = greenlet.greenlet(function, hub)
        self.local: dict[int, dict[str, Any]] = {}
        #: Counts the waits, so that what would have ended an earlier one does not end this one.
        self.ticket = 0
        self.parked = self.woken = self.ended = False
        self.ident = id(self)
        self.waiting_for_end: list[Task] = []


class Killed(BaseException):
    """Goes through the tasks that a history leaves behind, when it is over."""


class World:
    """The time and the tasks of one history."""

    def __init__(self, seed: int, *, telling: bool = False) -> None:
        self.seed, self.random = seed, random.Random(seed)
        #: True time: seconds since the history began.
        self.now = 0.0
        self.steps = 0
        self.processes: list[Process] = []
        self.current: Task | None = None
        #: What happened, when and by whom; kept if it is wanted.
        self.story: list[tuple[float, str, str]] = []
        self.telling = telling
        self.over = False
        #: Whether all processes have one process id: with a real storage they share its connections.
        self.one_pid = False
        #: What stands between the forks of a process and its files, by process id: :mod:`pijobs.base.forks`.
        self.gates: dict[int, Any] = {}
        #: What no task should have let out: (task, error).
        self.errors: list[tuple[Task, BaseException]] = []
        self._hub = greenlet.getcurrent()
        self._queue: list[tuple[float, float, int, Task]] = []
        self._until = 0.0
        self._enough: Callable[[], bool] = lambda: False
        #: The first process stands for whoever looks at a history from outside.
        self.outside = self.process("the world", Host("nowhere"))

    # -- who there is --------------------------------------------------------------------------------------------

    def process(self, name: str, host: Host) -> Process:
        process = Process(name, host, 1000 + len(self.processes))
        self.processes.append(process)
        return process

    def start(self, process: Process, function: Callable[[], object], name: str) -> Task:
        """Let a new task begin now."""

        def run() -> None:
            try:
                function()
            except Killed:
                pass
            except BaseException as error:
                if not self.over:
                    self.errors.append((task, error))
            finally:
                task.ended = True
                for other in task.waiting_for_end:
                    self.unpark(other)

        task = Task(process, name, run, self._hub)
        process.tasks.append(task)
        self._push(self.now, task)
        return task

    def kill(self, process: Process) -> None:
        """As SIGKILL. Does not return if the calling task is one of its own."""
        process.alive, process.died = False, self.now
        if self.current is not None and self.current.process is process:
            self._let_others_go_on(self.current)

    # -- waiting -------------------------------------------------------------------------------------------------

    def pause(self, seconds: float) -> None:
        """Let time pass for the calling task."""
        self.park(max(0.0, seconds))

    def park(self, seconds: float | None) -> bool:
        """Wait for :meth:`unpark`, or for so many seconds. Whether it was woken."""
        task = self.current
        if task is None:
            raise RuntimeError("only a task can wait")
        if self.over:
            raise Killed
        task.ticket += 1
        task.parked, task.woken = True, False
        if seconds is not None:
            self._push(self.now + seconds, task)
        self._let_others_go_on(task)
        return task.woken

    def unpark(self, task: Task) -> None:
        if task.parked and not task.ended:
            task.parked, task.woken = False, True
            task.ticket += 1
            self._push(self.now, task)

    def _let_others_go_on(self, task: Task) -> None:
        """From one task to the next, without a way round by the scheduler where that has nothing to decide."""
        following = None if self._enough() else self._next()
        if following is task:
            return
        (self._hub if following is None else following.greenlet).switch()
        if self.over:
            raise Killed

    def _push(self, when: float, task: Task) -> None:
        heapq.heappush(self._queue, (when, self.random.random(), task.ticket, task))

    # -- the scheduler -------------------------------------------------------------------------------------------

    def run(self, until: float, enough: Callable[[], bool] = lambda: False) -> None:
        """Let tasks go on until a time, or until there is enough (asked after each step)."""
        self._until, self._enough = until, enough
        while (task := self._next()) is not None:
            task.greenlet.switch()
            self.current = None
            if enough():
                return
        self.now = max(self.now, until)

    def _next(self) -> Task | None:
        """Who goes on now; None: nobody, until the time that :meth:`run` was given."""
        queue = self._queue
        while queue and queue[0][0] <= self._until:
            when, _, ticket, task = heapq.heappop(queue)
            if task.ticket != ticket or task.ended or not task.process.alive:
                continue
            if when > self.now:
                self.now = when
            if task.process.frozen_until > self.now:
                self._push(task.process.frozen_until, task)
                continue
            task.parked = False
            self.steps += 1
            self.current = task
            return task
        return None

    def end(self) -> None:
        """Take down all tasks; what they do meanwhile does not count."""
        self.over = True
        for process in self.processes:
            for task in process.tasks:
                while not task.ended and task.greenlet:
                    self.current = task
                    task.greenlet.throw(Killed)
                    self.current = None
                task.ended = True

    # -- the story -----------------------------------------------------------------------------------------------

    def who(self) -> str:
        return "the world" if self.current is None else self.current.process.name

    def tell(self, what: str, who: str | None = None) -> None:
        if self.telling and not self.over:
            self.story.append((self.now, who or self.who(), what))
