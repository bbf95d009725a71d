"""Statements on single instances: store, find, move, take out."""

from __future__ import annotations

from sqlalchemy import and_, bindparam, case, delete, literal_column, or_, select, true, update

from pijobs.storage.sql import at_once
from pijobs.storage.sql.arrows import MOVED, RESTORED
from pijobs.storage.sql.connection import Statement
from pijobs.storage.sql.dialects.dialect import Dialect
from pijobs.storage.sql.schema import Code, group, instance, periodic
from pijobs.storage.sql.statements.parts import IN_QUEUE, ROW, RUNNING, G, I, Q, code_of, skipping

INSTANCE_COLUMNS = tuple(
    column.name
    for column in instance.columns
    if column.name not in ("seq", "started", "ended", "session", "token", "held_since", "reason", "error", "history")
)

#: What makes a :class:`~pijobs.storage.values.NewInstance`, in the order of its fields.
NEW_COLUMNS = (
    "id", "name", "envelope", "body", "grp", "priority", "created", "deadline", "due", "ukey", "subject", "lim", "keep",
    "label", "person",
)  # fmt: skip


class InstanceStatements:
    """Instances: store, find, move, take out."""

    def __init__(self, dialect: Dialect) -> None:
        self._look(dialect)
        self._finding(dialect)
        self._changes()
        self._moves_out()
        self._periodic(dialect)

    def _look(self, dialect: Dialect) -> None:
        known = and_(G.queue == bindparam("queue"), G.name == bindparam("grp"))
        seen = select(Q.seen).where(Q.name == bindparam("queue")).scalar_subquery()
        # The lock of a foreign key: it only keeps housekeeping from removing the group.
        # A group that only a pause created has no limit yet.
        unlimited = case(
            (and_(G.lim.is_(None), G.version == literal_column("0")), literal_column("1")), else_=literal_column("0")
        )
        bypass = select(Q.bypass).where(Q.name == bindparam("queue")).scalar_subquery()
        look = select(dialect.clock, seen, unlimited, bypass).where(known)
        self.look = Statement(look if dialect.one_writer else look.with_for_update(read=True, key_share=True, of=group))

    def _finding(self, dialect: Dialect) -> None:
        self.insert = Statement(dialect.insert_new(instance), INSTANCE_COLUMNS)
        self.at_once = at_once.statement(dialect) if dialect.enqueues_at_once else None
        by_id = ROW.where(IN_QUEUE, I.id == bindparam("id"))
        self.get = Statement(by_id)
        self.by_id = Statement(by_id.with_for_update())
        self.by_key = Statement(ROW.where(IN_QUEUE, I.ukey == bindparam("ukey")).with_for_update())
        not_cancelled = I.state != code_of(Code.CANCELLED)
        newest = ROW.where(IN_QUEUE, I.unique_key == bindparam("unique_key"), not_cancelled)
        self.newest_call = Statement(newest.order_by(I.seq.desc()).limit(1))
        self.body = Statement(select(I.body).where(IN_QUEUE, I.id == bindparam("id")))

    def _changes(self) -> None:
        this = update(instance).where(I.seq == bindparam("b_seq"))
        self.move = Statement(this, MOVED)
        self.move_with_body = Statement(this, [*MOVED, "envelope", "body"])
        self.restore = Statement(this, [*MOVED, *RESTORED, "rank"])
        unchanged = and_(I.envelope == bindparam("b_envelope"), I.body == bindparam("b_body"))
        rests = and_(I.queue == bindparam("b_queue"), I.id == bindparam("b_id"), ~RUNNING)
        self.reseal = Statement(update(instance).where(rests, unchanged), ["envelope", "body"])
        self.start = Statement(this, ["state", "attend", "ukey", "started", "session", "token", "reason", "error"])
        self.drop_body = Statement(this, ["attend", "body"])
        self.delete = Statement(delete(instance).where(I.seq == bindparam("b_seq")))
        self.hold = Statement(this, ["state", "due", "alarm", "lane"])

    def _moves_out(self) -> None:
        fresh = select(I.place, I.seq, I.state, *(I[name] for name in NEW_COLUMNS)).where(IN_QUEUE, I.started.is_(None))
        #: As they were enqueued, the oldest first, by their state; of those held, only whose hold is over.
        self.never_leased = {
            code: Statement(
                skipping(fresh.where(I.state == code_of(code), rule).order_by(I.place, I.seq).limit(bindparam("n")))
            )
            for code, rule in (
                (Code.QUEUED, true()), (Code.HELD, I.alarm <= bindparam("now")), (Code.SCHEDULED, true()),
            )
        }  # fmt: skip
        #: Instances of a group that wait for their next attempt, and their priority.
        again = (I.state == code_of(Code.SCHEDULED), I.grp == bindparam("grp"), I.started.is_not(None))
        later = select(I.seq, I.priority).where(IN_QUEUE, *again, I.alarm > bindparam("now"))
        self.attempted = Statement(skipping(later.limit(bindparam("n"))))

    def _periodic(self, dialect: Dialect) -> None:
        self.last_periodic = Statement(
            select(periodic.c.due).where(periodic.c.queue == bindparam("queue"), periodic.c.name == bindparam("name"))
        )
        self.insert_periodic = Statement(dialect.insert_new(periodic), ["queue", "name", "due"])
        self.move_periodic = Statement(
            update(periodic)
            .where(periodic.c.queue == bindparam("b_queue"), periodic.c.name == bindparam("b_name"))
            .where(or_(periodic.c.due < bindparam("b_due"), periodic.c.due > bindparam("b_wrong"))),
            ["due"],
        )
