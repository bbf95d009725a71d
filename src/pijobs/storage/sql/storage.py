"""The storage contract on SQLite, PostgreSQL, and MariaDB or MySQL.

Every call is bounded: by its own time-out for an enqueue, by :data:`TIMEOUT` for all others. On a server a thread
connects (:mod:`pijobs.storage.pool`) and another hangs up what takes too long (:mod:`pijobs.storage.sql.watchdog`).
On SQLite only a lock can take long, and waiting for it is bounded; a disk that hangs is not.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from sqlalchemy import URL, Engine, NullPool, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from pijobs.base import clock
from pijobs.base.redact import masked_query
from pijobs.errors import ConfigurationError, InstanceRefused, StateConflict, StorageUnavailable, StorageUnfit
from pijobs.jobs import State
from pijobs.storage.contract import Storage
from pijobs.storage.housekeeping import Housekeeping
from pijobs.storage.periods import Period
from pijobs.storage.records import Audit, Depths, Fault, GroupRecord, Page, Record
from pijobs.storage.sessions import Beat, SessionInfo, SessionRecord
from pijobs.storage.sql import at_once, auditing, diagnosis, housekeeping, joining, leasing, limits, tables
from pijobs.storage.sql import inserts as saving
from pijobs.storage.sql import queries as inspection
from pijobs.storage.sql import transfer as moving
from pijobs.storage.sql.dialect import Dialect, Sqlite, dialect_for
from pijobs.storage.sql.process_state import Live
from pijobs.storage.sql.rows import find
from pijobs.storage.sql.schema import ENDED, Code
from pijobs.storage.sql.tidying import Tidying
from pijobs.storage.sql.transactions import DiskFull, Tx
from pijobs.storage.sql.trial import TakenBack, rehearse
from pijobs.storage.texts import storable_json, storable_name, storable_text
from pijobs.storage.values import (
    GROUPS,
    HOUSEKEEPING_BATCH,
    MAX_TOTALS,
    Durability,
    End,
    Ended,
    LossKind,
    NewInstance,
    OnConflict,
    Pause,
    Retention,
    Step,
    Stored,
)

T = TypeVar("T")

#: Seconds after which any call but an enqueue and a ping fails.
TIMEOUT = 10.0
#: Seconds for :meth:`SqlStorage.ping`, but for the first, which may make the tables: who asks is a probe, whose own
#: time is short.
PING_TIMEOUT = 2.0
#: How much longer encrypted bytes get when they are written into a statement.
ESCAPED = 1.04


class SqlStorage(Storage):
    """A queue in a database.

    :param url: as SQLAlchemy reads it: ``sqlite:////path/of/file``, ``postgresql+psycopg://…``, ``mysql+pymysql://…``.
    :param name: of the queue; queues of different names in one database do not meet.
    :param durability: what an enqueue waits for.
    :raises ConfigurationError: for a URL that can't be read, or of another database.
    """

    def __init__(
        self,
        url: str | URL,
        name: str,
        *,
        retention: Retention = Retention(),  # noqa: B008
        durability: Durability = "server",
    ) -> None:
        try:
            self._dialect: Dialect = dialect_for(make_url(url))
            self._dialect.url.get_dialect().import_dbapi()
            if isinstance(self._dialect, Sqlite) and self._dialect.url.host:
                raise ValueError("a file has no host")
        except (ArgumentError, ValueError):
            # Without the cause, which may quote the URL.
            raise ConfigurationError(
                "the URL of the queue's database can't be read; special characters of a password are written as %XX, "
                "and a file as sqlite:////absolute/path"
            ) from None
        except (NoSuchModuleError, ImportError) as error:
            raise ConfigurationError(f"the driver for {self._dialect.name} is not installed: {error}") from error
        self.name = name
        self.file = self._dialect.path if isinstance(self._dialect, Sqlite) else None
        self.display_url = masked_query(make_url(url).render_as_string(hide_password=True))
        self._url = self._dialect.url.render_as_string(hide_password=False)
        self._retention = retention
        #: What an enqueue waits for; the file of SQLite is always written to its disk.
        self._durability: Durability = durability if self._dialect.server else "server"
        # By process: what a parent had stays referenced, so that nothing ends its connections in a child.
        self._lives: dict[int, Live] = {}
        self._keep_house()

    @classmethod
    def in_file(cls, path: str, name: str, retention: Retention) -> SqlStorage:
        """A queue in an SQLite file."""
        return cls(URL.create("sqlite", database=path), name, retention=retention)

    def _keep_house(self) -> None:
        self._tidying = Tidying(self._run_quickly, self._read)
        self._audited = 0
        self._housekeeping = Housekeeping(self._tidying.tidy, self._audit_on)

    @property
    def _live(self) -> Live:
        pid = os.getpid()
        # setdefault is atomic; a lock could have been copied by the fork while another thread held it.
        return self._lives.get(pid) or self._lives.setdefault(pid, self._begin_to_live())

    def _begin_to_live(self) -> Live:
        engine: Engine = create_engine(
            self._dialect.url, poolclass=NullPool, hide_parameters=True, connect_args=self._dialect.connect_args()
        )

        def require_fit(connection: Any, _: object) -> None:
            self._dialect.require_fit(connection)

        # First of all: SQLAlchemy's own look at a new server stumbles over some that do not fit.
        event.listen(engine, "connect", require_fit, insert=True)
        return Live(engine, self._dialect, self.name, self._retention, self._learn_protocol)

    def _learn_protocol(self, number: int) -> None:
        self.protocol = number

    def _run(self, work: Callable[[Tx], T], timeout: float | None = None) -> T:
        """In a transaction, as durable as an enqueue.

        :param timeout: seconds; None: :data:`TIMEOUT`.
        """
        live = self._live
        return live.transactions.run(live.durable, work, timeout=TIMEOUT if timeout is None else timeout)

    def _run_quickly(self, work: Callable[[Tx], T], timeout: float | None = None) -> T:
        """In a transaction that a power cut may take back (on SQLite)."""
        live = self._live
        limit = TIMEOUT if timeout is None else timeout
        with suppress(DiskFull):
            if not live.is_short_of_room():
                return live.transactions.run(live.quick, work, timeout=limit)
        return live.transactions.run(live.quick, lambda tx: work(tx.one_by_one()), timeout=limit)

    def _read(self, work: Callable[[Tx], T]) -> T:
        live = self._live
        return live.transactions.read(live.quick, work, timeout=TIMEOUT)

    # -- clock and connection ------------------------------------------------------------------------------------

    def now(self, *, timeout: float = 0.2) -> int:
        database = self._live.clock
        if not database.known:
            with suppress(StorageUnavailable):
                self._ask_time(timeout)
        return database.now_us() // 1000

    def ping(self) -> None:
        self._ask_time(PING_TIMEOUT if self._live.transactions.ensured else TIMEOUT)

    def try_out(self) -> None:
        self._live.require_room(0)

        def within(live: Live) -> Storage:
            trial = copy.copy(self)
            trial._lives = {os.getpid(): live}
            trial._keep_house()
            return trial

        if isinstance(self._dialect, Sqlite) and not os.path.exists(self._dialect.path):
            return  # a look creates no file
        with suppress(TakenBack):
            self._run(lambda tx: rehearse(self._live, tx, within))
        if (
            self._durability == "replica"
            and not self._read(lambda tx: tx.link.run("SHOW synchronous_standby_names"))[0][0]
        ):
            raise StorageUnfit(
                "an enqueue durability of 'replica' needs synchronous_standby_names in PostgreSQL, found none"
            )

    def set_protocol(self, number: int, *, oldest_reader: int) -> None:
        self._run(lambda tx: tables.set_protocol(tx, number, oldest_reader))
        self.protocol = number

    def step_down(self) -> None:
        """Take away what the release before does not know; the last use of the tables by this one."""
        self._run(tables.step_down)

    def _ask_time(self, timeout: float) -> None:
        live = self._live
        live.transactions.read(live.quick, lambda tx: tx.timed_rows(tx.st.clock), timeout=timeout)

    def close(self) -> None:
        if live := self._lives.pop(os.getpid(), None):
            live.close()

    def diagnose(self) -> dict[str, str]:
        """Facts for ``pijobs config check``: the database's version, and what matters for safety."""
        return self._read(diagnosis.diagnose)

    # -- for servers ---------------------------------------------------------------------------------------------

    def enqueue_many(
        self,
        batch: Sequence[tuple[NewInstance, OnConflict]],
        *,
        timeout: float,
        worker_within: int | None = None,
        bypassable: bool = False,
    ) -> list[Stored]:
        live, end = self._live, clock.monotonic() + timeout
        live.require_room(sum(len(new.body) for new, _ in batch), timeout, number=len(batch))

        def run(store: Callable[[Tx, saving.Batch, int | None, bool], list[Stored]]) -> list[Stored]:
            def work(tx: Tx) -> list[Stored]:
                for new, _ in batch:
                    self._require_size(len(new.envelope) + len(new.body))
                if self._durability != "server":
                    tx.link.run("SET LOCAL synchronous_commit TO on")  # of PostgreSQL, for this transaction
                return store(tx, batch, worker_within, bypassable)

            return live.transactions.run(live.durable, work, timeout=end - clock.monotonic())

        stored = self._enqueue_alone(batch[0][0], timeout) if len(batch) == 1 and worker_within is None else None
        try:
            # What is alone has nothing to win by it.
            stored = stored or run(saving.enqueue_together if len(batch) > 1 else saving.enqueue_many)
        except saving.NotAllNew:
            stored = run(saving.enqueue_many)
        live.poller.kick()
        return stored

    def _enqueue_alone(self, new: NewInstance, timeout: float) -> list[Stored] | None:
        """By one statement; None: nothing was done, since something is in the way."""
        if not self._dialect.enqueues_at_once or self._durability != "server":
            return None
        live = self._live
        stored = live.transactions.alone(live.durable, lambda tx: at_once.enqueue(tx, new), timeout=timeout)
        return None if stored is None else [stored]

    def is_in(self, url: Any) -> bool:
        return isinstance(url, URL) and joining.place_of(url) == joining.place_of(self._dialect.url)

    def enqueue_within(self, connection: Any, batch: Sequence[tuple[NewInstance, OnConflict]]) -> list[Stored]:
        for new, _ in batch:
            self._require_size(len(new.envelope) + len(new.body))
        durable = "SET LOCAL synchronous_commit TO on" if self._durability != "server" else None
        return joining.enqueue_within(self._live, connection, batch, durable)

    def _require_size(self, size: int) -> None:
        """:raises InstanceRefused: when the server would hang up, which looks like an outage."""
        largest = self._dialect.largest
        # Some bytes are written as two; of random ones few.
        if largest is not None and size * ESCAPED > largest:
            raise InstanceRefused(
                f"{self._dialect.name} takes statements of {largest / 1e6:.1f} MB, found an instance of "
                f"{size / 1e6:.1f} MB; raise max_allowed_packet"
            )

    def enqueue_periodic(self, new: NewInstance, *, due: int) -> bool:
        self._live.require_room(len(new.body))
        stored = self._run(lambda tx: saving.enqueue_periodic(tx, new, due))
        self._live.poller.kick()
        return stored

    def last_periodic(self, name: str) -> int | None:
        found = self._read(lambda tx: tx.rows(tx.st.last_periodic, name=name))
        return int(found[0][0]) if found else None

    # -- for what moves to another storage -----------------------------------------------------------------------

    def take_out(self, number: int, *, hold: int, timeout: float | None = None) -> list[NewInstance]:
        taken = self._run_quickly(lambda tx: moving.take_out(tx, number, hold), timeout)
        self._live.poller.kick()
        return taken

    def forget(self, ids: Sequence[str], *, timeout: float | None = None) -> None:
        # Durable: an instance that came back after a power cut would be run a second time.
        self._run(lambda tx: moving.forget(tx, ids), timeout)
        self._live.poller.kick()

    def record_end(self, new: NewInstance, end: End, *, timeout: float | None = None) -> bool:
        return self._run(lambda tx: saving.record_end(tx, new, end), timeout)

    # -- for workers ---------------------------------------------------------------------------------------------

    def open_session(self, info: SessionInfo, *, lease: int) -> None:
        self._live.transactions.look_again()
        self._run_quickly(lambda tx: housekeeping.open_session(tx, info, lease))

    def retell(self, info: SessionInfo) -> None:
        self._run_quickly(lambda tx: housekeeping.retell(tx, info))

    def beat(
        self,
        session: str,
        *,
        lease: int,
        abandoned: Sequence[tuple[str, str]] = (),
        unknown: Sequence[tuple[str, str]] = (),
    ) -> Beat:
        live = self._live
        beat = self._run_quickly(lambda tx: housekeeping.beat(tx, session, lease, abandoned, unknown))
        live.watch_room()
        with suppress(StorageUnavailable):  # the sign of life was given; the next one tells the outage
            self._tidying.look()
            beat.ended.extend(self._housekeeping.keep(lease))
        live.poller.kick()
        return beat

    def step(self, session: str, ends: Sequence[End], *, want: int, floor: int | None = None) -> Step:
        live = self._live
        if not ends and self._dialect.one_writer and (empty := self._nothing_to_do(session, want, floor)):
            return empty

        def work(tx: Tx) -> Step:
            return leasing.step(tx, session, ends, want, floor)

        step = self._run_quickly(work)
        if ends:
            live.poller.kick()
        return step

    def note_progress(self, instance_id: str, token: str, line: str) -> bool:
        return self._run_quickly(lambda tx: leasing.note_progress(tx, instance_id, token, storable_json(line)))

    def _nothing_to_do(self, session: str, want: int, floor: int | None) -> Step | None:
        """Looking takes no lock; so an idle worker is in nobody's way."""
        outlook = self._read(lambda tx: leasing.look_out(tx, session, floor, want))
        if want > 0 and (outlook.promotable or (outlook.alive and outlook.heads)):
            return None
        return Step([], [], outlook.alarm)

    def wait(self, timeout: float, *, floor: int | None = None) -> None:
        self._live.poller.wait(timeout, floor)

    def wake(self) -> None:
        self._live.poller.wake()

    def close_session(self, session: str, *, crashed: bool = False) -> list[Ended]:
        ended = self._run_quickly(lambda tx: housekeeping.close_session(tx, session, crashed))
        self._live.poller.kick()
        return ended

    def note_loss(self, kind: LossKind) -> None:
        self._run(lambda tx: housekeeping.note_loss(tx, kind))

    # -- for people ----------------------------------------------------------------------------------------------

    def get(self, instance_id: str) -> Record:
        return self._read(lambda tx: find(tx, instance_id, lock=False)).record()

    def body(self, instance_id: str) -> bytes | None:
        def work(tx: Tx) -> Any:
            return find(tx, instance_id, lock=False).has_body and tx.rows(tx.st.body, id=instance_id)

        found = self._read(work)
        return found[0][0] if found else None

    def page(
        self,
        state: State,
        *,
        name: str | None = None,
        group: str | None = None,
        subject: str | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> Page:
        def work(tx: Tx) -> Page:
            return inspection.page(tx, state, name=name, group=group, subject=subject, cursor=cursor, limit=limit)

        return self._read(work)

    def waiting(self, name: str, *, most: int, timeout: float | None = None) -> tuple[int, int | None]:
        live = self._live
        limit = TIMEOUT if timeout is None else timeout
        return live.transactions.read(live.quick, lambda tx: inspection.waiting(tx, name, most), timeout=limit)

    def make_room(self, name: str, *, priority: int, reason: str, timeout: float | None = None) -> str | None:
        return self._run(lambda tx: saving.make_room(tx, name, priority, reason), timeout)

    def depths(self) -> Depths:
        return self._read(inspection.depths)

    def oldest_due(self, *, without: Collection[str]) -> int | None:
        return self._read(lambda tx: inspection.oldest_due(tx, without))

    def sessions(self) -> list[SessionRecord]:
        return self._read(housekeeping.sessions)

    def cancel(self, instance_id: str, *, reason: str) -> None:
        self._run(lambda tx: saving.cancel(tx, instance_id, storable_text(reason)))

    def retry(self, instance_id: str) -> None:
        self._run(lambda tx: saving.retry(tx, instance_id))
        self._live.poller.kick()

    def reseal(self, instance_id: str, *, old: tuple[bytes, bytes], new: tuple[bytes, bytes]) -> bool:
        return self._run(lambda tx: saving.reseal(tx, instance_id, old, new))

    def remove(self, instance_id: str) -> None:
        def work(tx: Tx) -> None:
            row = find(tx, instance_id, lock=True)
            if row.state not in ENDED:
                state = Code(row.state).state
                raise StateConflict(f"instance {instance_id} is {state}; only an ended one can be removed")
            tx.many(tx.st.delete, [{"b_seq": row.seq}])

        self._run(work)

    def pause(self, group: str | None = None, *, by: str = "", reason: str = "") -> None:
        told = Pause(self.now(), by, reason)
        self._run(lambda tx: limits.pause(tx, group, told))

    def resume(self, group: str | None = None) -> None:
        self._run(lambda tx: limits.pause(tx, group, None))
        self._live.poller.kick()

    def hurry(self, group: str) -> int:
        number = done = self._run(lambda tx: limits.hurry(tx, group))
        while done == HOUSEKEEPING_BATCH:
            done = self._run(lambda tx: limits.hurry(tx, group))
            number += done
        self._live.poller.kick()
        return number

    def bypass(self, group: str | None = None, *, by: str = "", reason: str = "") -> None:
        told = Pause(self.now(), by, reason)
        self._run(lambda tx: limits.bypass(tx, storable_name(group or ""), told))

    def end_bypass(self, group: str | None = None) -> None:
        self._run(lambda tx: limits.bypass(tx, storable_name(group or ""), None))

    def _audit_on(self) -> Audit:
        self._audited, audit = self._audit(self._audited, repair=True)
        return audit

    def _audit(self, after: int, *, repair: bool) -> tuple[int, Audit]:
        last, faults = self._read(lambda tx: auditing.look(tx, after))
        ids = [instance_id for instance_id, _ in faults]
        ended = self._run_quickly(lambda tx: auditing.mend(tx, ids)) if repair and ids else []
        return last, Audit([Fault(instance_id, what, repair) for instance_id, what in faults], ended, not last)

    def check(self, *, repair: bool = False) -> Iterator[Audit]:
        last = 0
        while True:
            last, audit = self._audit(last, repair=repair)
            yield audit
            if not last:
                return

    # -- groups and limits ---------------------------------------------------------------------------------------

    def group(self, name: str) -> GroupRecord | None:
        return self._read(lambda tx: limits.group(tx, name))

    def groups(self, *, after: str = "", limit: int = GROUPS) -> list[GroupRecord]:
        return self._read(lambda tx: limits.groups(tx, after, limit))

    def set_group(
        self, name: str, *, version: int, limit: int | None, blocked_until: int | None, policy: str, keep: int = 0
    ) -> bool:
        decided = {"lim": limit, "blocked_until": blocked_until, "policy": policy}

        def work(tx: Tx) -> bool:
            return limits.set_group(tx, name, version, decided, keep)

        written = self._run_quickly(work)
        self._live.poller.kick()
        return written

    def count(self, key: str, *, limit: int, per: int) -> int | None:
        return self._run_quickly(lambda tx: limits.count(tx, storable_name(key), limit=limit, per=per))

    # -- totals --------------------------------------------------------------------------------------------------

    def add_totals(
        self,
        added: Mapping[str, float],
        *,
        period: Period | None = None,
        most: int = MAX_TOTALS,
        timeout: float | None = None,
    ) -> None:
        if added:
            self._run_quickly(lambda tx: limits.add_totals(tx, added, period, most), timeout)

    def totals(self, period: Period | None = None) -> dict[str, float]:
        return dict(self._read(lambda tx: limits.totals(tx, limits.owner(tx, period))))
