"""The :class:`huey.consumer.Consumer` subclass: signals, worker slots, and the end of a worker.

SIGTERM and SIGINT let running jobs end, for the time of ``-t``. Then, or at a second signal, running jobs go back to
the queue, as the last act before the process exits (a thread can't be interrupted). Children of ``-k process`` ignore
both signals, because systemd and terminals signal the whole group. The parent interrupts them with SIGUSR1.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from huey import consumer as huey_consumer
from huey.constants import WORKER_PROCESS

from pijobs.base import clock
from pijobs.base.processes import exit_in_spite_of_leftovers
from pijobs.errors import PijobsError, StorageUnavailable
from pijobs.worker.engine import Engine
from pijobs.worker.periodic import Periodic
from pijobs.worker.slots import Slot
from pijobs.worker.surroundings import Surroundings
from pijobs.worker.systemd import Notifier

log = logging.getLogger(__name__)

#: Seconds that an interrupted child has to return its job before it is killed.
KILL_AFTER = 2.0
#: How many hanging threads per worker are replaced.
MOST_STUCK = 3


class Worker(huey_consumer.Worker):  # type: ignore[misc]
    """One slot. ``floor`` is its lowest priority."""

    def __init__(
        self, floor: int | None, parent: int, on_start: Callable[[], None], on_stop: Callable[[], None], **options: Any
    ) -> None:
        super().__init__(**options)
        self.floor = floor
        self.slot: Slot | None = None
        self._parent = parent
        self._on_start, self._on_stop = on_start, on_stop

    def initialize(self) -> None:
        self.huey.stop_flag = self.stop_flag
        # First: the sign of life that opens a session reports to observers what ended with former workers.
        self._on_start()
        if self.huey.surroundings is None:
            self.huey.surroundings = Surroundings()
        self.slot = self.huey.enter(self.floor)
        super().initialize()

    def loop(self, now: Any = None) -> None:
        if os.getpid() != self._parent and os.getppid() != self._parent:
            log.error("the worker's parent process %d is gone; child %d stops", self._parent, os.getpid())
            self.stop_flag.set()
            return
        if self.is_stuck:  # its job has ended after all; another worker replaced it
            raise huey_consumer.WorkerRecycle
        super().loop(now)

    @property
    def is_stuck(self) -> bool:
        """Whether its job ran past its timeout."""
        return self.slot is not None and self.slot.is_stuck

    def shutdown(self) -> None:
        self.huey.leave()
        if os.getpid() != self._parent:
            self.huey.close()
            self._on_stop()
        super().shutdown()
        if os.getpid() != self._parent:
            exit_in_spite_of_leftovers()


class Scheduler(huey_consumer.Scheduler):  # type: ignore[misc]
    """Enqueues periodic jobs; scheduled instances are promoted by the storage itself."""

    #: Check in each turn (``-s`` seconds), not on a minute grid that begins with the process.
    periodic_task_seconds = 0

    def __init__(self, periodic_jobs: Periodic, parent: int, **options: Any) -> None:
        super().__init__(**options)
        self._periodic_jobs = periodic_jobs
        self._parent = parent

    def loop(self, now: Any = None) -> None:
        if os.getpid() != self._parent and os.getppid() != self._parent:
            self.stop_flag.set()
            return
        if self.periodic:
            self.enqueue_periodic_tasks(now)
        self.stop_flag.wait(self.interval)

    def enqueue_periodic_tasks(self, now: Any) -> None:
        try:
            self._periodic_jobs.enqueue_due()
        except StorageUnavailable as error:
            log.debug("periodic jobs wait for the storage: %s", error)


class _ProcessEnvironment(huey_consumer.ProcessEnvironment):  # type: ignore[misc]
    """Creates children that ignore the signals of their group."""

    def init_child(self, process: Any) -> None:
        super().init_child(process)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def create_process(self, runnable: Any, name: str) -> Any:
        process = super().create_process(runnable, name)
        # Not a daemon, because daemons may have no children and jobs may use multiprocessing. It ends itself when its
        # parent is gone.
        process.daemon = False
        return process

    def interrupt_workers(self, procs: Any) -> None:
        super().interrupt_workers(procs)
        for proc in procs:
            proc.join(KILL_AFTER)
            if proc.is_alive():
                proc.kill()


class Consumer(huey_consumer.Consumer):  # type: ignore[misc]
    """huey's consumer with a lowest priority per slot, and an end that returns all leases.

    :param floors: one entry per worker: its lowest priority, or None.
    """

    def __init__(
        self, engine: Engine, *, floors: Iterable[int | None], shutdown_timeout: float, **options: Any
    ) -> None:
        self._floors: deque[int | None] = deque(floors)
        self._parent = os.getpid()
        self._signum: int | None = None
        self._ended_early = False
        self._second_signal = False
        #: Restart at the end (huey's own restart would leave the sessions open).
        self._again = False
        self._systemd = Notifier()
        self._replaced = 0.0
        #: Threads whose job ran past its timeout.
        self._stuck: list[Any] = []
        super().__init__(
            engine, workers=len(self._floors), shutdown_timeout=shutdown_timeout, graceful_signal="TERM", **options
        )
        self._signal_actions: dict[int, tuple[bool, bool]] = {
            signal.SIGTERM: (False, True), signal.SIGINT: (False, True), signal.SIGHUP: (True, True),
        }  # fmt: skip

    def get_environment(self, worker_type: str) -> Any:
        if worker_type == WORKER_PROCESS:
            return _ProcessEnvironment(signal.SIGTERM, signal.SIGUSR1)
        return super().get_environment(worker_type)

    def _create_worker(self) -> Worker:
        return Worker(
            self._floors.popleft(), self._parent, self._worker_started, self._worker_stopped, huey=self.huey,
            stop_flag=self.stop_flag, default_delay=self.default_delay, max_delay=self.max_delay,
            backoff=self.backoff, max_tasks=self.max_tasks,
        )  # fmt: skip

    def _create_scheduler(self) -> Scheduler:
        return Scheduler(
            Periodic(self.huey.queue), self._parent, huey=self.huey, stop_flag=self.stop_flag,
            interval=self.scheduler_interval, periodic=self.periodic,
        )  # fmt: skip

    def check_worker_health(self) -> bool:
        # huey creates the replacements in the order of the dead, so use their priorities in the same order.
        dead = [worker for worker, process in self.worker_threads if not self.environment.is_alive(process)]
        self._floors.extend(worker.floor for worker in dead)
        healthy: bool = super().check_worker_health()
        return healthy

    def _worker_started(self) -> None:
        self.huey.queue.plugins.call("worker_started", worker=self.huey)

    def _worker_stopped(self) -> None:
        self.huey.queue.plugins.call("worker_stopped", worker=self.huey)

    def _handle_signal(self, signum: int, frame: Any) -> None:
        # Raise no exception here (huey's own handler does, the second time): it could appear anywhere.
        if self._signum is not None:
            self._second_signal = True
            self._again = self._again and signum == signal.SIGHUP
            return
        self._signum = signum
        self._again, self._graceful = self._signal_actions[signal.Signals(signum)]

    def start(self) -> None:
        # huey sets its handlers after the workers started: until then, a signal would kill their jobs.
        self._set_signal_handlers()
        super().start()
        self._systemd.started()

    def loop(self, health_check_ts: Any = None) -> Any:
        self._systemd.alive()
        if self._health_check and self._signum is None:
            self._replace_stuck()
            self._replace_ended()
        return super().loop(health_check_ts)

    def _replace_ended(self) -> None:
        """Replace ended workers: at once after ``-M`` jobs, at most once a second if workers die."""
        ended = [process for _, process in self.worker_threads if not self.environment.is_alive(process)]
        recycled = any(getattr(process, "exitcode", 0) == 0 for process in ended)
        if ended and (recycled or clock.monotonic() - self._replaced >= 1):
            self._replaced = clock.monotonic()
            self.check_worker_health()

    def _replace_stuck(self) -> None:
        """A stuck thread can't be ended. Start another one, or a worker with one thread would stop working."""
        self._stuck = [process for process in self._stuck if self.environment.is_alive(process)]
        for index, (worker, process) in enumerate(self.worker_threads):
            if not worker.is_stuck or not self.environment.is_alive(process) or self.environment.forks:
                continue
            if len(self._stuck) >= MOST_STUCK * len(self.worker_threads):
                return  # each of them uses memory, so there is a limit
            log.error("worker %d: its job does not end; another one replaces it", index + 1)
            self._stuck.append(process)
            self._floors.append(worker.floor)
            new = self._create_worker()
            self.worker_threads[index] = new, self._create_process(new, f"Worker-{index + 1}")
            self.worker_threads[index][1].start()

    def _join_workers(self) -> bool:
        """Wait until all have ended; False if the time ends first.

        :raises KeyboardInterrupt: after a second signal, as huey expects.
        """
        end = clock.monotonic() + self.shutdown_timeout
        processes = [process for _, process in self.worker_threads] + [self.scheduler]
        while any(self.environment.is_alive(process) for process in processes):
            self._systemd.alive()
            if self._second_signal:
                raise KeyboardInterrupt
            if clock.monotonic() >= end:
                return False
            clock.sleep(0.02)
        return True

    def stop(self, graceful: bool = False) -> None:
        self._systemd.stopping()
        name = "a signal" if self._signum is None else signal.Signals(self._signum).name
        log.info("%s: the worker stops; running jobs have %g s to end", name, self.shutdown_timeout if graceful else 0)
        for session in self.huey.sessions:
            session.storage.wake()
        super().stop(graceful)

    def _interrupt_workers(self) -> None:
        log.warning("the worker ends now; running jobs go back to the queue")
        self._ended_early = True
        super()._interrupt_workers()

    def run(self) -> None:
        """Run until a signal. If jobs still run, the process exits with code 0 and this does not return. After
        SIGHUP, another worker replaces it.

        :raises PijobsError: it ended without a signal.
        """
        try:
            super().run()
        finally:
            self.huey.close()
            if not self.environment.forks:
                self._worker_stopped()
            if self._again:
                if self.huey.surroundings is not None:
                    self.huey.surroundings.put_back("the last job")
                log.info("worker %d restarts", os.getpid())
                logging.shutdown()
                # Do not use sys.argv: "python -m pijobs" would look for its imports inside of pijobs.
                os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606
            if self._ended_early:
                # Threads that still run must not continue after their instances went back.
                logging.shutdown()
                os._exit(0 if self._signum is not None else 1)
        if self._signum is None:
            raise PijobsError("the worker ended without a signal; its log has details")
