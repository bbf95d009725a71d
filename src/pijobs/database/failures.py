"""What the errors of a driver mean, without the values that a server may quote."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import URL

from pijobs.base.masks import masked_query
from pijobs.base.redact import redact
from pijobs.database.engine import PATIENCE
from pijobs.errors import DatabaseConflict, DatabaseError, DatabaseUnavailable

#: Codes of MariaDB and SQLSTATEs of PostgreSQL for "another transaction was in the way, try again".
_CONFLICTS = frozenset({1020, 1205, 1213, "40001", "40P01"})


def translated(error: sa.exc.DBAPIError | sa.exc.TimeoutError, url: URL) -> DatabaseError:
    place = url.database if url.get_backend_name() == "sqlite" else masked_query(url.render_as_string())
    if isinstance(error, sa.exc.TimeoutError):
        return DatabaseUnavailable(f"{place}: expected a free connection within {PATIENCE} s, found none")
    found = _told(error, url)
    if isinstance(error, sa.exc.IntegrityError) or _code(error) in _CONFLICTS:
        return DatabaseConflict(f"{place}: another transaction was there first: {found}")
    if error.connection_invalidated or isinstance(error, (sa.exc.OperationalError, sa.exc.InterfaceError)):
        return DatabaseUnavailable(f"{place}: expected a database that answers, found: {found}")
    return DatabaseError(f"{place}: the database refused a statement: {found}")


def _told(error: sa.exc.DBAPIError, url: URL) -> str:
    """What may be said of an error: a server's text may quote values, unless it is about the connection."""
    code, kind = _code(error), type(error.orig).__name__
    if error.statement is None or url.get_backend_name() == "sqlite":
        return f"{kind}: {redact(str(error.orig), [str(url.password)] if url.password else ())}"
    return f"{kind} {code}" if code else kind


def _code(error: sa.exc.DBAPIError) -> int | str | None:
    code: str | None = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)
    first = error.orig.args[0] if error.orig is not None and error.orig.args else None
    return code or (first if isinstance(first, int) else None)
