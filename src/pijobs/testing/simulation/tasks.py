"""Tasks instead of threads, with their locks and events. One task of a world runs at a time."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from pijobs.testing.simulation import present
from pijobs.testing.simulation.world import Task


class Lock:
    """A lock of one process, quick if nobody waits."""

    def __init__(self) -> None:
        self._held = False
        self._waiting: list[Task] = []

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if not self._held:
            self._held = True
            return True
        return blocking and self._wait(timeout)

    def _wait(self, timeout: float) -> bool:
        here = present.here()
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
        self._held = True
        return True

    def release(self) -> None:
        if not self._held:
            raise RuntimeError("release unlocked lock")
        self._held = False
        while self._waiting:
            task = self._waiting.pop(0)
            if task.process.alive:
                present.here().unpark(task)
                return

    def locked(self) -> bool:
        return self._held

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        if self._held or not present.here().over:
            self.release()

    def __deepcopy__(self, memo: object) -> Lock:
        """The copy in a forked child. If the lock is held, it stays held: the child lacks the holding thread."""
        copied = self.__class__()
        copied._held = self._held
        return copied


class RLock(Lock):
    """A lock that its owner can take again."""

    def __init__(self) -> None:
        super().__init__()
        self._owner: Task | None = None
        self._depth = 0

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        current = None if present.world is None else present.world.current
        if self._held and self._owner is current:
            self._depth += 1
            return True
        if self._held and not (blocking and self._wait(timeout)):
            return False
        self._held, self._owner, self._depth = True, current, 1
        return True

    def release(self) -> None:
        self._depth -= 1
        if self._depth <= 0:
            self._owner = None
            super().release()


class Condition:
    """A condition with an :class:`RLock` of its own, or a given lock."""

    def __init__(self, lock: Lock | None = None) -> None:
        self._lock = lock or RLock()
        self.acquire, self.release = self._lock.acquire, self._lock.release
        self._waiting: list[Task] = []

    def __enter__(self) -> bool:
        return self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.__exit__()

    def wait(self, timeout: float | None = None) -> bool:
        here, depth = present.here(), getattr(self._lock, "_depth", 1)
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
        end = None if timeout is None else present.here().now + timeout
        while not (found := predicate()):
            left = None if end is None else end - present.here().now
            if left is not None and left <= 0:
                break
            self.wait(left)
        return found

    def notify(self, n: int = 1) -> None:
        for task in self._waiting[:n]:
            self._waiting.remove(task)
            present.here().unpark(task)

    def notify_all(self) -> None:
        self.notify(len(self._waiting))

    def __deepcopy__(self, memo: dict[int, Any]) -> Condition:
        return self.__class__(copy.deepcopy(self._lock, memo))


class Event:
    """A flag, with tasks that wait for it."""

    def __init__(self) -> None:
        self._flag = False
        self._waiting: list[Task] = []

    def is_set(self) -> bool:
        return self._flag

    def set(self) -> None:
        self._flag = True
        for task in self._waiting:
            present.here().unpark(task)
        self._waiting.clear()

    def clear(self) -> None:
        self._flag = False

    def wait(self, timeout: float | None = None) -> bool:
        here = present.here()
        if not self._flag:
            task = here.current
            assert task is not None
            self._waiting.append(task)
            if not here.park(None if timeout is None else max(0.0, timeout)) and task in self._waiting:
                self._waiting.remove(task)
        return self._flag

    def __deepcopy__(self, memo: object) -> Event:
        copied = self.__class__()
        copied._flag = self._flag
        return copied


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
    task = present.here().current
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

    def __deepcopy__(self, memo: object) -> Thread:
        """A thread that does not run: a fork copies no threads."""
        return self.__class__(name=self.name, daemon=self.daemon)

    def start(self) -> None:
        here = present.here()
        process = here.processes[0] if here.current is None else here.current.process
        self.task = here.start(process, self.run, self.name)
        self.task.local[0] = {"thread": self}

    def run(self) -> None:
        if self._target is not None:
            self._target(*self._args, **self._kwargs)

    def is_alive(self) -> bool:
        return self.task is not None and not self.task.ended

    def join(self, timeout: float | None = None) -> None:
        here = present.here()
        if self.is_alive():
            assert self.task is not None and here.current is not None
            self.task.waiting_for_end.append(here.current)
            here.park(timeout)

    @property
    def ident(self) -> int | None:
        return None if self.task is None else self.task.ident
