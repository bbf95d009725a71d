"""What is set while a history runs: where the log goes, and what a worker process tells of itself."""

from __future__ import annotations

import contextlib
import functools
import logging
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from pijobs.storage.sessions import SessionInfo
from pijobs.testing.simulation.world import World
from pijobs.worker import leasing, session
from pijobs.worker import main as worker_main

#: Seconds of a worker's turn without work: a shorter one costs most of a history's time, and shows nothing more.
IDLE = 2.5


@contextlib.contextmanager
def logs(world: World, telling: bool) -> Iterator[None]:
    """What the code logs is part of the story, or costs nothing."""
    root, before = logging.getLogger("pijobs"), logging.root.manager.disable
    handler = _Teller(world)
    level = root.level
    if telling:
        root.addHandler(handler)
        root.setLevel(logging.INFO)
        logging.disable(logging.NOTSET)
        propagate, root.propagate = root.propagate, False
    else:
        logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
        if telling:
            root.removeHandler(handler)
            root.setLevel(level)
            root.propagate = propagate


class _Teller(logging.Handler):
    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        self._world.tell(f"log {record.levelname}: {record.getMessage()}"[:400])


@functools.cache
def _once(describe: Callable[..., SessionInfo]) -> SessionInfo:
    """It looks at files."""
    return describe(worker_type="thread", workers=0, keys=(), jobs=())


@contextlib.contextmanager
def described(world: World) -> Iterator[None]:
    """What a worker process tells of itself; and how long it waits for work.

    Entered before the world, whose chance must not hear of what is looked up once in a process.
    """
    real, turn = session.describe_process, leasing.TURN

    found = _once(real)

    def describe(**more: Any) -> SessionInfo:
        assert world.current is not None
        process = world.current.process
        place = f"{process.host.name}, boot {process.host.boots}"
        told = replace(found, id=uuid.uuid4().hex[:12], host=process.host.name, pid=process.pid, place=place)
        return replace(told, process_started=1, protocol=process.protocol, **more)

    setattr(worker_main, "describe_process", describe)  # noqa: B010 - of a module that does not export it
    leasing.TURN = IDLE
    try:
        yield
    finally:
        setattr(worker_main, "describe_process", real)  # noqa: B010
        leasing.TURN = turn
