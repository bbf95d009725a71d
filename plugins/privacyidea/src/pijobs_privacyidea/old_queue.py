"""The queue of privacyIDEA's own class: pickles in a Redis list, which pijobs counts and deletes but never reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import redis
from huey import RedisHuey

from pijobs.errors import StorageUnavailable
from pijobs.settings import PREFIX, Settings

T = TypeVar("T")
#: Seconds to wait for Redis.
_PATIENCE = 2
#: huey's default name of a queue; pijobs has another default.
_UNNAMED = "huey"


def old_queue(settings: Settings, name: str | None = None) -> Any:
    """huey's object for the old queue of the same settings. Connects at first use."""
    where = {}
    if in_redis(settings):
        patience = {"socket_timeout": _PATIENCE, "socket_connect_timeout": _PATIENCE}
        where["connection_pool"] = redis.ConnectionPool.from_url(settings.storage_url, **patience)
    return RedisHuey(
        name or settings.name, results=False, store_none=False, immediate=settings.immediate,
        **where,
    )  # fmt: skip


def count_old(settings: Settings) -> dict[str, int]:
    """The number of jobs left in the old queue, by name of the queue; empty if the queue is not in Redis.

    :raises StorageUnavailable: if Redis does not answer.
    """
    names = _names(settings) if in_redis(settings) else ()
    numbers = {name: _asked(settings, name, _size) for name in names}
    return {name: number for name, number in numbers.items() if number}


def delete_old(settings: Settings) -> int:
    """Delete the old jobs unread.

    :returns: number of deleted jobs.
    :raises StorageUnavailable: if Redis does not answer.
    """
    found = count_old(settings)
    for name in found:
        _asked(settings, name, _flush)
    return sum(found.values())


def in_redis(settings: Settings) -> bool:
    return settings.storage_url.startswith(("redis://", "rediss://", "unix://"))


def _names(settings: Settings) -> list[str]:
    name = settings.name
    unnamed = name == settings.table[PREFIX + "NAME"].default
    return [name, _UNNAMED] if unnamed else [name]


def _asked(settings: Settings, name: str, ask: Callable[[Any], T]) -> T:
    try:
        return ask(old_queue(settings, name).storage)
    except (redis.ConnectionError, redis.TimeoutError) as error:
        raise StorageUnavailable(f"Redis is not available: {error}") from error


def _size(storage: Any) -> int:
    return int(storage.queue_size() + storage.schedule_size())


def _flush(storage: Any) -> None:
    storage.flush_queue()
    storage.flush_schedule()
