"""The effect of each transition on the row of an instance. This module contains no SQL.

A row is read, changed by one of these functions, and written back in the same transaction.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields

from pijobs.storage.records import Record
from pijobs.storage.sql.schema import CODE_OF, ENDED, WAITING, Code
from pijobs.storage.values import MAX_CRASHES, MAX_HISTORY, PROGRESS, End, Ended, Lease, Retention, is_newer


@dataclass(slots=True)
class Row:
    """One instance, in the order of :data:`COLUMNS`. ``body`` is read by a lease only."""

    seq: int
    id: str
    name: str
    state: int
    grp: str
    priority: int
    created: int
    enqueued: int
    place: int
    deadline: int | None
    due: int
    alarm: int | None
    attend: int | None
    attempts: int
    crashes: int
    started: int | None
    ended: int | None
    session: str | None
    token: str | None
    ukey: str | None
    unique_key: str | None
    lim: int | None
    keep: int | None
    held_since: int | None
    reason: str | None
    error: str | None
    history: str | None
    label: str | None
    envelope: bytes
    has_body: bool
    body: bytes | None = None
    #: Whether to write :attr:`body` and the envelope.
    new_body: bool = False

    @property
    def lane(self) -> int | None:
        return None if self.alarm is None else self.priority

    @property
    def wants_its_key(self) -> bool:
        """Whether it waits again, and does not hold its key yet."""
        return self.state in WAITING and self.unique_key is not None and self.ukey is None

    def is_newer_than(self, other: Row, now: int) -> bool:
        """Whether it is the newer call."""
        mine, others = self.created, other.created
        return is_newer(mine, others, now) or (not is_newer(others, mine, now) and self.seq > other.seq)

    def damage(self) -> str | None:
        """The first invalid field, or None."""
        for name, kinds in KINDS.items():
            if not isinstance(getattr(self, name), kinds):
                return name
        if self.state not in CODES:
            return "state"
        return None if self.history is None or _is_list(self.history) else "history"

    def make_sound(self, now_us: int) -> None:
        """Replace invalid fields by valid ones."""
        plain = {"name": "damaged.instance", "created": now_us // 1000, "due": now_us // 1000, "enqueued": now_us}
        for name, kinds in KINDS.items():
            if not isinstance(getattr(self, name), kinds):
                usual = self.name if name == "grp" else 0 if type(None) not in kinds else None
                setattr(self, name, plain.get(name, b"" if name == "envelope" else usual))
        if self.history is not None and not _is_list(self.history):
            self.history = None
        self.session = None

    def overdue(self, now: int) -> bool:
        return self.deadline is not None and self.deadline <= now

    def note(self, entry: str) -> None:
        lines = [*json.loads(self.history or "[]"), entry]
        self.history = json.dumps(lines[-MAX_HISTORY:])

    def note_progress(self, entry: str) -> None:
        lines = json.loads(self.history or "[]")
        if lines and lines[-1].startswith(PROGRESS):
            self.history = json.dumps(lines[:-1])
        self.note(entry)

    def set_body(self, body: bytes | None) -> None:
        self.body, self.has_body, self.new_body = body, body is not None, True

    def ended_as(self, reason: str) -> Ended:
        return Ended(self.id, self.name, self.grp, Code(self.state).state, self.attempts, self.crashes, reason)

    def record(self) -> Record:
        if self.damage():
            # Nobody has read it yet, and parked it.
            self.make_sound(0)
            self.state = self.state if self.state in CODES else Code.DEAD
        return Record(
            self.id, self.name, Code(self.state).state, self.grp, self.priority, self.created, self.deadline, self.due,
            self.attempts, self.crashes, self.started, self.ended, self.reason, self.error, self.session,
            tuple(json.loads(self.history or "[]")), self.envelope, bool(self.has_body),
            self.label,
        )  # fmt: skip

    def lease(self, token: str, leased: int) -> Lease:
        return Lease(
            self.id, token, self.name, self.envelope, self.body or b"", self.grp, self.priority, self.attempts,
            self.crashes, self.held_since, self.due, leased,
        )  # fmt: skip


def _is_list(history: str) -> bool:
    try:
        lines = json.loads(history)
    except ValueError:
        return False
    return isinstance(lines, list) and all(isinstance(line, str) for line in lines)


CODES = frozenset(map(int, Code))
_NUMBER, _TEXT, _NONE = (int,), (str,), (type(None),)
#: The valid values of each field; SQLite stores anything in any column.
KINDS: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("state", "priority", "created", "enqueued", "place", "due", "attempts", "crashes"), _NUMBER),
    **dict.fromkeys(
        ("deadline", "alarm", "attend", "started", "ended", "lim", "keep", "held_since"), (*_NUMBER, *_NONE)
    ),
    **dict.fromkeys(("name", "grp"), _TEXT),
    **dict.fromkeys(("session", "token", "ukey", "unique_key", "reason", "error", "history"), (*_TEXT, *_NONE)),
    "envelope": (bytes,),
}  # fmt: skip
#: What else parking writes.
RESTORED = (
    "name",
    "grp",
    "priority",
    "created",
    "enqueued",
    "deadline",
    "started",
    "lim",
    "keep",
    "unique_key",
    "envelope",
)

#: The columns of the table that are read into a row; ``has_body`` and ``body`` are computed or left out.
COLUMNS = tuple(field.name for field in fields(Row) if field.name not in ("has_body", "body", "new_body"))
#: What a transition may change, besides the body.
MOVED = (
    "state", "place", "due", "alarm", "lane", "attend", "attempts", "crashes", "ended", "session", "token", "ukey",
    "held_since", "reason", "error", "history",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Arrows:
    """The transitions at one moment (microseconds), with one retention."""

    now_us: int
    retention: Retention

    @property
    def now(self) -> int:
        return self.now_us // 1000

    def finish(self, row: Row, code: Code, reason: str | None, error: str | None = None, *, nth: int = 0) -> Ended:
        """To one of the ended states; ``nth`` keeps the order of those that end together."""
        row.state, row.ended, row.place = code, self.now, self.now_us + nth
        row.token = row.session = row.ukey = row.alarm = None
        row.reason, row.error = reason, error
        if code is not Code.DEAD:
            row.set_body(None)
        row.attend = self.attend(row)
        return row.ended_as(reason or "")

    def attend(self, row: Row) -> int | None:
        """When housekeeping must look at this row."""
        if row.state in WAITING:
            return row.deadline
        if row.ended is None or row.state not in ENDED:
            return None
        if row.state != Code.DEAD:
            return row.ended + (self.retention.finished if row.keep is None else row.keep)
        gone = row.ended + self.retention.dead
        return min(gone, row.deadline) if row.has_body and row.deadline is not None else gone

    def back(self, row: Row, code: Code, due: int) -> None:
        """To one of the waiting states, with the old rank."""
        row.state, row.due, row.place, row.ended = code, due, row.enqueued, None
        row.alarm = None if code is Code.QUEUED else due
        row.token = row.session = None
        row.attend = row.deadline

    def promote(self, row: Row) -> None:
        row.state, row.alarm = Code.QUEUED, None

    def expire(self, row: Row) -> Ended:
        return self.finish(row, Code.EXPIRED, "the deadline passed while it waited")

    def crash(self, row: Row, *, alone: bool = True) -> Ended:
        """:param alone: whether it was the only instance in that process, so that only this one can have crashed it."""
        row.note(json.dumps({"at": self.now, "event": "crashed", "session": row.session}))
        row.crashes += 1
        if row.overdue(self.now):
            return self.finish(row, Code.EXPIRED, "the deadline passed when its worker had died")
        if alone and row.crashes >= MAX_CRASHES:
            return self.finish(row, Code.DEAD, f"took down its workers {row.crashes} times")
        row.reason = f"its worker died (session {row.session})"
        self.back(row, Code.QUEUED, self.now)
        return row.ended_as(row.reason)

    def carry_out(self, row: Row, end: End, *, nth: int) -> None:
        row.attempts += end.counted
        if end.entry is not None:
            row.note(end.entry)
        if end.body is not None:
            row.set_body(end.body)
            row.envelope = end.envelope or row.envelope
        held = not end.counted and end.due is not None
        row.held_since = (row.held_since or self.now) if held else None
        code = CODE_OF[end.state]
        if code in ENDED:
            self.finish(row, code, end.reason, end.error, nth=nth)
            if code is Code.DONE and end.body is not None:
                row.set_body(end.body)
            return
        row.reason, row.error = end.reason, end.error
        due = self.now if end.due is None else end.due
        self.back(row, Code.HELD if code is Code.QUEUED and due > self.now else code, due)

    def retry(self, row: Row) -> None:
        row.attempts = row.crashes = 0
        row.reason = row.error = row.held_since = None
        self.back(row, Code.QUEUED, self.now)
