"""Statements on groups, counters and totals."""

from __future__ import annotations

from sqlalchemy import and_, bindparam, case, delete, exists, func, literal_column, or_, select, update

from pijobs.storage.sql.connection import Statement
from pijobs.storage.sql.dialects.dialect import Dialect
from pijobs.storage.sql.schema import Code, counter, group, instance, total
from pijobs.storage.sql.statements.parts import OF_GROUP, G, I, code_of

UNFINISHED = (Code.RUNNING, Code.QUEUED, Code.HELD, Code.SCHEDULED)


class GroupStatements:
    """Groups, counters and totals."""

    def __init__(self, dialect: Dialect) -> None:
        self._groups(dialect)
        self._changes_of_groups()
        self._idle()
        self._counters(dialect)
        self._totals(dialect)

    def _groups(self, dialect: Dialect) -> None:
        columns = ["queue", "name", "lim", "blocked_until", "paused", "policy", "version", "keep_until"]
        self.insert_group = Statement(dialect.insert_new(group), columns)
        number = [
            select(func.count()).select_from(instance).where(*OF_GROUP, I.state == code_of(code)).scalar_subquery()
            for code in UNFINISHED
        ]
        known = select(G.name, G.lim, G.blocked_until, G.paused, G.pause, G.policy, G.version, *number)
        known = known.where(G.queue == bindparam("queue"))
        page = known.where(G.name > bindparam("after")).order_by(G.name).limit(bindparam("n"))
        self.groups = Statement(page)
        in_trouble = and_(G.policy != literal_column("''"), G.policy.not_like(bindparam("healthy")))
        self.groups_in_trouble = Statement(page.where(or_(G.paused != literal_column("0"), in_trouble)))
        self.group = Statement(known.where(G.name == bindparam("grp")))

    def _changes_of_groups(self) -> None:
        this = (G.queue == bindparam("b_queue"), G.name == bindparam("b_name"))
        self.set_group = Statement(
            update(group).where(*this, G.version == bindparam("b_version")),
            ["lim", "blocked_until", "policy", "version", "keep_until"],
        )
        self.pause_group = Statement(update(group).where(*this), ["paused", "pause"])
        self.first_limit = Statement(update(group).where(*this, G.lim.is_(None)), ["lim"])

    def _idle(self) -> None:
        used = or_(*(exists().where(*OF_GROUP, I.state == code_of(code)) for code in UNFINISHED))
        idle = and_(
            G.paused == literal_column("0"),
            or_(G.keep_until.is_(None), G.keep_until <= bindparam("now")),
            or_(G.blocked_until.is_(None), G.blocked_until <= bindparam("now")),
            ~used,
        )
        here = G.queue == bindparam("queue")
        part = select(G.name).where(here, G.name > bindparam("after")).order_by(G.name).limit(bindparam("n")).subquery()
        #: Of the next so many groups, each and whether it is idle.
        self.idle_groups = Statement(
            select(G.name, case((idle, literal_column("1")), else_=literal_column("0")))
            .where(here, G.name.in_(select(part.c.name)))
        )  # fmt: skip
        # Read again under the lock, because an enqueue may have come in between.
        self.remove_group = Statement(delete(group).where(here, G.name == bindparam("grp"), idle))

    def _counters(self, dialect: Dialect) -> None:
        this_counter = (counter.c.queue == bindparam("b_queue"), counter.c.name == bindparam("b_name"))
        self.insert_counter = Statement(dialect.insert_new(counter), ["queue", "name", "times", "until"])
        self.counter = Statement(select(counter.c.times).where(*this_counter).with_for_update())
        self.set_counter = Statement(update(counter).where(*this_counter), ["times", "until"])
        self.remove_counters = Statement(
            delete(counter).where(counter.c.queue == bindparam("queue"), counter.c.until <= bindparam("now"))
        )

    def _totals(self, dialect: Dialect) -> None:
        here = total.c.queue == bindparam("queue")
        self.add_total = Statement(dialect.insert_or_add(total, "value"), ["queue", "name", "value"])
        old = (total.c.queue > bindparam("first"), total.c.queue < bindparam("last"))
        self.forget_totals = Statement(delete(total).where(*old))
        self.totals = Statement(select(total.c.name, total.c.value).where(here))
        self.number_of_totals = Statement(select(func.count()).select_from(total).where(here))
