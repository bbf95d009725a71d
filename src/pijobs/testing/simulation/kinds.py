"""The storages for histories. Each call to one is one atomic operation.

On Redis and PostgreSQL all processes of a history share the connections.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from pijobs.testing.simulation.places import Place
from pijobs.testing.simulation.world import Host, World

MakePlace = Callable[[World, str, Host], Place]


@contextmanager
def _memory(url: str) -> Iterator[MakePlace]:
    yield Place


@contextmanager
def _sql(url: str) -> Iterator[MakePlace]:
    from pijobs.testing.simulation.sql_places import Database, SqlPlace

    yield partial(SqlPlace, database=Database(url))


@contextmanager
def _sqlite(url: str) -> Iterator[MakePlace]:
    memory = "/dev/shm"  # noqa: S108 - what is simulated needs no disk
    place = tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None)
    with place as folder, _sql(f"sqlite:///{Path(folder) / 'queue'}") as make:
        yield make


@contextmanager
def _redis(url: str) -> Iterator[MakePlace]:
    from pijobs.testing.simulation.redis_places import RedisPlace, Server

    with closing(Server(url)) as server:
        yield partial(RedisPlace, server=server)


#: Factories by name; Redis and PostgreSQL need a URL.
KINDS: dict[str, Callable[[str], Any]] = {"memory": _memory, "sqlite": _sqlite, "redis": _redis, "postgresql": _sql}


@contextmanager
def kind(name: str, url: str = "") -> Iterator[MakePlace]:
    """Open the factory of a history's storages.

    :param url: of the server, for Redis and PostgreSQL.
    """
    if name in ("redis", "postgresql") and not url:
        raise SystemExit(f"a history on {name} needs --url")
    with KINDS[name](url) as make:
        yield make


__all__ = ["KINDS", "MakePlace", "kind"]
