"""What ``pijobs config check`` shows about a Redis."""

from __future__ import annotations

from pijobs.storage.redis.connection import Wire
from pijobs.storage.redis.topology import Place

_FACTS = (
    "redis_version", "valkey_version", "redis_mode", "role", "maxmemory", "used_memory", "evicted_keys", "aof_enabled",
    "rdb_last_bgsave_status",
)  # fmt: skip


def diagnose(wire: Wire, place: Place, timeout: float) -> dict[str, str]:
    """What an operator should know about this Redis, as far as its user may read it."""
    facts: dict[str, str] = {}
    for section in ("server", "replication", "memory", "persistence", "stats"):
        answer = wire.ask_if_allowed(timeout, "INFO", section) or b""
        pairs = (line.partition(":") for line in answer.decode().splitlines())
        facts.update({name: value for name, _, value in pairs})
    policy = wire.ask_if_allowed(timeout, "CONFIG", "GET", "maxmemory-policy")
    found = place.facts() | {name: facts[name] for name in _FACTS if name in facts}
    if policy:
        found["maxmemory-policy"] = policy[1].decode()
    elif "maxmemory_policy" in facts:
        found["maxmemory-policy"] = facts["maxmemory_policy"]
    saved = wire.ask_if_allowed(timeout, "CONFIG", "GET", "save")
    if saved:
        found["save"] = saved[1].decode()
    return found
