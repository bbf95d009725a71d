"""What stands in the place of the host's clock and threads while a history runs."""

from __future__ import annotations

import random
import secrets
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pijobs.base import clock, processes, threads
from pijobs.testing.simulation.world import EPOCH, Task, World

#: The world of the history that runs.
_world: World | None = None


def world() -> World:
    """The world that the calling code lives in."""
    assert _world is not None, "no history runs"
    return _world


class Lock:
    """A lock of one process."""

    def __init__(self) -> None:
        self._owner: Task | None = None
        self._held = False
        self._waiting: list[Task] = []

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        here = world()
        if not self._held:
            self._held, self._owner = True, here.current
            return True
        if not blocking:
            return False
        end = None if timeout < 0 else here.now + timeout
        while self._held:
            task = here.current
            assert task is not None, "the harness waits for a lock that a task holds"
            self._waiting.append(task)
            woken = here.park(None if end is None else max(0.0, end - here.now))
            if not woken:
                self._waiting.remove(task)
                if self._held:
                    return False
        self._held, self._owner = True, here.current
        return True

    def release(self) -> None:
        if not self._held:
            raise RuntimeError("release unlocked lock")
        self._held, self._owner = False, None
        while self._waiting:
            task = self._waiting.pop(0)
            if task.process.alive:
                world().unpark(task)
                return

    def locked(self) -> bool:
        return self._held

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        if self._held or not world().over:
            self.release()

    def __deepcopy__(self, memo: object) -> Lock:
        return self


class RLock(Lock):
    """The same for a task that holds it already."""

    def __init__(self) -> None:
        super().__init__()
        self._depth = 0

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if self._held and self._owner is world().current:
            self._depth += 1
            return True
        if not super().acquire(blocking, timeout):
            return False
        self._depth = 1
        return True

    def release(self) -> None:
        self._depth -= 1
        if self._depth <= 0:
            super().release()


class Condition:
    """With an :class:`RLock` of its own, or a lock that is given."""

    def __init__(self, lock: Lock | None = None) -> None:
        self._lock = lock or RLock()
        self.acquire, self.release = self._lock.acquire, self._lock.release
        self._waiting: list[Task] = []

    def __enter__(self) -> bool:
        return self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.__exit__()

    def wait(self, timeout: float | None = None) -> bool:
        here, depth = world(), getattr(self._lock, "_depth", 1)
        task = here.current
        assert task is not None
        self._waiting.append(task)
        if hasattr(self._lock, "_depth"):
            self._lock._depth = 1
        self._lock.release()
        woken = here.park(None if timeout is None else max(0.0, timeout))
        if task in self._waiting:
            self._waiting.remove(task)
        self._lock.acquire()
        if hasattr(self._lock, "_depth"):
            self._lock._depth = depth
        return woken

    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        end = None if timeout is None else world().now + timeout
        while not (found := predicate()):
            left = None if end is None else end - world().now
            if left is not None and left <= 0:
                break
            self.wait(left)
        return found

    def notify(self, n: int = 1) -> None:
        for task in self._waiting[:n]:
            self._waiting.remove(task)
            world().unpark(task)

    def notify_all(self) -> None:
        self.notify(len(self._waiting))

    def __deepcopy__(self, memo: object) -> Condition:
        return self


class Event:
    """A flag that can be waited for."""

    def __init__(self) -> None:
        self._flag = False
        self._waiting: list[Task] = []

    def is_set(self) -> bool:
        return self._flag

    def set(self) -> None:
        self._flag = True
        for task in self._waiting:
            world().unpark(task)
        self._waiting.clear()

    def clear(self) -> None:
        self._flag = False

    def wait(self, timeout: float | None = None) -> bool:
        here = world()
        if not self._flag:
            task = here.current
            assert task is not None
            self._waiting.append(task)
            if not here.park(None if timeout is None else max(0.0, timeout)) and task in self._waiting:
                self._waiting.remove(task)
        return self._flag


class Local:
    """Attributes of each task."""

    def __getattribute__(self, name: str) -> Any:
        try:
            return _own(self)[name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: Any) -> None:
        _own(self)[name] = value


def _own(local: Local) -> dict[str, Any]:
    task = world().current
    assert task is not None
    return task.local.setdefault(id(local), {})


class Thread:
    """A task of the process that starts it."""

    def __init__(
        self,
        group: None = None,
        target: Callable[..., object] | None = None,
        name: str | None = None,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        *,
        daemon: bool | None = None,
    ) -> None:
        self._target, self._args, self._kwargs = target, args, kwargs or {}
        self.name, self.daemon = name or "thread", daemon
        self.task: Task | None = None

    def start(self) -> None:
        here = world()
        process = here.processes[0] if here.current is None else here.current.process
        self.task = here.start(process, self.run, self.name)
        self.task.local[0] = {"thread": self}

    def run(self) -> None:
        if self._target is not None:
            self._target(*self._args, **self._kwargs)

    def is_alive(self) -> bool:
        return self.task is not None and not self.task.ended

    def join(self, timeout: float | None = None) -> None:
        here = world()
        if self.is_alive():
            assert self.task is not None and here.current is not None
            self.task.waiting_for_end.append(here.current)
            here.park(timeout)

    @property
    def ident(self) -> int | None:
        return None if self.task is None else self.task.ident


def _current_thread() -> Any:
    task = world().current
    return None if task is None else task.local.get(0, {}).get("thread", task)


def _get_ident() -> int:
    task = world().current
    return 0 if task is None else task.ident


def _time() -> float:
    here = world()
    ahead = 0.0 if here.current is None else here.current.process.host.ahead
    return EPOCH + here.now + ahead


def _is_surely_dead(pid: int, started: int) -> bool:
    return any(one.pid == pid and not one.alive for one in world().processes)


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
        (processes, "is_surely_dead", _is_surely_dead),
        (secrets, "token_hex", lambda nbytes=16: f"{chance.getrandbits(8 * nbytes):0{2 * nbytes}x}"),
        (uuid, "uuid4", lambda: uuid.UUID(int=chance.getrandbits(128), version=4)),
    ]


@contextmanager
def in_world(here: World) -> Iterator[None]:
    """Let the code of pijobs live in a world."""
    global _world
    assert _world is None, "a history runs already"
    before, state = [], random.getstate()
    for module, name, value in _replacements(here):
        before.append((module, name, module.__dict__.get(name, _NOTHING)))
        setattr(module, name, value)
    random.seed(here.random.random())
    _world = here
    try:
        yield
    finally:
        here.end()
        _world = None
        random.setstate(state)
        for module, name, value in before:
            delattr(module, name) if value is _NOTHING else setattr(module, name, value)


_NOTHING = object()
