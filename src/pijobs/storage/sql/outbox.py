"""The outbox: a storage in the database of the application."""

from __future__ import annotations

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from pijobs.errors import ConfigurationError
from pijobs.settings import PREFIX, Settings
from pijobs.storage.sql.storage import SqlStorage
from pijobs.storage.values import Retention

SETTING = "SQLALCHEMY_DATABASE_URI"
#: The driver of the queue's own connections, whatever the application uses.
_DRIVERS = {
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mysql+pymysql",
    "sqlite": "sqlite",
}


def open_outbox(settings: Settings, name: str) -> SqlStorage:
    """The outbox of a queue; connects only when it is used.

    :raises ConfigurationError: no database is configured, or a queue can't be in it.
    """
    url = _url(settings)
    driver = _DRIVERS.get(url.get_backend_name())
    if driver is None or (url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:")):
        raise ConfigurationError(
            f"{PREFIX}OUTBOX: expected the application in PostgreSQL, MariaDB, MySQL or a file of SQLite, found "
            f"{url.render_as_string()}"
        )
    return SqlStorage(url.set(drivername=driver), name, retention=Retention())


def _url(settings: Settings) -> URL:
    """The URL of the application's own database, even if our tables are elsewhere."""
    if (engine := settings.engine()) is not None:
        return make_url(engine.url)
    try:
        url = make_url(settings[SETTING] or "")
    except ArgumentError:
        raise ConfigurationError(
            f"{PREFIX}OUTBOX: expected an app with Flask-SQLAlchemy, or {SETTING}; found neither"
        ) from None
    if url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:"):
        url = url.set(database=str(settings.instance / str(url.database)))
    return url
