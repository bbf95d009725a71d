"""Every statement on instances, groups and sessions, once, for all databases.

States are written as literals: a planner that sees them knows how few rows run.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    ScalarSelect,
    Select,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    literal_column,
    or_,
    select,
    true,
    update,
)

from pijobs.storage.sql import at_once
from pijobs.storage.sql.arrows import COLUMNS, MOVED, RESTORED
from pijobs.storage.sql.connection import Statement
from pijobs.storage.sql.dialect import Dialect
from pijobs.storage.sql.schema import (
    FINISHED,
    WAITING,
    Code,
    counter,
    group,
    instance,
    meta,
    periodic,
    queue,
    session,
    total,
)

I, G, S, Q = instance.c, group.c, session.c, queue.c  # noqa: E741

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


def _code(code: Code) -> ColumnElement[Any]:
    column: ColumnElement[Any] = literal_column(str(int(code)))
    return column


def _in(codes: Iterable[Code]) -> ColumnElement[Any]:
    return I.state.in_([_code(code) for code in codes])


_here = I.queue == bindparam("queue")
_row = select(*(I[name] for name in COLUMNS), I.body.is_not(None).label("has_body"))
_row_and_body = _row.add_columns(I.body)


class Statements:
    """The statements for one dialect. Names of parameters follow the columns; ``n`` is a number of rows."""

    def __init__(self, dialect: Dialect) -> None:
        self._by_count: dict[int, Statement] = {}
        self.clock = Statement(select(dialect.clock))
        self.meta = Statement(select(meta.c.name, meta.c.value))
        self.insert_meta = Statement(dialect.insert_new(meta), ["name", "value"])
        self.change_meta = Statement(update(meta).where(meta.c.name == bindparam("b_name")), ["value"])
        lost = or_(meta.c.name == "emptied", meta.c.name == "restored")
        self.losses = Statement(select(meta.c.value, meta.c.name).where(lost))
        self._instances(dialect)
        self._leasing(dialect)
        self._housekeeping(dialect)
        self._pages()
        self._groups(dialect)

    def _instances(self, dialect: Dialect) -> None:
        known = and_(G.queue == bindparam("queue"), G.name == bindparam("grp"))
        seen = select(Q.seen).where(Q.name == bindparam("queue")).scalar_subquery()
        # The lock of a foreign key: it keeps housekeeping from removing the group, and nobody else from anything.
        # A group that nothing but a pause made has no limit yet.
        unlimited = case(
            (and_(G.lim.is_(None), G.version == literal_column("0")), literal_column("1")), else_=literal_column("0")
        )
        bypass = select(Q.bypass).where(Q.name == bindparam("queue")).scalar_subquery()
        look = select(dialect.clock, seen, unlimited, bypass).where(known)
        self.look = Statement(look if dialect.one_writer else look.with_for_update(read=True, key_share=True, of=group))
        self.queue_seen = Statement(select(dialect.clock, Q.seen).where(Q.name == bindparam("queue")))
        self.insert = Statement(dialect.insert_new(instance), INSTANCE_COLUMNS)
        self.at_once = at_once.statement(dialect) if dialect.enqueues_at_once else None
        by_id = _row.where(_here, I.id == bindparam("id"))
        self.get = Statement(by_id)
        self.by_id = Statement(by_id.with_for_update())
        self.by_key = Statement(_row.where(_here, I.ukey == bindparam("ukey")).with_for_update())
        not_cancelled = I.state != literal_column(str(int(Code.CANCELLED)))
        newest = _row.where(_here, I.unique_key == bindparam("unique_key"), not_cancelled)
        self.newest_call = Statement(newest.order_by(I.seq.desc()).limit(1))
        self.body = Statement(select(I.body).where(_here, I.id == bindparam("id")))
        this = update(instance).where(I.seq == bindparam("b_seq"))
        self.move = Statement(this, MOVED)
        self.move_with_body = Statement(this, [*MOVED, "envelope", "body"])
        self.restore = Statement(this, [*MOVED, *RESTORED, "rank"])
        unchanged = and_(I.envelope == bindparam("b_envelope"), I.body == bindparam("b_body"))
        rests = and_(I.queue == bindparam("b_queue"), I.id == bindparam("b_id"), I.state != _code(Code.RUNNING))
        self.reseal = Statement(update(instance).where(rests, unchanged), ["envelope", "body"])
        self.start = Statement(this, ["state", "attend", "ukey", "started", "session", "token", "reason", "error"])
        self.drop_body = Statement(this, ["attend", "body"])
        self.delete = Statement(delete(instance).where(I.seq == bindparam("b_seq")))
        self.hold = Statement(this, ["state", "due", "alarm", "lane"])
        fresh = select(I.place, I.seq, I.state, *(I[name] for name in NEW_COLUMNS)).where(_here, I.started.is_(None))
        #: As they were enqueued, the oldest first, by their state; of those held, only whose hold is over.
        self.never_leased = {
            code: Statement(
                _skipping(fresh.where(I.state == _code(code), rule).order_by(I.place, I.seq).limit(bindparam("n")))
            )
            for code, rule in (
                (Code.QUEUED, true()), (Code.HELD, I.alarm <= bindparam("now")), (Code.SCHEDULED, true()),
            )
        }  # fmt: skip
        #: What waits for its next attempt in a group, and how urgent it is.
        again = (I.state == _code(Code.SCHEDULED), I.grp == bindparam("grp"), I.started.is_not(None))
        later = select(I.seq, I.priority).where(_here, *again, I.alarm > bindparam("now"))
        self.attempted = Statement(_skipping(later.limit(bindparam("n"))))
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

    def _leasing(self, dialect: Dialect) -> None:
        running, queued = I.state == _code(Code.RUNNING), I.state == _code(Code.QUEUED)
        mine = (I.queue == G.queue, I.grp == G.name)
        count = select(func.count()).select_from(instance).where(*mine, running).scalar_subquery()
        head = (
            select(I.rank).where(*mine, queued, I.rank <= bindparam("last_rank"))
            .order_by(I.rank, I.seq).limit(literal_column("1")).scalar_subquery()
        )  # fmt: skip
        alarm = _first(select(I.alarm).where(_here, I.alarm.is_not(None)).order_by(I.alarm))
        until = select(S.until).where(S.queue == bindparam("queue"), S.id == bindparam("session")).scalar_subquery()
        self.next_alarm = Statement(select(alarm))
        limited = case((G.lim.is_(None), literal_column("0")), else_=count)
        #: One row per group (or one without), up to ``n``: all that a step needs to know to decide what it takes.
        self.outlook = Statement(
            select(
                dialect.clock, Q.paused, until, alarm, G.name, G.lim, G.blocked_until, G.paused.label("group_paused"),
                limited, head,
            )
            .select_from(queue.outerjoin(group, G.queue == Q.name))
            .where(Q.name == bindparam("queue")).limit(bindparam("n"))
        )  # fmt: skip
        ours, blocked = G.queue == bindparam("queue"), G.blocked_until > bindparam("now")
        other, its = instance.alias(), group.alias()
        full = (
            select(other.c.grp).join(its, and_(its.c.queue == other.c.queue, its.c.name == other.c.grp))
            .where(other.c.queue == bindparam("queue"), other.c.state == _code(Code.RUNNING))
            .group_by(other.c.grp).having(func.count() >= func.max(its.c.lim))
        )  # fmt: skip
        shut = or_(G.paused == literal_column("1"), blocked, G.lim < literal_column("1"))
        #: The first ``n`` that could start, in whatever groups, each with what runs in its group, and what may.
        self.front = Statement(
            select(I.grp, *(select(one).where(*mine).scalar_subquery() for one in (G.lim, limited)), I.rank)
            .where(_here, queued, I.rank <= bindparam("last_rank"), I.grp.not_in(full), ~exists().where(*mine, shut))
            .order_by(I.rank, I.seq).limit(bindparam("n"))
        )  # fmt: skip
        waits = exists().where(*mine, queued)
        soonest = select(G.blocked_until).where(ours, blocked, G.paused == literal_column("0"), waits)
        self.next_unblocked = Statement(soonest.order_by(G.blocked_until).limit(literal_column("1")))
        take = _row_and_body.where(_here, queued, I.grp == bindparam("grp"), I.rank <= bindparam("last_rank"))
        self.take = Statement(_skipping(take.order_by(I.rank, I.seq).limit(bindparam("n"))))
        due = _row.where(_here, I.alarm <= bindparam("now")).order_by(I.alarm).limit(bindparam("n"))
        self.due = Statement(_skipping(due))
        in_lane = (_here, I.lane == bindparam("lane"), I.alarm <= bindparam("now"))
        self.due_in_lane = Statement(_skipping(_row.where(*in_lane).order_by(I.alarm).limit(bindparam("n"))))
        self.next_lane = Statement(select(func.max(I.lane)).where(_here, I.lane < bindparam("lane")))
        self.lock_group = Statement(
            select(G.lim).where(G.queue == bindparam("queue"), G.name == bindparam("grp"))
            .with_for_update(key_share=True)
        )  # fmt: skip

    def running_of(self, count: int) -> Statement:
        """Those of ``id0`` … that run, locked; ``count`` of them."""
        if count not in self._by_count:
            ids: list[BindParameter[Any]] = [bindparam(f"id{number}") for number in range(count)]
            held = _row.where(_here, I.id.in_(ids), I.state == _code(Code.RUNNING))
            self._by_count[count] = Statement(held.order_by(I.id).with_for_update())
        return self._by_count[count]

    def _housekeeping(self, dialect: Dialect) -> None:
        running = _row.where(_here, I.state == _code(Code.RUNNING))
        limit: BindParameter[Any] = bindparam("n")
        alive = exists().where(S.queue == I.queue, S.id == I.session, S.until > bindparam("now"))
        self.orphans = Statement(_skipping(running.where(~alive).order_by(I.place, I.seq).limit(limit)))
        self.running_in = Statement(
            running.where(I.session == bindparam("session")).order_by(I.place, I.seq).with_for_update()
        )
        self.held_in = Statement(
            select(I.id, I.token).where(_here, I.state == _code(Code.RUNNING), I.session == bindparam("session"))
        )
        self.running_ids = Statement(
            select(I.session, I.id).where(_here, I.state == _code(Code.RUNNING)).order_by(I.place, I.seq)
        )
        overdue = _row.where(_here, I.attend <= bindparam("now")).order_by(I.attend).limit(limit)
        self.attended = Statement(_skipping(overdue))
        known = exists().where(G.queue == I.queue, G.name == I.grp)
        #: The next so many instances, each with its lane and rank, and whether its group is known.
        self.audited = Statement(
            _row.add_columns(I.lane, I.rank, case((known, literal_column("1")), else_=literal_column("0")))
            # In the order of the primary key: no index that begins with the queue, which would have to be sorted.
            .where(func.coalesce(I.queue, "") == bindparam("queue"), I.seq > bindparam("after"))
            .order_by(I.seq).limit(limit)
        )  # fmt: skip
        late = select(I.seq).where(_here, I.attend <= bindparam("now")).limit(bindparam("n")).subquery()
        self.backlog = Statement(select(func.count()).select_from(late))
        self.finished_counts = Statement(
            select(I.name, func.count()).where(_here, _in(FINISHED)).group_by(I.name)
            .having(func.count() > bindparam("most"))
        )  # fmt: skip
        self.oldest_finished = {
            code: Statement(
                select(I.place, I.seq).where(_here, I.name == bindparam("name"), I.state == _code(code))
                .order_by(I.place, I.seq).limit(limit)
            )
            for code in FINISHED
        }  # fmt: skip
        this = (S.queue == bindparam("b_queue"), S.id == bindparam("b_id"))
        self.insert_session = Statement(
            dialect.insert_new(session), ["queue", "id", "started", "seen", "until", "info"]
        )
        self.renew = Statement(update(session).where(*this), ["seen", "until"])
        self.retell = Statement(update(session).where(*this), ["info"])
        self.session_seen = Statement(select(S.seen).where(S.queue == bindparam("queue"), S.id == bindparam("session")))
        here = S.queue == bindparam("b_queue")
        self.extend = Statement(update(session).where(here, S.until < bindparam("b_until")), ["until"])
        self.credit = Statement(update(session).where(here).values(until=S.until + bindparam("b_credit")))
        # On MySQL an assignment sees those before it; this one reads only what it does not write.
        self.keep_rest = Statement(
            update(session).where(here, S.seen > bindparam("b_now")).values(until=bindparam("b_now") + S.until - S.seen)
        )
        # While an instance waits its place is the time of its enqueue, in microseconds.
        self.last_enqueue = Statement(
            select(func.max(I.place)).where(
                _here, _in(WAITING), I.place > bindparam("after"), I.place <= bindparam("until")
            )
        )
        self.end_session = Statement(delete(session).where(*this))
        holds = exists().where(I.queue == S.queue, I.state == _code(Code.RUNNING), I.session == S.id)
        self.end_dead_sessions = Statement(
            delete(session).where(S.queue == bindparam("queue"), S.until <= bindparam("now"), ~holds)
        )
        self.sessions = Statement(
            select(S.info, S.seen, S.until).where(S.queue == bindparam("queue"), S.until > bindparam("now"))
            .order_by(S.started, S.id)
        )  # fmt: skip
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

    def _pages(self) -> None:
        self.counts = Statement(
            select(I.name, I.state, func.count(), func.min(I.due)).where(_here).group_by(I.name, I.state)
        )
        of_job = I.name == bindparam("name")
        some = select(I.seq).where(_here, of_job, _in(WAITING)).limit(bindparam("most")).subquery()
        #: Instances of a job that wait, up to ``most``; and when the one became due that was queued first.
        self.waiting = Statement(select(func.count()).select_from(some))
        first = select(I.due).where(_here, of_job, I.state == _code(Code.QUEUED)).order_by(I.place, I.seq)
        self.first_queued = Statement(first.limit(literal_column("1")))
        self.oldest = Statement(
            select(I.grp, func.min(I.due)).where(_here, I.state == _code(Code.QUEUED)).group_by(I.grp)
        )
        self._page: dict[tuple[Code, str | None], Statement] = {}
        last = (I.place.desc(), I.seq.desc())
        self._newest = {
            code: Statement(
                select(I.priority, I.seq, I.id).where(_here, of_job, I.state == _code(code))
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
            # Written so that all databases take the first comparison for a range of the index.
            behind = and_(I.place <= bindparam("place"), or_(I.place < bindparam("place"), I.seq < bindparam("seq")))
            query = _row.where(_here, I.state == _code(code), behind)
            if column is not None:
                query = query.where(I[column] == bindparam("value"))
            ordered = query.order_by(I.place.desc(), I.seq.desc()).limit(bindparam("n"))
            self._page[code, column] = Statement(ordered)
        return self._page[code, column]

    def _groups(self, dialect: Dialect) -> None:
        columns = ["queue", "name", "lim", "blocked_until", "paused", "policy", "version", "keep_until"]
        self.insert_group = Statement(dialect.insert_new(group), columns)
        mine = (I.queue == G.queue, I.grp == G.name)
        number = [
            select(func.count()).select_from(instance).where(*mine, I.state == _code(code)).scalar_subquery()
            for code in (Code.RUNNING, Code.QUEUED, Code.HELD, Code.SCHEDULED)
        ]
        known = select(G.name, G.lim, G.blocked_until, G.paused, G.pause, G.policy, G.version, *number)
        known = known.where(G.queue == bindparam("queue"))
        self.groups = Statement(known.where(G.name > bindparam("after")).order_by(G.name).limit(bindparam("n")))
        self.group = Statement(known.where(G.name == bindparam("grp")))
        this = (G.queue == bindparam("b_queue"), G.name == bindparam("b_name"))
        self.set_group = Statement(
            update(group).where(*this, G.version == bindparam("b_version")),
            ["lim", "blocked_until", "policy", "version", "keep_until"],
        )
        self.pause_group = Statement(update(group).where(*this), ["paused", "pause"])
        self.first_limit = Statement(update(group).where(*this, G.lim.is_(None)), ["lim"])
        used = or_(
            *(
                exists().where(*mine, I.state == _code(code))
                for code in (Code.RUNNING, Code.QUEUED, Code.HELD, Code.SCHEDULED)
            )
        )
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
        # Asked again under the lock: an enqueue may have come in between.
        self.remove_group = Statement(delete(group).where(here, G.name == bindparam("grp"), idle))
        this_counter = (counter.c.queue == bindparam("b_queue"), counter.c.name == bindparam("b_name"))
        self.insert_counter = Statement(dialect.insert_new(counter), ["queue", "name", "times", "until"])
        self.counter = Statement(select(counter.c.times).where(*this_counter).with_for_update())
        self.set_counter = Statement(update(counter).where(*this_counter), ["times", "until"])
        self.remove_counters = Statement(
            delete(counter).where(counter.c.queue == bindparam("queue"), counter.c.until <= bindparam("now"))
        )
        here = total.c.queue == bindparam("queue")
        self.add_total = Statement(dialect.insert_or_add(total, "value"), ["queue", "name", "value"])
        old = (total.c.queue > bindparam("first"), total.c.queue < bindparam("last"))
        self.forget_totals = Statement(delete(total).where(*old))
        self.totals = Statement(select(total.c.name, total.c.value).where(here))
        self.number_of_totals = Statement(select(func.count()).select_from(total).where(here))


def _first(query: Select[Any]) -> ScalarSelect[Any]:
    return query.limit(literal_column("1")).scalar_subquery()


def _skipping(query: Select[Any], of: Any = instance) -> Select[Any]:
    return query.with_for_update(skip_locked=True, of=of)
