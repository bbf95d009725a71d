"""Where job instances are kept. :mod:`~pijobs.storage.contract` tells what a storage promises."""

from __future__ import annotations

from importlib.metadata import version
from urllib.parse import urlsplit

from pijobs.errors import ConfigurationError
from pijobs.storage.contract import Retention, Storage


def open_storage(url: str, name: str, retention: Retention) -> Storage:
    """The storage for a URL; connects only when it is used.

    The module of a storage is imported here and not before: who keeps the queue in Redis does not pay for SQLAlchemy.

    :raises ConfigurationError: for a URL that no storage takes.
    """
    scheme = urlsplit(url).scheme
    if scheme in ("redis", "rediss", "unix", "redis+sentinel", "redis+cluster"):
        from pijobs.storage.redis import RedisStorage

        return RedisStorage(url, name, retention=retention)
    if scheme.split("+")[0] in ("sqlite", "postgresql", "mysql", "mariadb"):
        _require_sqlalchemy_2()
        from pijobs.storage.sql import SqlStorage

        return SqlStorage(url, name, retention=retention)
    if scheme == "memory":
        from pijobs.storage.memory import MemoryStorage

        return MemoryStorage(name, retention=retention)
    raise ConfigurationError(f"expected the URL of a storage, found one with scheme {scheme!r}")


def _require_sqlalchemy_2() -> None:
    """privacyIDEA 3.11 and 3.12 pin SQLAlchemy 1.4, so a core for Redis must do without a newer one."""
    found = version("sqlalchemy")
    if int(found.split(".")[0]) < 2:
        raise ConfigurationError(
            f"a queue or spool in a SQL database needs SQLAlchemy 2, found {found}; keep it in Redis, without spool"
        )
