"""Statements that find instances that may start, and lease them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    ScalarSelect,
    and_,
    bindparam,
    exists,
    func,
    literal_column,
    or_,
    select,
)

from pijobs.storage.sql.connection import Statement
from pijobs.storage.sql.dialects.dialect import Dialect
from pijobs.storage.sql.schema import Code, group, instance, queue
from pijobs.storage.sql.statements.parts import (
    IN_QUEUE,
    OF_GROUP,
    QUEUED,
    ROW,
    ROW_AND_BODY,
    RUNNING,
    RUNNING_IN_GROUP,
    G,
    I,
    Q,
    S,
    code_of,
    first_of,
    skipping,
)


class LeaseStatements:
    """What may start, and what becomes due."""

    def __init__(self, dialect: Dialect) -> None:
        self._by_count: dict[int, Statement] = {}
        self._outlook(dialect)
        self._front()
        self._takes()

    def _outlook(self, dialect: Dialect) -> None:
        head = (
            select(I.rank).where(*OF_GROUP, QUEUED, I.rank <= bindparam("last_rank"))
            .order_by(I.rank, I.seq).limit(literal_column("1")).scalar_subquery()
        )  # fmt: skip
        alarm = first_of(select(I.alarm).where(IN_QUEUE, I.alarm.is_not(None)).order_by(I.alarm))
        until = select(S.until).where(S.queue == bindparam("queue"), S.id == bindparam("session")).scalar_subquery()
        self.next_alarm = Statement(select(alarm))
        #: One row per group (or one without), up to ``n``: all that a step needs to decide what to lease.
        self.outlook = Statement(
            select(
                dialect.clock, Q.paused, until, alarm, G.name, G.lim, G.blocked_until, G.paused.label("group_paused"),
                RUNNING_IN_GROUP, head,
            )
            .select_from(queue.outerjoin(group, G.queue == Q.name))
            .where(Q.name == bindparam("queue")).limit(bindparam("n"))
        )  # fmt: skip

    def _front(self) -> None:
        ours, blocked = G.queue == bindparam("queue"), G.blocked_until > bindparam("now")
        other, its = instance.alias(), group.alias()
        full = (
            select(other.c.grp).join(its, and_(its.c.queue == other.c.queue, its.c.name == other.c.grp))
            .where(other.c.queue == bindparam("queue"), other.c.state == code_of(Code.RUNNING))
            .group_by(other.c.grp).having(func.count() >= func.max(its.c.lim))
        )  # fmt: skip
        is_shut = exists().where(*OF_GROUP, or_(G.paused == literal_column("1"), blocked, G.lim < literal_column("1")))

        def of_group(column: ColumnElement[Any]) -> ScalarSelect[Any]:
            return select(column).where(*OF_GROUP).scalar_subquery()

        #: The first ``n`` that could start, in whatever groups, each with what runs in its group, and what may.
        self.front = Statement(
            select(I.grp, of_group(G.lim), of_group(RUNNING_IN_GROUP), I.rank)
            .where(IN_QUEUE, QUEUED, I.rank <= bindparam("last_rank"), I.grp.not_in(full), ~is_shut)
            .order_by(I.rank, I.seq).limit(bindparam("n"))
        )  # fmt: skip
        waits = exists().where(*OF_GROUP, QUEUED)
        soonest = select(G.blocked_until).where(ours, blocked, G.paused == literal_column("0"), waits)
        self.next_unblocked = Statement(soonest.order_by(G.blocked_until).limit(literal_column("1")))

    def _takes(self) -> None:
        take = ROW_AND_BODY.where(IN_QUEUE, QUEUED, I.grp == bindparam("grp"), I.rank <= bindparam("last_rank"))
        self.take = Statement(skipping(take.order_by(I.rank, I.seq).limit(bindparam("n"))))
        due = ROW.where(IN_QUEUE, I.alarm <= bindparam("now")).order_by(I.alarm).limit(bindparam("n"))
        self.due = Statement(skipping(due))
        in_lane = (IN_QUEUE, I.lane == bindparam("lane"), I.alarm <= bindparam("now"))
        self.due_in_lane = Statement(skipping(ROW.where(*in_lane).order_by(I.alarm).limit(bindparam("n"))))
        self.next_lane = Statement(select(func.max(I.lane)).where(IN_QUEUE, I.lane < bindparam("lane")))
        self.lock_group = Statement(
            select(G.lim).where(G.queue == bindparam("queue"), G.name == bindparam("grp"))
            .with_for_update(key_share=True)
        )  # fmt: skip

    def running_of(self, count: int) -> Statement:
        """Those of ``id0`` … that run, locked; ``count`` of them."""
        if count not in self._by_count:
            ids: list[BindParameter[Any]] = [bindparam(f"id{number}") for number in range(count)]
            held = ROW.where(IN_QUEUE, I.id.in_(ids), RUNNING)
            self._by_count[count] = Statement(held.order_by(I.id).with_for_update())
        return self._by_count[count]
