"""Runs work in transactions: begins, commits, repeats after a conflict, and translates errors."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from pijobs.base import clock
from pijobs.errors import InstanceRefused, PijobsError, StorageFull, StorageUnavailable, StorageUnfit
from pijobs.storage.sql.arrows import Arrows
from pijobs.storage.sql.connection import Link, Row, Statement
from pijobs.storage.sql.connection_sources import Busy, Lane, dialect_errors
from pijobs.storage.sql.dialects.dialect import Dialect, Trouble
from pijobs.storage.sql.statements import Statements
from pijobs.storage.values import Ended, Retention

T = TypeVar("T")


class DiskFull(StorageFull):
    """the disk of the database is full"""


#: Seconds for which an estimate of the server's clock is valid.
FRESH = 10.0


class DatabaseClock:
    """The database's time in microseconds, estimated from its last answer."""

    def __init__(self, *, own: bool) -> None:
        # Without a server it is the host's clock.
        self._own = own
        self._offset: float | None = None
        self._asked = float("-inf")

    def heard(self, now_us: int, before: float) -> None:
        """:param before: monotonic seconds when the question was sent."""
        after = clock.monotonic()
        now = now_us / 1e6
        self._offset, self._asked = clock.server_offset(self._offset, now - after, now - before), after

    def now_us(self) -> int:
        if self._own or self._offset is None:
            return clock.time_ns() // 1000
        return int((clock.monotonic() + self._offset) * 1e6)

    @property
    def known(self) -> bool:
        """Whether the database has reported its time."""
        return self._own or self._offset is not None

    @property
    def fresh(self) -> bool:
        return self._own or clock.monotonic() - self._asked < FRESH


class Tx:
    """One transaction (or, for reading, one connection) of one queue."""

    def __init__(
        self,
        link: Link,
        statements: Statements,
        dialect: Dialect,
        queue: str,
        clock: DatabaseClock,
        retention: Retention,
    ) -> None:
        self.link = link
        self.st = statements
        self.dialect = dialect
        self.queue = queue
        self.clock = clock
        self.retention = retention
        self._common = {"queue": queue, "now_us": clock.now_us()}
        #: Instances that could not be read, and are dead now.
        self.parked: list[Ended] = []
        self._one_by_one = False

    @property
    def now_us(self) -> int:
        return self._common["now_us"]  # type: ignore[return-value]

    @property
    def now(self) -> int:
        """Milliseconds; of the last answer of the database's clock in this transaction."""
        return self.now_us // 1000

    @property
    def arrows(self) -> Arrows:
        return Arrows(self.now_us, self.retention)

    def one_by_one(self) -> Tx:
        """If there is little room: SQLite writes the whole row of an instance, with its body, for any change."""
        self._one_by_one = True
        return self

    def most(self, number: int) -> int:
        """How many of ``number`` instances to change."""
        return min(number, 1) if self._one_by_one else number

    def rows(self, statement: Statement, **parameters: Any) -> list[Row]:
        return self.link.rows(statement, {**self._common, **parameters})

    def timed_rows(self, statement: Statement, **parameters: Any) -> list[Row]:
        """Run a statement whose first column is the clock."""
        before = clock.monotonic()
        found = self.rows(statement, **parameters)
        if found and self.dialect.server:
            self._common["now_us"] = found[0][0]
            self.clock.heard(found[0][0], before)
        return found

    def know_time(self) -> None:
        """Set :attr:`now` to the database's time."""
        if not self.clock.fresh:
            self.timed_rows(self.st.clock)

    def change(self, statement: Statement, **parameters: Any) -> int:
        return self.link.change(statement, {**self._common, **parameters})

    def many(self, statement: Statement, rows: Sequence[Mapping[str, Any]]) -> int:
        return self.link.many(statement, rows)

    def insert(self, statement: Statement, **values: Any) -> bool:
        """Whether the row was new."""
        try:
            return self.link.change(statement, values) > 0
        except Exception as error:
            if self.dialect.judge(error) is Trouble.DUPLICATE:
                return False
            raise


