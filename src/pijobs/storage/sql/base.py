"""The base of all parts of the storage in a database: clock, transactions, version, audit."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from sqlalchemy import URL, Engine, NullPool, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from pijobs.base.masks import masked_query
from pijobs.errors import ConfigurationError, StorageUnavailable
from pijobs.storage import contract
from pijobs.storage.housekeeping import Housekeeping
from pijobs.storage.records import Audit, Fault
from pijobs.storage.sql import auditing, diagnosis, tables
from pijobs.storage.sql.dialects import dialect_for
from pijobs.storage.sql.dialects.dialect import Dialect
from pijobs.storage.sql.dialects.sqlite import Sqlite
from pijobs.storage.sql.process_state import Live
from pijobs.storage.sql.tidying import Tidying
from pijobs.storage.sql.transactions import DiskFull, Tx
from pijobs.storage.values import Durability, Retention

T = TypeVar("T")

#: Seconds after which any call fails, except an enqueue and a ping.
TIMEOUT = 10.0
#: Seconds for :meth:`SqlStorage.ping`, except the first one, which may create the tables. A probe calls it, and probes
#: have short time-outs.
PING_TIMEOUT = 2.0


class SqlBase(contract.Base):
    """The base class of :mod:`servers`, :mod:`workers` and :mod:`people`."""

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
        #: What an enqueue waits for; SQLite always writes the file to its disk.
        self._durability: Durability = durability if self._dialect.server else "server"
        # By process. The parent's stay referenced, so that nothing closes its connections in a child.
        self._lives: dict[int, Live] = {}
        self._keep_house()

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

        # First, because SQLAlchemy's own look at a new server fails for some unsuitable ones.
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

    def now(self, *, timeout: float = 0.2) -> int:
        database = self._live.clock
        if not database.known:
            with suppress(StorageUnavailable):
                self._ask_time(timeout)
        return database.now_us() // 1000

    def ping(self) -> None:
        self._ask_time(PING_TIMEOUT if self._live.transactions.ensured else TIMEOUT)

    def set_protocol(self, number: int, *, oldest_reader: int) -> None:
        self._run(lambda tx: tables.set_protocol(tx, number, oldest_reader))
        self.protocol = number

    def step_down(self) -> None:
        """Remove what the previous release does not know; this release must not use the tables after that."""
        self._run(tables.step_down)

    def _ask_time(self, timeout: float) -> None:
        live = self._live
        live.transactions.read(live.quick, lambda tx: tx.timed_rows(tx.st.clock), timeout=timeout)

    def close(self) -> None:
        if live := self._lives.pop(os.getpid(), None):
            live.close()

    def diagnose(self) -> dict[str, str]:
        """Facts for ``pijobs config check``: the database's version, and its safety settings."""
        return self._read(diagnosis.diagnose)

    def _audit_on(self) -> Audit:
        self._audited, audit = self._audit(self._audited, repair=True)
        return audit

    def _audit(self, after: int, *, repair: bool) -> tuple[int, Audit]:
        last, faults = self._read(lambda tx: auditing.look(tx, after))
        ids = [instance_id for instance_id, _ in faults]
        ended = self._run_quickly(lambda tx: auditing.mend(tx, ids)) if repair and ids else []
        return last, Audit([Fault(instance_id, what, repair) for instance_id, what in faults], ended, not last)
