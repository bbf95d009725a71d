"""Job instances in Redis (6.0 and later) or Valkey."""

from __future__ import annotations

from pijobs.storage.redis.storage import RedisStorage

__all__ = ["RedisStorage"]
