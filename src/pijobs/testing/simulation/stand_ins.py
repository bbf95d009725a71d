"""Replaces the host's clock, threads, process ids and random numbers while a history runs."""

from __future__ import annotations

import gc
import os
import random
import secrets
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pijobs.base import clock, forks, processes, threads
from pijobs.errors import StorageVersion
from pijobs.storage import protocol
from pijobs.testing.simulation import present
from pijobs.testing.simulation.tasks import Condition, Event, Local, Lock, RLock, Thread
from pijobs.testing.simulation.world import EPOCH, World


def _current_thread() -> Any:
    task = present.here().current
    return None if task is None else task.local.get(0, {}).get("thread", task)


def _get_ident() -> int:
    task = present.here().current
    return 0 if task is None else task.ident


def _time() -> float:
    here = present.here()
    ahead = 0.0 if here.current is None else here.current.process.host.ahead
    return EPOCH + here.now + ahead


def _getpid() -> int:
    here = present.here()
    return here.outside.pid if here.current is None or here.one_pid else here.current.process.pid


def _gate() -> forks.Gate:
    """The gate of the present process."""
    gates, pid = present.here().gates, _getpid()
    gate: forks.Gate = gates.get(pid) or gates.setdefault(pid, forks.Gate())
    return gate


def _is_surely_dead(pid: int, started: int) -> bool:
    return any(one.pid == pid and not one.alive for one in present.here().processes)


def _judge_protocol(number: int, oldest_reader: int, place: str) -> int:
    """Judge as the release of the present process does."""
    current = present.here().current
    newest = protocol.NEWEST if current is None or not current.process.protocol else current.process.protocol
    if oldest_reader > newest:
        raise StorageVersion(f"{place} is for releases from protocol {oldest_reader} on, this one speaks {newest}")
    return min(_real_judge(number, min(oldest_reader, protocol.NEWEST), place), newest)


_real_judge = protocol.judge


def _replacements(here: World) -> list[tuple[Any, str, Any]]:
    chance = random.Random(here.random.random())
    return [
        (clock, "time", _time),
        (clock, "time_ns", lambda: int(_time() * 1e9)),
        (clock, "monotonic", lambda: here.now),
        (clock, "boottime", lambda: here.now),
        (clock, "sleep", here.pause),
        *((threads, kind.__name__, kind) for kind in (Lock, RLock, Condition, Event, Thread)),
        (threads, "local", Local),
        (threads, "current_thread", _current_thread),
        (threads, "get_ident", _get_ident),
        (os, "getpid", _getpid),
        # A new gate: this process's own must hold no lock of a history when it forks.
        *((forks.gate, name, value) for name, value in vars(forks.Gate()).items()),
        (forks.gate, "keep", lambda keeper: _gate().keep(keeper)),
        (forks.gate, "use", lambda path, timeout: _gate().use(path, timeout)),
        (protocol, "judge", _judge_protocol),
        (processes, "is_surely_dead", _is_surely_dead),
        (secrets, "token_hex", lambda nbytes=16: f"{chance.getrandbits(8 * nbytes):0{2 * nbytes}x}"),
        (uuid, "uuid4", lambda: uuid.UUID(int=chance.getrandbits(128), version=4)),
    ]


@contextmanager
def in_world(here: World) -> Iterator[None]:
    """Run the code of pijobs in a world."""
    assert present.world is None, "a history runs already"
    before, state = [], random.getstate()
    # Set it first: a real thread of this process may use a replacement at once.
    present.world = here
    for module, name, value in _replacements(here):
        before.append((module, name, module.__dict__.get(name, _NOTHING)))
        setattr(module, name, value)
    random.seed(here.random.random())
    # The collector would search the history's objects again and again while all are in use.
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        here.end()
        if collects:
            gc.enable()
        random.setstate(state)
        for module, name, value in before:
            delattr(module, name) if value is _NOTHING else setattr(module, name, value)
        present.world = None


_NOTHING = object()
