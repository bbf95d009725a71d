"""Statements for sessions and housekeeping."""

from __future__ import annotations

from sqlalchemy import bindparam, case, delete, exists, func, literal_column, select, update

from pijobs.storage.sql.connection import Statement
from pijobs.storage.sql.dialects.dialect import Dialect
from pijobs.storage.sql.schema import FINISHED, WAITING, meta, queue, session
from pijobs.storage.sql.statements.parts import IN_QUEUE, ROW, ROWS, RUNNING, G, I, Q, S, code_of, in_states, skipping


class HousekeepingStatements:
    """Sessions, the instances of dead ones, and what must be removed."""

    def __init__(self, dialect: Dialect) -> None:
        self._held()
        self._overdue()
        self._sessions(dialect)
        self._session_ends()
        self._queue(dialect)

    def _held(self) -> None:
        running = ROW.where(IN_QUEUE, RUNNING)
        alive = exists().where(S.queue == I.queue, S.id == I.session, S.until > bindparam("now"))
        self.orphans = Statement(skipping(running.where(~alive).order_by(I.place, I.seq).limit(ROWS)))
        self.running_in = Statement(
            running.where(I.session == bindparam("session")).order_by(I.place, I.seq).with_for_update()
        )
        self.held_in = Statement(select(I.id, I.token).where(IN_QUEUE, RUNNING, I.session == bindparam("session")))
        self.running_ids = Statement(select(I.session, I.id).where(IN_QUEUE, RUNNING).order_by(I.place, I.seq))

    def _overdue(self) -> None:
        overdue = ROW.where(IN_QUEUE, I.attend <= bindparam("now")).order_by(I.attend).limit(ROWS)
        self.attended = Statement(skipping(overdue))
        known = exists().where(G.queue == I.queue, G.name == I.grp)
        #: The next so many instances, each with its lane and rank, and whether its group is known.
        self.audited = Statement(
            ROW.add_columns(I.lane, I.rank, case((known, literal_column("1")), else_=literal_column("0")))
            # In the order of the primary key: no index that begins with the queue, which would have to be sorted.
            .where(func.coalesce(I.queue, "") == bindparam("queue"), I.seq > bindparam("after"))
            .order_by(I.seq).limit(ROWS)
        )  # fmt: skip
        late = select(I.seq).where(IN_QUEUE, I.attend <= bindparam("now")).limit(bindparam("n")).subquery()
        self.backlog = Statement(select(func.count()).select_from(late))
        self.finished_counts = Statement(
            select(I.name, func.count()).where(IN_QUEUE, in_states(FINISHED)).group_by(I.name)
            .having(func.count() > bindparam("most"))
        )  # fmt: skip
        self.oldest_finished = {
            code: Statement(
                select(I.place, I.seq).where(IN_QUEUE, I.name == bindparam("name"), I.state == code_of(code))
                .order_by(I.place, I.seq).limit(ROWS)
            )
            for code in FINISHED
        }  # fmt: skip

    def _sessions(self, dialect: Dialect) -> None:
        this = (S.queue == bindparam("b_queue"), S.id == bindparam("b_id"))
        self.insert_session = Statement(
            dialect.insert_new(session), ["queue", "id", "started", "seen", "until", "info"]
        )
        self.renew = Statement(update(session).where(*this), ["seen", "until"])
        self.update_session = Statement(update(session).where(*this), ["info"])
        self.end_session = Statement(delete(session).where(*this))
        self.session_seen = Statement(select(S.seen).where(S.queue == bindparam("queue"), S.id == bindparam("session")))
        here = S.queue == bindparam("b_queue")
        self.extend = Statement(update(session).where(here, S.until < bindparam("b_until")), ["until"])
        self.credit = Statement(update(session).where(here).values(until=S.until + bindparam("b_credit")))
        # On MySQL an assignment sees those before it; this one reads only what it does not write.
        self.keep_rest = Statement(
            update(session).where(here, S.seen > bindparam("b_now")).values(until=bindparam("b_now") + S.until - S.seen)
        )

    def _session_ends(self) -> None:
        # While an instance waits its place is the time of its enqueue, in microseconds.
        self.last_enqueue = Statement(
            select(func.max(I.place)).where(
                IN_QUEUE, in_states(WAITING), I.place > bindparam("after"), I.place <= bindparam("until")
            )
        )
        holds = exists().where(I.queue == S.queue, RUNNING, I.session == S.id)
        self.end_dead_sessions = Statement(
            delete(session).where(S.queue == bindparam("queue"), S.until <= bindparam("now"), ~holds)
        )
        self.sessions = Statement(
            select(S.info, S.seen, S.until).where(S.queue == bindparam("queue"), S.until > bindparam("now"))
            .order_by(S.started, S.id)
        )  # fmt: skip

    def _queue(self, dialect: Dialect) -> None:
        this_queue = Q.name == bindparam("b_queue")
        self.insert_queue = Statement(dialect.insert_new(queue), ["name", "paused"])
        epoch = select(meta.c.value).where(meta.c.name == "epoch").scalar_subquery()
        self.seen = Statement(
            select(dialect.clock, Q.seen, epoch).where(Q.name == bindparam("queue")).with_for_update(of=queue)
        )
        self.saw_worker = Statement(update(queue).where(this_queue), ["seen"])
        self.pause_queue = Statement(update(queue).where(this_queue), ["paused", "pause"])
        self.bypass_queue = Statement(update(queue).where(this_queue), ["bypass"])
        self.lock_queue = Statement(select(Q.bypass).where(Q.name == bindparam("queue")).with_for_update())
        self.queue = Statement(select(Q.paused, Q.pause, Q.seen, Q.bypass).where(Q.name == bindparam("queue")))
