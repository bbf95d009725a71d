"""The tables, and how they store a state. An instance is one row. Each search for rows has its own index, so that
nothing scans; see the comments at the indexes. Two columns exist only for that:

* ``alarm``: when a held or scheduled instance becomes due; NULL for all others.
* ``attend``: when housekeeping must look at the row: the deadline of a waiting instance or of a dead letter's body, or
the end of retention; NULL while it runs.

``place`` and ``enqueued`` are microseconds, so that instances that end or come within a millisecond keep their order;
all other times are milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    literal_column,
)
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.types import TypeEngine

from pijobs.jobs import State
from pijobs.storage import protocol

#: The protocol of new tables: the previous release works with them, too. See :mod:`pijobs.storage.protocol`.
FIRST_VERSION = protocol.FIRST

#: Grows when a column or an index is added that earlier releases can do without. 1: ``unique_key``, ``lane``,
#: ``keep_until``. 2: ``label``. 3: ``pause``. 4: the indexes of :data:`NEW_INDEXES`. 5: that of ``unique_key``.
#: 6: ``person``. 7: ``bypass``.
ADDITIONS = 7

#: ``rank = -priority * RANK_STEP + enqueued``: one ascending number gives the order. Microseconds since the epoch stay
#: below it until the year 2112, and 1000 times it fits into 64 bits.
RANK_STEP = 2**52


class Code(IntEnum):
    """A state as it is stored. ``HELD`` is ``queued`` for people, but not to be leased before ``alarm``."""

    QUEUED = 0
    HELD = 1
    SCHEDULED = 2
    RUNNING = 3
    DONE = 4
    DEAD = 5
    EXPIRED = 6
    CANCELLED = 7

    @property
    def state(self) -> State:
        return State.QUEUED if self is Code.HELD else State[self.name]


#: The states without HELD under their own names.
CODE_OF = {state: Code[state.name] for state in State}
WAITING = frozenset({Code.QUEUED, Code.HELD, Code.SCHEDULED})
FINISHED = (Code.DONE, Code.EXPIRED, Code.CANCELLED)
ENDED = frozenset({*FINISHED, Code.DEAD})


def codes_of(state: State) -> tuple[Code, ...]:
    """All codes that are this state for people."""
    return (Code.QUEUED, Code.HELD) if state is State.QUEUED else (CODE_OF[state],)


def _name(length: int) -> TypeEngine[Any]:
    # By default, MariaDB indexes no unlimited text and ignores case, and PostgreSQL compares by the rules of a
    # language, which is slow.
    return _plain_text().with_variant(
        mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin"), "mysql", "mariadb"
    )


def _plain_text() -> TypeEngine[Any]:
    return Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def _text() -> TypeEngine[Any]:
    return Text().with_variant(mysql.MEDIUMTEXT(charset="utf8mb4", collation="utf8mb4_bin"), "mysql", "mariadb")


def _bytes() -> TypeEngine[Any]:
    return LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb")


def _queue() -> Column[Any]:
    return Column("queue", _name(100), nullable=False)


def _number(name: str, *, nullable: bool = True) -> Column[Any]:
    return Column(name, BigInteger, nullable=nullable)


metadata = MetaData()
_INNODB: Mapping[str, Any] = {"mysql_engine": "InnoDB", "mariadb_engine": "InnoDB"}

meta = Table(
    "pijobs_meta", metadata, Column("name", _name(100), primary_key=True), _number("value", nullable=False), **_INNODB
)

queue = Table(
    "pijobs_queue",
    metadata,
    Column("name", _name(100), primary_key=True),
    Column("paused", SmallInteger, nullable=False),
    # Who paused it, when and why, as JSON.
    Column("pause", _text()),
    # By group ("" for all), who bypasses it, when and why, as JSON; NULL: nobody.
    Column("bypass", _text()),
    _number("seen"),
    **_INNODB,
)

group = Table(
    "pijobs_group",
    metadata,
    _queue(),
    Column("name", _name(512), nullable=False),
    _number("lim"),
    _number("blocked_until"),
    Column("paused", SmallInteger, nullable=False),
    Column("pause", _text()),
    Column("policy", _text(), nullable=False),
    _number("version", nullable=False),
    # Not removed before, even if nothing uses it.
    _number("keep_until"),
    PrimaryKeyConstraint("queue", "name"),
    **_INNODB,
)

session = Table(
    "pijobs_session",
    metadata,
    _queue(),
    Column("id", _name(255), nullable=False),
    _number("started", nullable=False),
    _number("seen", nullable=False),
    _number("until", nullable=False),
    # SessionInfo as JSON.
    Column("info", _text(), nullable=False),
    PrimaryKeyConstraint("queue", "id"),
    **_INNODB,
)

periodic = Table(
    "pijobs_periodic",
    metadata,
    _queue(),
    Column("name", _name(255), nullable=False),
    _number("due", nullable=False),
    PrimaryKeyConstraint("queue", "name"),
    **_INNODB,
)

counter = Table(
    "pijobs_counter",
    metadata,
    _queue(),
    Column("name", _name(512), nullable=False),
    # The times of the events in the window, as JSON.
    Column("times", _text(), nullable=False),
    # When the last of them leaves the window.
    _number("until", nullable=False),
    PrimaryKeyConstraint("queue", "name"),
    **_INNODB,
)

total = Table(
    "pijobs_total",
    metadata,
    _queue(),
    Column("name", _name(512), nullable=False),
    Column("value", Double, nullable=False),
    PrimaryKeyConstraint("queue", "name"),
    **_INNODB,
)

instance = Table(
    "pijobs_instance",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    _queue(),
    Column("id", _name(255), nullable=False),
    Column("name", _name(255), nullable=False),
    Column("state", SmallInteger, nullable=False),
    Column("grp", _name(512), nullable=False),
    Column("priority", Integer, nullable=False),
    _number("rank", nullable=False),
    _number("created", nullable=False),
    _number("enqueued", nullable=False),
    # Order on the pages: enqueued, or when it ended.
    _number("place", nullable=False),
    _number("deadline"),
    _number("due", nullable=False),
    _number("alarm"),
    # The priority of what has an alarm: what becomes due together is promoted by it.
    Column("lane", Integer),
    _number("attend"),
    Column("attempts", Integer, nullable=False),
    Column("crashes", Integer, nullable=False),
    _number("started"),
    _number("ended"),
    Column("session", _name(255)),
    Column("token", _name(64)),
    # The unique key while the instance waits; below it, the key that it has for good.
    Column("ukey", _name(255)),
    Column("unique_key", _name(255)),
    Column("subject", _name(255)),
    Column("label", _text()),
    Column("person", _name(255)),
    _number("lim"),
    _number("keep"),
    _number("held_since"),
    Column("reason", _text()),
    Column("error", _name(255)),
    # A JSON list of strings; NULL: none yet.
    Column("history", _text()),
    Column("envelope", _bytes(), nullable=False),
    Column("body", _bytes()),
    UniqueConstraint("queue", "id", name="pijobs_instance_id"),
    **_INNODB,
)

_c = instance.c
# What is leased next in a group, and how many of it run or wait.
Index("pijobs_instance_lease", _c.queue, _c.state, _c.grp, _c.rank, _c.seq)
# What is leased next in any group.
_queued = _c.state == literal_column(str(int(Code.QUEUED)))
Index(
    "pijobs_instance_front", _c.queue, _c.state, _c.rank, _c.seq, _c.grp,
    sqlite_where=_queued, postgresql_where=_queued,
)  # fmt: skip
# Pages of a state; of a state and a name, which is also counted; of a state and a group; of a state and a subject.
Index("pijobs_instance_state", _c.queue, _c.state, _c.place, _c.seq)
Index("pijobs_instance_name", _c.queue, _c.name, _c.state, _c.place, _c.seq, _c.due)
Index("pijobs_instance_group", _c.queue, _c.grp, _c.state, _c.place, _c.seq)
# Which blocked group may run again next.
Index("pijobs_group_blocked", group.c.queue, group.c.blocked_until)


def _partial(name: str, column: Column[Any], *columns: Column[Any], unique: bool = False) -> None:
    there = column.is_not(None)
    Index(name, _c.queue, column, *columns, unique=unique, sqlite_where=there, postgresql_where=there)


_partial("pijobs_instance_subject", _c.subject, _c.state, _c.place, _c.seq)
_partial("pijobs_instance_person", _c.person, _c.state, _c.place, _c.seq)
_partial("pijobs_instance_alarm", _c.alarm)
_partial("pijobs_instance_lane", _c.lane, _c.alarm)
_partial("pijobs_instance_attend", _c.attend)
# Only a waiting instance has a key.
_partial("pijobs_instance_key", _c.ukey, unique=True)
# The last instance that was stored with a key, in any state.
_partial("pijobs_instance_newest", _c.unique_key, _c.seq)

#: Columns that the tables of an earlier release lack.
ADDED: tuple[Column[Any], ...] = (
    _c.unique_key, _c.lane, group.c.keep_until, _c.label, queue.c.pause, group.c.pause, _c.person, queue.c.bypass,
)  # fmt: skip
#: Indexes that the tables of an earlier release lack, besides those of these columns.
NEW_INDEXES = ("pijobs_instance_front", "pijobs_group_blocked")
#: Statements that fill them for existing rows.
FILLED = (
    "UPDATE pijobs_instance SET unique_key = ukey WHERE ukey IS NOT NULL AND unique_key IS NULL",
    "UPDATE pijobs_instance SET lane = priority WHERE alarm IS NOT NULL AND lane IS NULL",
)