class Transactions:
    """Runs functions of a :class:`Tx`.

    :param ensure: creates the tables, and checks their protocol; once per process, and with each connection.
    """

    def __init__(self, make: Callable[[Link], Tx], dialect: Dialect, ensure: Callable[[Link], None]) -> None:
        self._make = make
        self._dialect = dialect
        self._ensure = ensure
        #: The errors of a driver.
        self.errors: tuple[type[Exception], ...] = (dialect_errors(dialect), OSError, UnicodeError)
        #: Whether the tables are there, as far as this process knows.
        self.ensured = False

    def run(self, lane: Lane, work: Callable[[Tx], T], *, timeout: float) -> T:
        """Run ``work`` in a transaction.

        :param timeout: seconds after which it must have succeeded.
        """
        return self._insist(lane, lambda link: self._once(link, work), timeout, writing=True)

    def alone(self, lane: Lane, work: Callable[[Tx], T], *, timeout: float) -> T:
        """Run ``work`` that writes with one statement, which is a transaction by itself."""
        return self._insist(lane, lambda link: work(self._make(link)), timeout, writing=True)

    def read(self, lane: Lane, work: Callable[[Tx], T], *, timeout: float) -> T:
        """Run ``work`` without a transaction."""
        return self._insist(lane, lambda link: work(self._make(link)), timeout, writing=False)

    def look_again(self) -> None:
        """Check the tables and their protocol, before anything else."""
        self.ensured = False

    def _insist(self, lane: Lane, attempt: Callable[[Link], T], timeout: float, *, writing: bool) -> T:
        end = clock.monotonic() + timeout
        pause = 0.0005
        while True:
            met: BaseException
            try:
                with lane.take(end, writing=writing) as link:
                    try:
                        return self._prepared(link, attempt)
                    except self.errors as error:
                        trouble = self._judge(link, error)
                        if trouble is Trouble.LOST:
                            raise self._unavailable(error, end) from error
                        if trouble is Trouble.FULL:
                            raise DiskFull(self._dialect.tell(error)) from error
                        if trouble is Trouble.RIGHT:
                            raise self._unfit(error) from error
                        met = error
            except Busy as error:
                met, trouble = error, Trouble.AGAIN
            if trouble is Trouble.DATA:
                raise InstanceRefused(f"{self._dialect.name} refused a value ({self._dialect.tell(met)})") from met
            left = end - clock.monotonic()
            if left <= 0 or trouble not in (Trouble.AGAIN, Trouble.DUPLICATE):
                raise self._unavailable(met, end) from met
            clock.sleep(min(left, pause * random.uniform(0.5, 1.5)))
            pause = min(pause * 1.3, 0.004)

    def _prepared(self, link: Link, attempt: Callable[[Link], T]) -> T:
        if not (self.ensured and link.looked):
            self._ensure(link)
            self.ensured = link.looked = True
        return attempt(link)

    def _once(self, link: Link, work: Callable[[Tx], T]) -> T:
        link.begin()
        tx = self._make(link)
        try:
            result = work(tx)
        except PijobsError:
            link.rollback()
            raise
        link.commit()
        return result

    def _judge(self, link: Link, error: BaseException) -> Trouble:
        """What to do about an error. Afterwards the connection is clean, unless it is lost."""
        trouble = self._dialect.judge(error)
        if trouble in (Trouble.LOST, Trouble.FULL):
            return trouble
        with suppress(*self.errors):
            link.rollback()
        if trouble is Trouble.SCHEMA:
            self.ensured = False
            return Trouble.AGAIN
        return trouble

    def _unfit(self, error: BaseException) -> StorageUnfit:
        return StorageUnfit(
            f"{self._dialect.name}: expected a user that may read and write the tables pijobs_*, found: "
            f"{self._dialect.tell_right(error)}; 'pijobs schema' prints the SQL that creates tables and grants rights"
        )

    def _unavailable(self, error: BaseException, end: float) -> StorageUnavailable:
        what = self._dialect.tell(error) if not isinstance(error, PijobsError) else str(error)
        late = clock.monotonic() >= end - 0.001
        text = "did not answer in time" if late else "failed"
        return StorageUnavailable(f"{self._dialect.name} {text} ({what})")
