"""Creates a worker from an installation and its options, and runs it."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import flask
from huey.constants import WORKER_GREENLET, WORKER_PROCESS

from pijobs.errors import ConfigurationError
from pijobs.execution.runner import Runner
from pijobs.factory import HueyQueue, Installation
from pijobs.logs.records import guard_loggers
from pijobs.observe import clear_text
from pijobs.observe.status import fingerprint
from pijobs.payload.keys import KeyRing
from pijobs.storage.contract import Storage
from pijobs.storage.values import Lease
from pijobs.worker import sentry
from pijobs.worker.consumer import Consumer
from pijobs.worker.engine import Engine
from pijobs.worker.leasing import Pause
from pijobs.worker.session import Session, describe_process
from pijobs.worker.slots import return_late_leases

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WorkerOptions:
    """huey's consumer options, under our names."""

    workers: int = 8
    worker_type: str = "thread"
    pause: Pause = field(default_factory=Pause)
    health_check_interval: float = 10.0
    check_health: bool = True
    max_tasks: int | None = None
    shutdown_timeout: float = 30.0
    scheduler_interval: int = 1
    periodic: bool = True
    #: (number of workers, their lowest priority), from ``-r``.
    reserved: tuple[tuple[int, int], ...] = ()

    def floors(self) -> list[int | None]:
        """The lowest priority of each worker. The reserved workers are in addition to ``-w``."""
        return [None] * self.workers + [floor for number, floor in self.reserved for _ in range(number)]


def make_consumer(installation: Installation, app: flask.Flask, options: WorkerOptions) -> Consumer:
    """The consumer, not started.

    :raises ConfigurationError: coroutine functions with greenlets: all greenlets of a thread share one event loop.
    """
    coroutines = [name for name in installation.registry if installation.registry.is_coroutine(name)]
    if options.worker_type == WORKER_GREENLET and coroutines:
        names = ", ".join(coroutines)
        raise ConfigurationError(
            f"expected -k thread or process for jobs that are 'async def' ({names}), found greenlet"
        )
    for message, advice in clear_text.faults(installation.settings):
        log.error("%s; %s", message, advice)
    sentry.guard()
    engine = make_engine(installation, app, options)
    lease = installation.queue.settings.lease
    # Replace a killed child within half a lease, so that its work does not wait longer.
    interval = min(options.health_check_interval, lease / 2)
    consumer = Consumer(
        engine,
        floors=options.floors(),
        shutdown_timeout=options.shutdown_timeout,
        worker_type=options.worker_type,
        initial_delay=options.pause.first,
        backoff=options.pause.factor,
        max_delay=options.pause.longest,
        check_worker_health=options.check_health,
        health_check_interval=interval,
        max_tasks=options.max_tasks,
        scheduler_interval=options.scheduler_interval,
        periodic=options.periodic,
    )
    # After huey has created its own.
    guard_loggers()
    return consumer


def make_engine(installation: Installation, app: flask.Flask, options: WorkerOptions) -> Engine:
    """The engine, with a runner in the context of ``app``."""
    queue = installation.queue

    def app_context() -> AbstractContextManager[Any]:
        return app.app_context()

    runner = Runner(installation.registry, queue.codec, installation.settings, app_context, queue.metrics)
    engine = Engine(queue, runner, partial(_sessions, installation, options), options.pause, len(options.floors()))
    if isinstance(queue, HueyQueue):
        queue.use_huey(engine)
    return engine


def _sessions(installation: Installation, options: WorkerOptions, engine: Engine) -> Sequence[Session]:
    """The sessions of this process: at the storage, and at the spool if there is one."""
    queue = installation.queue
    info = describe_process(
        worker_type=options.worker_type,
        workers=1 if options.worker_type == WORKER_PROCESS else len(options.floors()),
        keys=KeyRing.of(installation.settings).ids,
        jobs=tuple(installation.registry),
    )
    engine.look_at_definitions()

    def facts() -> Mapping[str, Any]:
        found, met = fingerprint(installation.settings), dict(queue.codec().other_keys)
        return {**engine.facts(), "other_keys": met, **({} if found is None else {"definitions": found.value})}

    storages = [storage for storage in (queue.storage, queue.spool) if storage is not None]
    return [
        Session(
            storage, info, lease=queue.settings.lease, on_ended=engine.report_ended,
            on_stuck=partial(_stuck, engine, options, storage),
            on_beat=lambda: return_late_leases([*engine.busy.values()]),
            metrics=queue.metrics, facts=facts, flushes=storage is queue.storage,
        )
        for storage in storages
    ]  # fmt: skip


def _stuck(engine: Engine, options: WorkerOptions, storage: Storage, lease: Lease) -> None:
    engine.stuck(storage, lease)
    if options.worker_type == WORKER_PROCESS:
        log.error("child %d is killed: its job %s does not end", os.getpid(), lease.id)
        os.kill(os.getpid(), signal.SIGKILL)
