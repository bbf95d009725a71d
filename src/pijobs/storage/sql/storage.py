"""The storage contract on SQLite, PostgreSQL, and MariaDB or MySQL.

Every call has a time limit: an enqueue its own, all others :data:`TIMEOUT`. On a server a thread
connects (:mod:`pijobs.storage.pool`) and another hangs up what takes too long (:mod:`pijobs.storage.sql.watchdog`).
On SQLite only a lock can take long, and waiting for it has a time limit; a disk that hangs has none.
"""

from __future__ import annotations

import copy
import os
from contextlib import suppress

from sqlalchemy import URL

from pijobs.errors import StorageUnfit
from pijobs.storage import contract
from pijobs.storage.sql.dialects.sqlite import Sqlite
from pijobs.storage.sql.people import ForPeople
from pijobs.storage.sql.process_state import Live
from pijobs.storage.sql.servers import ForServers
from pijobs.storage.sql.trial import TakenBack, rehearse
from pijobs.storage.sql.workers import ForWorkers
from pijobs.storage.values import Retention


class SqlStorage(ForServers, ForWorkers, ForPeople, contract.Storage):
    """A queue in a database.

    :param url: as SQLAlchemy reads it: ``sqlite:////path/of/file``, ``postgresql+psycopg://…``, ``mysql+pymysql://…``.
    :param name: of the queue; queues with different names in one database are separate.
    :param durability: what an enqueue waits for.
    :raises ConfigurationError: for a URL that can't be read, or of another database.
    """

    @classmethod
    def in_file(cls, path: str, name: str, retention: Retention) -> SqlStorage:
        """A queue in an SQLite file."""
        return cls(URL.create("sqlite", database=path), name, retention=retention)

    def try_out(self) -> None:
        self._live.require_room(0)

        def within(live: Live) -> contract.Storage:
            trial = copy.copy(self)
            trial._lives = {os.getpid(): live}
            trial._keep_house()
            return trial

        if isinstance(self._dialect, Sqlite) and not os.path.exists(self._dialect.path):
            return  # reading creates no file
        with suppress(TakenBack):
            self._run(lambda tx: rehearse(self._live, tx, within))
        if (
            self._durability == "replica"
            and not self._read(lambda tx: tx.link.run("SHOW synchronous_standby_names"))[0][0]
        ):
            raise StorageUnfit(
                "an enqueue durability of 'replica' needs synchronous_standby_names in PostgreSQL, found none"
            )
