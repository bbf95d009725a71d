"""Everything that differs between the databases."""

from __future__ import annotations

import re
from collections.abc import Mapping

from sqlalchemy import URL

from pijobs.errors import ConfigurationError
from pijobs.storage.sql.dialects.dialect import Dialect
from pijobs.storage.sql.dialects.mariadb import Mariadb
from pijobs.storage.sql.dialects.sqlite import Sqlite

_KINDS: Mapping[str, type[Dialect]] = {
    r"sqlite(\+pysqlite)?": Sqlite,
    r"postgresql\+psycopg": Dialect,
    r"(mysql|mariadb)\+pymysql": Mariadb,
}


def dialect_for(url: URL) -> Dialect:
    """:raises ConfigurationError: for an unknown database or driver."""
    for pattern, kind in _KINDS.items():
        if re.fullmatch(pattern, url.drivername):
            return kind(url)
    raise ConfigurationError(
        f"expected sqlite, postgresql+psycopg or mysql+pymysql as the database of the queue, found {url.drivername!r}"
    )
