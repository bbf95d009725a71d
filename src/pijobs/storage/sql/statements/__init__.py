"""Every statement on instances, groups and sessions, once, for all databases."""

from __future__ import annotations

from sqlalchemy import URL, bindparam, or_, select, update

from pijobs.storage.sql.connection import Statement
from pijobs.storage.sql.dialects.dialect import Dialect
from pijobs.storage.sql.schema import meta
from pijobs.storage.sql.statements.groups import GroupStatements
from pijobs.storage.sql.statements.housekeeping import HousekeepingStatements
from pijobs.storage.sql.statements.instances import InstanceStatements
from pijobs.storage.sql.statements.leasing import LeaseStatements
from pijobs.storage.sql.statements.pages import PageStatements

_shared: dict[tuple[type[Dialect], object, URL | None], Statements] = {}


def statements_of(dialect: Dialect) -> Statements:
    """The statements for a dialect. All queues in one database share them: to build and to compile them takes 45 ms."""
    key = (type(dialect), dialect.clock, dialect.url if dialect.server else None)
    return _shared.get(key) or _shared.setdefault(key, Statements(dialect))


class Statements(InstanceStatements, LeaseStatements, HousekeepingStatements, PageStatements, GroupStatements):
    """The statements for one dialect. Names of parameters follow the columns; ``n`` is a number of rows."""

    def __init__(self, dialect: Dialect) -> None:
        self.clock = Statement(select(dialect.clock))
        self.meta = Statement(select(meta.c.name, meta.c.value))
        self.insert_meta = Statement(dialect.insert_new(meta), ["name", "value"])
        self.change_meta = Statement(update(meta).where(meta.c.name == bindparam("b_name")), ["value"])
        lost = or_(meta.c.name == "emptied", meta.c.name == "restored")
        self.losses = Statement(select(meta.c.value, meta.c.name).where(lost))
        InstanceStatements.__init__(self, dialect)
        LeaseStatements.__init__(self, dialect)
        HousekeepingStatements.__init__(self, dialect)
        PageStatements.__init__(self)
        GroupStatements.__init__(self, dialect)
