"""Waits until an enqueue is on Redis's disk, or in a replica."""

from __future__ import annotations

from pijobs.errors import StorageUnavailable, StorageUnfit
from pijobs.storage.redis.connection import Wire
from pijobs.storage.values import Durability

#: What is asked for, the time to wait for it (ms) comes behind.
_COMMANDS = {"disk": ("WAITAOF", 1, 0), "replica": ("WAIT", 1)}
#: Milliseconds of the trial.
_BRIEFLY = 1


def wait_until_durable(wire: Wire, durability: Durability, timeout: float) -> None:
    """Wait for what this connection wrote last.

    :param timeout: seconds.
    :raises StorageUnavailable: when it does not happen in that time. The instance may be stored all the same.
    """
    # A little less, so that the server's answer comes in time as well.
    left = max(1, int(timeout * 900))
    answer = wire.ask(timeout, *_COMMANDS[durability], left)
    confirmed = answer[0] if isinstance(answer, list) else answer
    if not confirmed:
        where = "on the disk of Redis" if durability == "disk" else "in a replica of Redis"
        raise StorageUnavailable(f"it was not {where} in time")


def require_durability(wire: Wire, durability: Durability) -> None:
    """:raises StorageUnfit: when this server can't give it: too old, without AOF, or a right is missing."""
    if durability == "server":
        return
    command = _COMMANDS[durability]
    if wire.ask_if_allowed(1.0, *command, _BRIEFLY) is None:
        needs = {
            "disk": "WAITAOF: Redis 7.2 with appendonly yes, and a user with the right +waitaof",
            "replica": "WAIT: a user with the right +wait",
        }
        raise StorageUnfit(f"an enqueue durability of {durability!r} needs {needs[durability]}")
