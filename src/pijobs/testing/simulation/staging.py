"""Sets the log and the description of worker processes while a history runs."""

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

#: Seconds of an idle worker's turn. Shorter turns take most of a history's time, and find no more faults.
IDLE = 2.5


@contextlib.contextmanager
def logs(world: World, telling: bool) -> Iterator[None]:
    """Add log lines to the story (``telling``), or turn the log off."""
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
    """Cached, since it reads files."""
    return describe(worker_type="thread", workers=0, keys=(), jobs=())


@contextlib.contextmanager
def described(world: World) -> Iterator[None]:
    """Simulate the description of worker processes, and their idle turn.

    Enter it before the world: what is looked up only once per process must not use the world's random numbers.
    """
    real, turn = session.describe_process, leasing.TURN

    found = _once(real)

    def describe(**more: Any) -> SessionInfo:
        assert world.current is not None
        process = world.current.process
        place = f"{process.host.name}, boot {process.host.boots}"
        info = replace(found, id=uuid.uuid4().hex[:12], host=process.host.name, pid=process.pid, place=place)
        return replace(info, process_started=1, protocol=process.protocol, **more)

    setattr(worker_main, "describe_process", describe)  # noqa: B010 - of a module that does not export it
    leasing.TURN = IDLE
    try:
        yield
    finally:
        setattr(worker_main, "describe_process", real)  # noqa: B010
        leasing.TURN = turn
