"""The usual enqueue in one statement, which is a transaction by itself: one round trip instead of four.

It does the same as :func:`pijobs.storage.sql.inserts.enqueue_many` for a new instance whose group exists and whose key
is free, and nothing otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, bindparam, case, exists, func, literal_column, or_, select, type_coerce
from sqlalchemy.dialects import postgresql

from pijobs.storage.sql.connection import Statement
from pijobs.storage.sql.dialects.dialect import Dialect
from pijobs.storage.sql.schema import RANK_STEP, Code, group, instance, queue
from pijobs.storage.values import NewInstance, Stored

if TYPE_CHECKING:
    from pijobs.storage.sql.transactions import Tx

I, G = instance.c, group.c  # noqa: E741


def statement(dialect: Dialect) -> Statement:
    """For PostgreSQL. Returns the time at the server (microseconds) and the state; no row: nothing was done."""
    zero: Any = literal_column("0")
    # A group that only a pause created has no limit yet; the first instance sets it.
    complete = or_(G.lim.is_not(None), G.version != zero, bindparam("lim", type_=I.lim.type).is_(None))
    bypassed = exists().where(queue.c.name == bindparam("queue"), queue.c.bypass.is_not(None))
    looked = (
        select(type_coerce(dialect.clock, BigInteger).label("now_us"))
        .where(G.queue == bindparam("queue"), G.name == bindparam("grp"), complete, ~bypassed)
        .with_for_update(read=True, key_share=True)
        .subquery()
    )
    values = _values(looked.c.now_us)
    insert = postgresql.insert(instance).from_select(list(values), select(*values.values()).select_from(looked))
    return Statement(insert.on_conflict_do_nothing().returning(I.enqueued, I.state))


def _values(now_us: Any) -> dict[str, Any]:
    """By column. :param now_us: the time at the server."""
    zero: Any = literal_column("0")
    given = ("queue", "id", "name", "grp", "priority", "created", "deadline", "due", "ukey", "subject", "lim", "keep")
    values: dict[str, Any] = {
        name: bindparam(name, type_=I[name].type) for name in (*given, "label", "person", "envelope", "body")
    }
    due, now = values["due"], now_us // literal_column("1000", BigInteger)
    later = due > now
    return values | {
        "state": case((later, literal_column(str(int(Code.SCHEDULED)))), else_=literal_column(str(int(Code.QUEUED)))),
        "rank": now_us - values["priority"] * literal_column(str(RANK_STEP)),
        "enqueued": now_us,
        "place": now_us,
        "due": func.greatest(now, due),
        "alarm": case((later, due)),
        "lane": case((later, values["priority"])),
        "attend": values["deadline"],
        "attempts": zero,
        "crashes": zero,
        "unique_key": values["ukey"],
    }


def enqueue(tx: Tx, new: NewInstance) -> Stored | None:
    """Store it; None: nothing was done, because something prevents it."""
    assert tx.st.at_once is not None
    found = tx.timed_rows(
        tx.st.at_once, id=new.id, name=new.name, grp=new.group, priority=new.priority, created=new.created,
        deadline=new.deadline, due=new.due, ukey=new.key, subject=new.subject, lim=new.limit, keep=new.keep,
        label=new.label, person=new.person, envelope=new.envelope, body=new.body,
    )  # fmt: skip
    return Stored(new.id, Code(found[0][1]).state, fresh=True) if found else None
