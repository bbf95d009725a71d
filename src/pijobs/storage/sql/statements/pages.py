"""Statements for pages and numbers."""

from __future__ import annotations

from sqlalchemy import and_, bindparam, func, literal_column, or_, select

from pijobs.storage.sql.connection import Statement
from pijobs.storage.sql.schema import WAITING, Code
from pijobs.storage.sql.statements.parts import IN_QUEUE, QUEUED, ROW, I, code_of, in_states


class PageStatements:
    """Lists and numbers for people."""

    def __init__(self) -> None:
        self.counts = Statement(
            select(I.name, I.state, func.count(), func.min(I.due)).where(IN_QUEUE).group_by(I.name, I.state)
        )
        of_job = I.name == bindparam("name")
        some = select(I.seq).where(IN_QUEUE, of_job, in_states(WAITING)).limit(bindparam("most")).subquery()
        #: Instances of a job that wait, up to ``most``; and when the one became due that was queued first.
        self.waiting = Statement(select(func.count()).select_from(some))
        first = select(I.due).where(IN_QUEUE, of_job, QUEUED).order_by(I.place, I.seq)
        self.first_queued = Statement(first.limit(literal_column("1")))
        self.oldest = Statement(select(I.grp, func.min(I.due)).where(IN_QUEUE, QUEUED).group_by(I.grp))
        self._page: dict[tuple[Code, str | None], Statement] = {}
        last = (I.place.desc(), I.seq.desc())
        self._newest = {
            code: Statement(
                select(I.priority, I.seq, I.id).where(IN_QUEUE, of_job, I.state == code_of(code))
                .order_by(*last).limit(bindparam("n"))
            )
            for code in WAITING
        }  # fmt: skip

    def newest(self, code: Code) -> Statement:
        """Priority, sequence number and id of the newest ``n`` of a job in a waiting state."""
        return self._newest[code]

    def page(self, code: Code, column: str | None) -> Statement:
        """``n`` rows of a state, and of a value of one column, newest first, behind (``place``, ``seq``)."""
        if (code, column) not in self._page:
            # Written so that all databases use the first comparison as a range of the index.
            behind = and_(I.place <= bindparam("place"), or_(I.place < bindparam("place"), I.seq < bindparam("seq")))
            query = ROW.where(IN_QUEUE, I.state == code_of(code), behind)
            if column is not None:
                query = query.where(I[column] == bindparam("value"))
            ordered = query.order_by(I.place.desc(), I.seq.desc()).limit(bindparam("n"))
            self._page[code, column] = Statement(ordered)
        return self._page[code, column]
