"""The storages of a history, and what happens on the way to them.

Each call to a storage takes a moment, before and after it is done, in which other tasks go on. On the way it may be
refused, get lost, or its answer may.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

from pijobs.errors import StorageUnavailable
from pijobs.jobs import State
from pijobs.storage.contract import Storage
from pijobs.storage.memory import MemoryStorage
from pijobs.testing.simulation.world import EPOCH, Host, Process, Task, World

#: Seconds that a call takes on its way, each way, and that one without a time-out of its own waits for its answer.
LATENCY, PATIENCE = 0.002, 1.0
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

    # -- what befalls it -----------------------------------------------------------------------------------------

    def remember(self) -> None:
        """What it holds now is what it will hold after :meth:`go_back`."""
        self._memory = copy.deepcopy(self._state())

    def go_back(self) -> None:
        vars(self.truth).update(self._memory)
        self.losses.append((self.world.now, "restored"))

    def empty(self) -> None:
        vars(self.truth).update({name: value for name, value in vars(self._make()).items() if name in self._state()})
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

    @property
    def protocol(self) -> int:  # type: ignore[override]
        return self._inner.protocol

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
        place, world = self._place, self._place.world
        patience = kwargs.get("timeout")
        patience = PATIENCE if patience is None else patience
        began = world.now
        self._travel(began, patience)
        self._arrive(name, began, patience)
        place.before_call()
        if name == "wait" and not place.waits_inside:
            place.wait(args[0])
            return None
        answer = getattr(self._inner, name)(*args, **kwargs)
        if not place.waits_inside and name not in _READS:
            place.changed()
        if name == "open_session":
            place.sessions[args[0].id] = self._process
        if name == "step":
            place.on_step(self._process, kwargs["want"], kwargs.get("floor"), answer)
        if name == "enqueue":
            place.doubts.append(args[0].id)
        if "deaf" in place.troubles and name != "wait":
            world.tell(f"{name} at the {place.name}: done, but the answer is lost")
            world.pause(max(0.0, patience - (world.now - began)))
            raise StorageUnavailable("the answer is lost")
        if world.random.random() < 0.5 or "slow" in place.troubles:
            self._travel(began, patience if name != "wait" else patience + PATIENCE)
        if name == "enqueue":
            place.doubts.remove(args[0].id)
        return answer

    def _travel(self, began: float, patience: float) -> None:
        world = self._place.world
        seconds = world.random.random() * LATENCY
        if "slow" in self._place.troubles:
            seconds += world.random.random() * 0.3
        if world.now - began + seconds > patience:
            world.pause(max(0.0, patience - (world.now - began)))
            raise StorageUnavailable("timed out")
        world.pause(seconds)

    def _arrive(self, name: str, began: float, patience: float) -> None:
        troubles = self._place.troubles
        if not troubles and not self._place.cut_off:
            return
        if "refused" in troubles:
            raise StorageUnavailable("connection refused")
        if "silent" in troubles or self._process in self._place.cut_off:
            self._place.world.pause(max(0.0, patience - (self._place.world.now - began)))
            raise StorageUnavailable("timed out")
        if "read-only" in troubles and name not in _READS and name != "wait":
            raise StorageUnavailable("READONLY You can't write against a read only replica.")
        if "full" in troubles and name in ("enqueue", "enqueue_periodic", "try_out"):
            raise StorageUnavailable("the disk is full")


def _forward(name: str) -> Any:
    def call(self: Remote, *args: Any, **kwargs: Any) -> Any:
        return self._call(name, args, kwargs)

    return call


for _name in (Storage.__abstractmethods__ | {"try_out", "diagnose"}) - _INSIDE - {"wait"}:
    setattr(Remote, _name, _forward(_name))
Remote.__abstractmethods__ = frozenset()
