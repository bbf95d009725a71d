"""Parts of statements. States are literals, so that a planner knows how few rows run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, ScalarSelect, Select, bindparam, case, func, literal_column, select

from pijobs.storage.sql.arrows import COLUMNS
from pijobs.storage.sql.schema import Code, group, instance, queue, session

I, G, S, Q = instance.c, group.c, session.c, queue.c  # noqa: E741


def code_of(code: Code) -> ColumnElement[Any]:
    column: ColumnElement[Any] = literal_column(str(int(code)))
    return column


def in_states(codes: Iterable[Code]) -> ColumnElement[Any]:
    return I.state.in_([code_of(code) for code in codes])


IN_QUEUE = I.queue == bindparam("queue")
ROW = select(*(I[name] for name in COLUMNS), I.body.is_not(None).label("has_body"))
ROW_AND_BODY = ROW.add_columns(I.body)
ROWS: BindParameter[Any] = bindparam("n")
RUNNING, QUEUED = I.state == code_of(Code.RUNNING), I.state == code_of(Code.QUEUED)
OF_GROUP = (I.queue == G.queue, I.grp == G.name)
#: The number of running instances of a group; 0 for a group without a limit, because nobody needs it.
RUNNING_IN_GROUP = case(
    (G.lim.is_(None), literal_column("0")),
    else_=select(func.count()).select_from(instance).where(*OF_GROUP, RUNNING).scalar_subquery(),
)


def first_of(query: Select[Any]) -> ScalarSelect[Any]:
    return query.limit(literal_column("1")).scalar_subquery()


def skipping(query: Select[Any], of: Any = instance) -> Select[Any]:
    return query.with_for_update(skip_locked=True, of=of)
