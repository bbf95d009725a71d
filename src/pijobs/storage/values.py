"""The values that a storage takes and returns: calls, leases and their ends.

Times are whole milliseconds since the epoch on the storage's own clock, durations are milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from pijobs.jobs import State
from pijobs.storage.texts import storable_json, storable_name, storable_text

OnConflict = Literal["replace", "keep", "error"]
LossKind = Literal["emptied", "restored"]
#: What an enqueue waits for: the setting of the server, its disk, or a replica.
Durability = Literal["server", "disk", "replica"]

#: An instance that crashed its workers this often ends ``dead`` (DESIGN: poison jobs).
MAX_CRASHES = 3
#: The beginning of the history line with the progress of a running attempt.
PROGRESS = '{"event":"progress"'
#: At most this many instances are stored in one operation.
BATCH = 100
#: At most this many instances per kind of recovery and call, so that no call takes long.
HOUSEKEEPING_BATCH = 100
#: A backlog of housekeeping is counted up to this number.
MOST_COUNTED = 20_000
#: History lines kept per instance; the oldest are removed first.
MAX_HISTORY = 50
#: A recorded due time that is so far (ms) in the future was recorded while the clock was wrong, and does not count.
#: Debian's cron ignores smaller steps of the clock, too.
TAKEN_AHEAD = 3 * 3600 * 1000
#: Reasons of instances that came back to the queue (the scripts of Redis have the same).
GIVEN_BACK = "given back at shutdown"
UNTOLD = "its worker was not told of the lease, or its end got lost"
#: Processes estimate the storage's clock: two instances created within so many ms may have come in either order.
SAME_TIME = 200
#: The newest waiting instances of a job in each state, one of which is dropped to make room.
LOOKED_AT = 200
#: Groups on one page of them.
GROUPS = 1000
#: Totals kept per queue; later ones with new names are refused.
MAX_TOTALS = 10_000
#: The total of refused ones; it is never refused.
LEFT_OUT = "pijobs_totals_left_out_total"


@dataclass(frozen=True, slots=True)
class Retention:
    """How long records of ended instances stay (ms, and a number per job)."""

    finished: int = 24 * 3600 * 1000
    finished_max: int = 10_000
    dead: int = 7 * 24 * 3600 * 1000


def is_newer(created: int, other: int, now: int) -> bool:
    """Whether the call that was created at one time (ms) is certainly newer than the other. Of two at about the same
    time, the one that was stored later is newer."""

    def believed(time: int) -> int:
        # A creation in the future comes from a wrong clock.
        return time if time <= now + 1000 else 0

    return believed(created) > believed(other) + SAME_TIME


class NewInstance(msgspec.Struct, frozen=True):
    """One call of a job, ready to be stored."""

    id: str
    name: str
    #: Authenticated, never changes; opaque here.
    envelope: bytes
    #: Encrypted; opaque here.
    body: bytes
    group: str
    priority: int = 0
    created: int = 0
    #: When it ends ``expired``: its deadline, or, without one, the limit of its age.
    deadline: int | None = None
    #: Not before this time; in the past or None: at once.
    due: int | None = None
    #: HMAC of a unique key; unique among the waiting (queued, scheduled) instances of a queue.
    key: str | None = None
    #: HMAC of its subject, such as the recipient, to find it by.
    subject: str | None = None
    #: How many instances of a group not seen before may run at once; None: no limit. A group that the storage
    #: knows already keeps its own limit.
    limit: int | None = None
    #: Overrides :attr:`Retention.finished` for this instance.
    keep: int | None = None
    #: For people, masked; it stays in the record when the body goes.
    label: str | None = None
    #: HMAC of the person whom it is for, to find it by.
    person: str | None = None

    def __post_init__(self) -> None:
        if (group := storable_name(self.group)) is not self.group:
            msgspec.structs.force_setattr(self, "group", group)


class Stored(msgspec.Struct, frozen=True):
    """Answer of :meth:`Storage.enqueue`."""

    #: Differs from the requested id only with ``on_conflict="keep"``: then it is the instance that already waits.
    id: str
    state: State
    #: False when the instance (or, with "keep", one with the same key) was there before.
    fresh: bool
    #: The instance that was cancelled by ``on_conflict="replace"``.
    replaced: str | None = None


class Lease(msgspec.Struct, frozen=True):
    """A lease: an instance that one session may run now."""

    id: str
    #: Proves the lease; another lease of the same instance has another token.
    token: str
    name: str
    envelope: bytes
    body: bytes
    group: str
    priority: int
    #: Counted attempts before this one.
    attempts: int
    crashes: int
    #: The first of the last consecutive ends that did not count and set a due time; None: the last one counted.
    held_since: int | None
    #: When it last became due; :attr:`leased` minus this is the time it waited.
    due: int
    leased: int


class End(msgspec.Struct, frozen=True):
    """The end of a lease: one transition out of ``running``."""

    id: str
    token: str
    #: DONE, DEAD, EXPIRED; SCHEDULED (another attempt at :attr:`due`; or this worker can't run it, not counted); QUEUED
    #: (given back: at once, or deferred until :attr:`due` for :attr:`reason`, still as ``queued``).
    state: State
    #: Whether the attempt counts.
    counted: bool = True
    due: int | None = None
    #: For people; already redacted.
    reason: str | None = None
    #: Class name of the error.
    error: str | None = None
    #: One JSON object for the history; opaque here.
    entry: str | None = None
    #: Replace envelope and body, for a next attempt with other arguments; of DONE: the result, in their place.
    body: bytes | None = None
    envelope: bytes | None = None

    def __post_init__(self) -> None:
        if self.reason is not None:
            msgspec.structs.force_setattr(self, "reason", storable_text(self.reason))
        if self.error is not None:
            msgspec.structs.force_setattr(self, "error", storable_text(self.error, 255))
        if self.entry is not None:
            msgspec.structs.force_setattr(self, "entry", storable_json(self.entry))


@dataclass(frozen=True, slots=True)
class Ended:
    """A transition that the storage made by itself (recovered, expired, crashed too often), for log and observers."""

    id: str
    name: str
    group: str
    #: QUEUED (recovered after a crash), DEAD (crashed too often, or damaged), EXPIRED, or CANCELLED (superseded).
    state: State
    attempts: int
    crashes: int
    reason: str

    @property
    def crashed(self) -> bool:
        """Whether its worker died."""
        return self.state is State.QUEUED or (self.state is State.DEAD and not self.reason.startswith("damaged: "))


@dataclass(frozen=True, slots=True)
class Step:
    """Answer of :meth:`Storage.step`."""

    leases: list[Lease]
    #: Ids of the ends whose lease was no longer held; they changed nothing.
    lost: list[str]
    #: When the next scheduled (or held) instance becomes due; None if there is none.
    next_due: int | None
    ended: list[Ended] = field(default_factory=list)


class Pause(msgspec.Struct, frozen=True):
    """Who paused the queue or a group, when and why."""

    #: None: a release that does not record it paused it.
    at: int | None = None
    by: str = ""
    #: For people; already redacted.
    reason: str = ""

    def __post_init__(self) -> None:
        for name in ("by", "reason"):
            msgspec.structs.force_setattr(self, name, storable_text(getattr(self, name)))

    def dump(self) -> str:
        """The text that a storage keeps."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def load(cls, text: str | bytes | None) -> Pause:
        """Reads what :meth:`dump` wrote; anything else is a pause without details."""
        try:
            return msgspec.json.decode(text or b"", type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return cls()


def to_bypass(
    new: Iterable[NewInstance], groups: Collection[str], now: int, *, waits: Callable[[str], bool]
) -> list[str]:
    """Ids of those that are due now and whose group is bypassed. If another one with the same key waits, the queue
    decides about both; otherwise both would happen, the older one last.

    :param groups: "" stands for all.
    :param waits: whether an instance with this key waits.
    """
    due = (one for one in new if (one.due is None or one.due <= now) and ("" in groups or one.group in groups))
    return [one.id for one in due if one.key is None or not waits(one.key)]


def whole(value: Any) -> int | None:
    """A number that a storage keeps with a group; None for anything else, because a damaged record must not keep the
    group's instances from ending."""
    try:
        return None if value is None else int(value)
    except (TypeError, ValueError, OverflowError):
        return None
