"""The queue of privacyIDEA's own class: pickles in a Redis list. They are counted and deleted, never read."""

from __future__ import annotations

from typing import Any

from huey import RedisHuey

from pijobs.settings import PREFIX, Settings, storage_url

#: What huey calls a queue whose settings name none; pijobs calls it otherwise.
_UNNAMED = "huey"


def old_queue(settings: Settings, name: str | None = None) -> Any:
    """huey's object for the old queue of the same settings. Connects at first use."""
    where = {"url": storage_url(settings)} if in_redis(settings) else {}
    return RedisHuey(
        name or settings[PREFIX + "NAME"], results=False, store_none=False, immediate=settings[PREFIX + "IMMEDIATE"],
        **where,
    )  # fmt: skip


def count_old(settings: Settings) -> dict[str, int]:
    """How many jobs the old queue left behind, by the name of the queue; none where the queue is not in Redis.

    :raises redis.RedisError: when Redis does not answer.
    """
    if not in_redis(settings):
        return {}
    numbers = {}
    for name in _names(settings):
        storage = old_queue(settings, name).storage
        numbers[name] = int(storage.queue_size() + storage.schedule_size())
    return {name: number for name, number in numbers.items() if number}


def delete_old(settings: Settings) -> int:
    """Delete them unread. :returns: how many there were."""
    found = count_old(settings)
    for name in found:
        storage = old_queue(settings, name).storage
        storage.flush_queue()
        storage.flush_schedule()
    return sum(found.values())


def in_redis(settings: Settings) -> bool:
    return storage_url(settings).startswith(("redis://", "rediss://", "unix://"))


def _names(settings: Settings) -> list[str]:
    name = settings[PREFIX + "NAME"]
    unnamed = name == settings.table[PREFIX + "NAME"].default
    return [name, _UNNAMED] if unnamed else [name]
