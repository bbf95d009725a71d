"""The queue of privacyIDEA's own class: pickles in a Redis list. They are counted and deleted, never read."""

from __future__ import annotations

from typing import Any

from huey import RedisHuey

from pijobs.settings import PREFIX, Settings, storage_url


def old_queue(settings: Settings) -> Any:
    """huey's object for the old queue of the same settings. Connects at first use."""
    where = {"url": storage_url(settings)} if in_redis(settings) else {}
    return RedisHuey(
        settings[PREFIX + "NAME"], results=False, store_none=False, immediate=settings[PREFIX + "IMMEDIATE"], **where
    )


def count_old(settings: Settings) -> int:
    """How many jobs the old queue left behind; 0 where the queue is not in Redis.

    :raises redis.RedisError: when Redis does not answer.
    """
    if not in_redis(settings):
        return 0
    storage = old_queue(settings).storage
    return int(storage.queue_size() + storage.schedule_size())


def delete_old(settings: Settings) -> int:
    """Delete them unread. :returns: how many there were."""
    number = count_old(settings)
    if number:
        storage = old_queue(settings).storage
        storage.flush_queue()
        storage.flush_schedule()
    return number


def in_redis(settings: Settings) -> bool:
    return storage_url(settings).startswith(("redis://", "rediss://", "unix://"))
