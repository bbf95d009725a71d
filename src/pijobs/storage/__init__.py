"""Where job instances are kept. :mod:`~pijobs.storage.contract` says what a storage promises, ``memory``, ``redis`` and
``sql`` implement it."""

from __future__ import annotations

from importlib.metadata import version
from urllib.parse import urlsplit

from pijobs.errors import ConfigurationError
from pijobs.storage.contract import Storage
from pijobs.storage.values import Durability, Retention

#: Storages that can't give all: MariaDB and MySQL have no durability for one transaction, and a file has no replica.
_DURABILITIES = {
    "sqlite": ("server", "disk"), "mysql": ("server",), "mariadb": ("server",), "memory": ("server",),
}  # fmt: skip


def open_storage(url: str, name: str, retention: Retention, durability: Durability = "server") -> Storage:
    """The storage for a URL; connects only when it is used.

    The module of a storage is imported only here, so that a queue in Redis does not load SQLAlchemy.

    :param durability: what an enqueue waits for.
    :raises ConfigurationError: if no storage accepts the URL, or it can't give the durability.
    """
    scheme = urlsplit(url).scheme
    kind = scheme.split("+")[0]
    if durability not in _DURABILITIES.get(kind, ("server", "disk", "replica")):
        raise ConfigurationError(
            f"expected an enqueue durability that {kind} can give to one enqueue, found {durability!r}; leave it out, "
            "and set the server"
        )
    if scheme in ("redis", "rediss", "unix", "redis+sentinel", "redis+cluster"):
        from pijobs.storage.redis import RedisStorage

        return RedisStorage(url, name, retention=retention, durability=durability)
    if kind in ("sqlite", "postgresql", "mysql", "mariadb"):
        _require_sqlalchemy_2()
        from pijobs.storage.sql import SqlStorage

        return SqlStorage(url, name, retention=retention, durability=durability)
    if scheme == "memory":
        from pijobs.storage.memory import MemoryStorage

        return MemoryStorage(name, retention=retention)
    raise ConfigurationError(f"expected the URL of a storage, found one with scheme {scheme!r}")


def open_file(path: str, name: str, retention: Retention) -> Storage:
    """A storage in an SQLite file. The path may contain any character; a URL would end at a question mark."""
    _require_sqlalchemy_2()
    from pijobs.storage.sql import SqlStorage

    return SqlStorage.in_file(path, name, retention)


def _require_sqlalchemy_2() -> None:
    """privacyIDEA 3.11 and 3.12 pin SQLAlchemy 1.4, so the core must work with Redis without a newer one."""
    found = version("sqlalchemy")
    if int(found.split(".")[0]) < 2:
        raise ConfigurationError(
            f"a queue or spool in a SQL database needs SQLAlchemy 2, found {found}; keep it in Redis, without spool"
        )
