"""Where job instances are kept. :mod:`~pijobs.storage.contract` tells what a storage promises."""

from __future__ import annotations

from urllib.parse import urlsplit

from pijobs.errors import ConfigurationError
from pijobs.storage.contract import Retention, Storage


def open_storage(url: str, name: str, retention: Retention) -> Storage:
    """The storage for a URL; connects only when it is used.

    The module of a storage is imported here and not before: who keeps the queue in Redis does not pay for SQLAlchemy.

    :raises ConfigurationError: for a URL that no storage takes.
    """
    scheme = urlsplit(url).scheme
    if scheme in ("redis", "rediss", "unix", "redis+sentinel"):
        from pijobs.storage.redis import RedisStorage

        return RedisStorage(url, name, retention=retention)
    if scheme.split("+")[0] in ("sqlite", "postgresql", "mysql", "mariadb"):
        from pijobs.storage.sql import SqlStorage

        return SqlStorage(url, name, retention=retention)
    if scheme == "memory":
        from pijobs.storage.memory import MemoryStorage

        return MemoryStorage(name, retention=retention)
    raise ConfigurationError(f"expected the URL of a storage, found one with scheme {scheme!r}")
