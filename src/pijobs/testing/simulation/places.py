"""The storages of a history, and what happens on the way to them.

Most calls to a storage take a moment, before they are done, or after, in which other tasks go on. On the way a call may
be refused, get lost, or its answer may.
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

#: How often a call takes a moment before it is done, and after. Each such moment costs as much as the call itself.
BEFORE, AFTER = 0.6, 0.3
#: What asks and changes nothing.
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
#: What works without an answer.
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
    """One storage: what is true of it, and what befalls it.

    :param host: whose clock is the storage's.
    """

    #: Whether :meth:`Storage.wait` waits for virtual time only.
    waits_inside = True
    #: Whether all processes reach it over the same connections.
    shares_connections = False

    def __init__(self, world: World, name: str, host: Host) -> None:
        self.world, self.name, self.host = world, name, host
        #: What befalls the calls now: ``refused``, ``silent``, ``deaf`` (done, but the answer gets lost), ``slow``,
        #: ``read-only``, ``full``.
        self.troubles: list[str] = []
        #: Processes whose calls do not arrive.
        self.cut_off: set[Process] = set()
        #: Ids whose enqueue was done, or may have been, without that its caller heard of it.
        self.doubts: list[str] = []
        #: What it lost, and when.
        self.losses: list[tuple[float, str]] = []
        #: Told of each step: (process, want, floor, answer).
        self.on_step: Callable[[Process, int, int | None, Any], None] = lambda *_: None
        #: Session ids by process.
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
        """As one process sees it."""
        return Remote(self, process, self.truth)  # type: ignore[abstract]

    def close(self) -> None:
        """The history is over."""

    def time(self) -> float:
        return EPOCH + self.world.now + self.host.ahead

    def connections_of(self, process: Process) -> int:
        """Open connections to a file, which must not outlast a fork."""
        return 0

    def before_call(self) -> None:
        """Hand in the time, where it is not asked for."""

    def wait(self, timeout: float) -> None:
        """In the place of a storage that would wait in real time."""
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
        """Whether a call arrives. :raises StorageUnavailable: it does not, or is turned away."""
        if "refused" in self.troubles:
            raise StorageUnavailable("connection refused")
        # Who reads from a file does not wait for who has locked it.
        is_silent = "silent" in self.troubles and not (self.is_file and name in _READS)
        if is_silent or process in self.cut_off:
            self.world.pause(max(0.0, patience - (self.world.now - began)))
            raise StorageUnavailable("timed out")
        if "read-only" in self.troubles and name not in _READS and name != "wait":
            raise StorageUnavailable("READONLY You can't write against a read only replica.")
        # Not every server is understood when it says so.
        if "full" in self.troubles and name in ("enqueue_many", "enqueue_periodic", "try_out"):
            raise (StorageFull if self.world.seed % 2 else StorageUnavailable)("the disk is full")

    # -- what befalls it -----------------------------------------------------------------------------------------

    def remember(self) -> None:
        """What it holds now is what it will hold after :meth:`go_back`."""
        lock = self.truth._lock  # type: ignore[attr-defined]
        self._memory = copy.deepcopy(self._state(), {id(lock): lock})

    def go_back(self) -> None:
        vars(self.truth).update(self._memory)
        self.losses.append((self.world.now, "restored"))

    def empty(self) -> None:
        fresh = {name: value for name, value in vars(self._make()).items() if name in self._state()}
        # Whoever waits for it holds the lock that it had.
        lock = fresh["_items"]._changed = self.truth._lock  # type: ignore[attr-defined]
        vars(self.truth).update(fresh, _lock=lock, _epoch=len(self.losses) + 2)
        self.losses.append((self.world.now, "emptied"))

    def _state(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self.truth).items() if name not in ("name", "_clock", "_retention")}

    def damage(self) -> str | None:
        """Spoil the body of what waits longest, and give its id."""
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
        """As a forked child has it."""
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
        """What was done, whether or not the caller will hear of it."""
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
