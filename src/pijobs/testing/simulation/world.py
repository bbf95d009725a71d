"""One thread, virtual time, one seed: a scheduler runs greenlets instead of threads.

A *host* has a clock; a *process* runs on a host, and can be frozen or killed; a *task* is a thread of a process. A task
runs until it waits. Then the task with the earliest time runs; the seed decides between equal times. A killed process
leaves its tasks where they are: no ``finally`` runs, as with SIGKILL.
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
    #: Number of present power losses.
    outages: int = 0
    #: Number of starts. Each start makes it another machine for its processes.
    boots: int = 0

    @property
    def has_power(self) -> bool:
        return not self.outages


@dataclass(eq=False)
class Process:
    """A process, which can be frozen and killed."""

    name: str
    host: Host
    pid: int
    alive: bool = True
    died: float = 0.0
    frozen_until: float = 0.0
    #: The newest protocol of its release; 0: that of this release.
    protocol: int = 0
    tasks: list[Task] = field(default_factory=list)


class Task:
    """One thread of a process."""

    def __init__(self, process: Process, name: str, function: Callable[[], object], hub: Any) -> None:
        self.process, self.name = process, name
        self.greenlet = greenlet.greenlet(function, hub)
        self.local: dict[int, dict[str, Any]] = {}
        #: Counts the waits: the time-out of an earlier wait must not end this one.
        self.ticket = 0
        self.parked = self.woken = self.ended = False
        self.ident = id(self)
        self.waiting_for_end: list[Task] = []


class Killed(BaseException):
    """Ends the remaining tasks after a history."""


class World:
    """The time and the tasks of one history."""

    def __init__(self, seed: int, *, telling: bool = False) -> None:
        self.seed, self.random = seed, random.Random(seed)
        #: True time: seconds since the history began.
        self.now = 0.0
        self.steps = 0
        self.processes: list[Process] = []
        self.current: Task | None = None
        #: Time, process and text of each event, if ``telling``.
        self.story: list[tuple[float, str, str]] = []
        self.telling = telling
        self.over = False
        #: Whether all processes share a process id, since they share the connections of a real storage.
        self.one_pid = False
        #: The gates between forks and files, by process id: :mod:`pijobs.base.forks`.
        self.gates: dict[int, Any] = {}
        #: Errors that tasks did not catch: (task, error).
        self.errors: list[tuple[Task, BaseException]] = []
        self._hub = greenlet.getcurrent()
        self._queue: list[tuple[float, float, int, Task]] = []
        self._until = 0.0
        self._enough: Callable[[], bool] = lambda: False
        #: A process for calls from outside the history.
        self.outside = self.process("the world", Host("nowhere"))

    # -- who there is --------------------------------------------------------------------------------------------

    def process(self, name: str, host: Host) -> Process:
        process = Process(name, host, 1000 + len(self.processes))
        self.processes.append(process)
        return process

    def start(self, process: Process, function: Callable[[], object], name: str) -> Task:
        """Start a task now."""

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
        """Kill as SIGKILL does. Does not return to a task of the process itself."""
        process.alive, process.died = False, self.now
        if self.current is not None and self.current.process is process:
            self._let_others_go_on(self.current)

    # -- waiting -------------------------------------------------------------------------------------------------

    def pause(self, seconds: float) -> None:
        """Let time pass for the calling task."""
        self.park(max(0.0, seconds))

    def park(self, seconds: float | None) -> bool:
        """Wait for :meth:`unpark`, at most ``seconds``. Returns whether it was woken."""
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
        """Switch to the next task, by the scheduler only where that has to decide."""
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
        """Run tasks until a time, or until ``enough`` is true after a step."""
        self._until, self._enough = until, enough
        while (task := self._next()) is not None:
            task.greenlet.switch()
            self.current = None
            if enough():
                return
        self.now = max(self.now, until)

    def _next(self) -> Task | None:
        """The next task to run; None: none before the time given to :meth:`run`."""
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
        """End all tasks; what they do meanwhile does not count."""
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
