"""The storages of a history, and the faults of calls to them.

Most calls take a moment before or after they are done, in which other tasks run. A call can be refused, or it or its
answer can be lost.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

from pijobs.errors import StorageFull, StorageUnavailable
from pijobs.jobs import State
from pijobs.storage.contract import Storage
from pijobs.storage.memory import MemoryStorage
from pijobs.testing.simulation.connections import LATENCY, PATIENCE, Connections
from pijobs.testing.simulation.world import EPOCH, Host, Process, Task, World

#: How often a call takes a moment before, and after. Each moment costs as much computing as the call.
BEFORE, AFTER = 0.6, 0.3
#: Methods that only read.
_READS = frozenset(
    (
        "ping",
        "diagnose",
        "get",
        "body",
        "page",
        "depths",
        "waiting",
        "oldest_due",
        "sessions",
        "group",
        "groups",
        "totals",
        "last_periodic",
    )
)
#: Methods that need no call.
_INSIDE = frozenset({"now", "close", "wake"})


class _Clock:
    def __init__(self, world: World, host: Host) -> None:
        self._world, self._host = world, host

    def time(self) -> float:
        return EPOCH + self._world.now + self._host.ahead

    def monotonic(self) -> float:
        return self._world.now

    def __deepcopy__(self, memo: object) -> _Clock:
        return self


class Place:
    """One storage with its faults; ``truth`` is the real one.

    :param host: its clock is the storage's clock.
    """

    #: Whether :meth:`Storage.wait` waits in virtual time.
    waits_inside = True
    #: Whether all processes share its connections.
    shares_connections = False

    def __init__(self, world: World, name: str, host: Host) -> None:
        self.world, self.name, self.host = world, name, host
        #: Present faults of calls: ``refused``, ``silent``, ``deaf`` (done, but the answer is lost), ``slow``,
        #: ``read-only``, ``full``.
        self.troubles: list[str] = []
        #: Processes whose calls do not arrive.
        self.cut_off: set[Process] = set()
        #: Ids that were, or may have been, enqueued without an answer to the caller.
        self.doubts: list[str] = []
        #: Losses of data: time and kind.
        self.losses: list[tuple[float, str]] = []
        #: Called after each step with (process, want, floor, answer).
        self.on_step: Callable[[Process, int, int | None, Any], None] = lambda *_: None
        #: Processes by session id.
        self.sessions: dict[str, Process] = {}
        self._memory: dict[str, Any] = {}
        self._waiting: list[Task] = []
        #: Whether it is a file, as spools are.
        self.is_file = name.startswith("spool")
        #: Whether each process reaches it by the connection pool that Redis and SQL have.
        self.has_connections = False
        self.truth = self._make()

    def _make(self) -> Storage:
        return MemoryStorage(self.name, clock=_Clock(self.world, self.host))

    def open(self, process: Process) -> Remote:
        """The storage as a process sees it."""
        return Remote(self, process, self.truth)  # type: ignore[abstract]

    def close(self) -> None:
        """Close the storage at the end of the history."""

    def time(self) -> float:
        return EPOCH + self.world.now + self.host.ahead

    def connections_of(self, process: Process) -> int:
        """Open connections to a file, which must not outlast a fork."""
        return 0

    def before_call(self) -> None:
        """Set the time of a storage that has a clock of its own."""

    def wait(self, timeout: float) -> None:
        """Wait in virtual time, instead of the storage."""
        task = self.world.current
        assert task is not None
        self._waiting.append(task)
        self.world.park(timeout)
        if task in self._waiting:
            self._waiting.remove(task)

    def changed(self) -> None:
        while self._waiting:
            self.world.unpark(self._waiting.pop())

    def judge_arrival(self, process: Process, name: str, began: float, patience: float) -> None:
        """Let a call arrive. :raises StorageUnavailable: if it does not, or is refused."""
        if "refused" in self.troubles:
            raise StorageUnavailable("connection refused")
        # Readers of a file do not wait for its lock.
        is_silent = "silent" in self.troubles and not (self.is_file and name in _READS)
        if is_silent or process in self.cut_off:
            self.world.pause(max(0.0, patience - (self.world.now - began)))
            raise StorageUnavailable("timed out")
        if "read-only" in self.troubles and name not in _READS and name != "wait":
            raise StorageUnavailable("READONLY You can't write against a read only replica.")
        # Not every server's error is recognised as a full disk.
        if "full" in self.troubles and name in ("enqueue_many", "enqueue_periodic", "try_out"):
            raise (StorageFull if self.world.seed % 2 else StorageUnavailable)("the disk is full")

    # -- what befalls it -----------------------------------------------------------------------------------------

    def remember(self) -> None:
        """Save the present state for :meth:`go_back`."""
        lock = self.truth._lock  # type: ignore[attr-defined]
        self._memory = copy.deepcopy(self._state(), {id(lock): lock})

    def go_back(self) -> None:
        vars(self.truth).update(self._memory)
        self.losses.append((self.world.now, "restored"))

    def empty(self) -> None:
        fresh = {name: value for name, value in vars(self._make()).items() if name in self._state()}
        # Keep the lock: tasks may wait for it.
        lock = fresh["_items"]._changed = self.truth._lock  # type: ignore[attr-defined]
        vars(self.truth).update(fresh, _lock=lock, _epoch=len(self.losses) + 2)
        self.losses.append((self.world.now, "emptied"))

    def _state(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self.truth).items() if name not in ("name", "_clock", "_retention")}

    def damage(self) -> str | None:
        """Damage the body of the instance that waits longest. Returns its id."""
        waiting = self.truth._items.of(State.QUEUED)  # type: ignore[attr-defined]
        if not waiting:
            return None
        waiting[0].body = b"spoilt"
        return str(waiting[0].new.id)


class Remote(Storage):
    """A storage as one process sees it."""

    def __init__(self, place: Place, process: Process, inner: Storage) -> None:
        self._place, self._process, self._inner = place, process, inner
        self.display_url, self.file = inner.display_url, inner.file
        self._pool = Connections(place.world, process, self._arrive).pool() if place.has_connections else None

    def __deepcopy__(self, memo: dict[int, Any]) -> Remote:
        """The copy of a forked child."""
        copied = memo[id(self)] = self._place.open(memo[id(self._process)])
        copied.protocol, copied._pool = self.protocol, copy.deepcopy(self._pool, memo)
        return copied

    def now(self, *, timeout: float = 0.2) -> int:
        return self._inner.now()

    def close(self) -> None:
        pass

    def wake(self) -> None:
        self._place.changed()
        if self._place.waits_inside:
            self._inner.wake()

    def wait(self, timeout: float, *, floor: int | None = None) -> None:
        self._call("wait", (timeout,), {"floor": floor})

    def _call(self, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        patience = kwargs.get("timeout")
        patience = PATIENCE if patience is None else patience
        if self._pool is None or name == "wait":
            return self._ask(name, args, kwargs, patience)
        began = self._place.world.now
        with self._pool.take(patience) as connection, connection.used_by(self._process):
            return self._ask(name, args, kwargs, max(0.0, patience - (self._place.world.now - began)))

    def _ask(self, name: str, args: Sequence[Any], kwargs: dict[str, Any], patience: float) -> Any:
        place, world = self._place, self._place.world
        began, chance = world.now, world.random.random
        if chance() < BEFORE or place.troubles:
            self._travel(began, patience)
        self._arrive(name, began, patience)
        place.before_call()
        if name == "wait" and not place.waits_inside:
            place.wait(args[0])
            return None
        answer = getattr(self._inner, name)(*args, **kwargs)
        self._note(name, args, kwargs, answer)
        if "deaf" in place.troubles and name != "wait":
            world.tell(f"{name} at the {place.name}: done, but the answer is lost")
            world.pause(max(0.0, patience - (world.now - began)))
            raise StorageUnavailable("the answer is lost")
        if chance() < AFTER or place.troubles:
            self._travel(began, patience if name != "wait" else patience + PATIENCE)
        if name == "enqueue_many":
            for new, _ in args[0]:
                place.doubts.remove(new.id)
        return answer

    def _arrive(self, name: str, began: float, patience: float) -> None:
        if self._place.troubles or self._place.cut_off:
            self._place.judge_arrival(self._process, name, began, patience)

    def _note(self, name: str, args: Sequence[Any], kwargs: dict[str, Any], answer: Any) -> None:
        """Note the effects of a call, also if its answer gets lost."""
        place = self._place
        if not place.waits_inside and name not in _READS:
            place.changed()
        if name == "step":
            place.on_step(self._process, kwargs["want"], kwargs.get("floor"), answer)
        elif name == "enqueue_many":
            place.doubts += [new.id for new, _ in args[0]]
            self.protocol = self._inner.protocol
        elif name == "open_session":
            place.sessions[args[0].id] = self._process
            self.protocol = self._inner.protocol

    def _travel(self, began: float, patience: float) -> None:
        world = self._place.world
        seconds = world.random.random() * LATENCY
        if "slow" in self._place.troubles:
            seconds += world.random.random() * 0.3
        if world.now - began + seconds > patience:
            world.pause(max(0.0, patience - (world.now - began)))
            raise StorageUnavailable("timed out")
        world.pause(seconds)


def _forward(name: str) -> Any:
    def call(self: Remote, *args: Any, **kwargs: Any) -> Any:
        return self._call(name, args, kwargs)

    return call


for _name in (Storage.__abstractmethods__ | {"try_out", "diagnose"}) - _INSIDE - {"wait"}:
    setattr(Remote, _name, _forward(_name))
Remote.__abstractmethods__ = frozenset()
