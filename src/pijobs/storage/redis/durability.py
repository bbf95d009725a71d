"""Waits until an enqueue is on Redis's disk, or in a replica."""

from __future__ import annotations

from pijobs.errors import StorageUnavailable, StorageUnfit
from pijobs.storage.redis.connection import Wire
from pijobs.storage.values import Durability

#: The command; the time to wait (ms) follows.
_COMMANDS = {"disk": ("WAITAOF", 1, 0), "replica": ("WAIT", 1)}
#: Milliseconds of the trial.
_BRIEFLY = 1


def wait_until_durable(wire: Wire, durability: Durability, timeout: float) -> None:
    """Wait until the last write of this connection is durable.

    :param timeout: seconds.
    :raises StorageUnavailable: if it is not durable in time. The instance may be stored anyway.
    """
    # A little less, so that the server's answer arrives in time, too.
    left = max(1, int(timeout * 900))
    answer = wire.ask(timeout, *_COMMANDS[durability], left)
    confirmed = answer[0] if isinstance(answer, list) else answer
    if not confirmed:
        where = "on the disk of Redis" if durability == "disk" else "in a replica of Redis"
        raise StorageUnavailable(f"it was not {where} in time")


def require_durability(wire: Wire, durability: Durability) -> None:
    """:raises StorageUnfit: if this server can't do it: it is too old, has no AOF, or a right is missing."""
    if durability == "server":
        return
    command = _COMMANDS[durability]
    if wire.ask_if_allowed(1.0, *command, _BRIEFLY) is None:
        needs = {
            "disk": "WAITAOF: Redis 7.2 with appendonly yes, and a user with the right +waitaof",
            "replica": "WAIT: a user with the right +wait",
        }
        raise StorageUnfit(f"an enqueue durability of {durability!r} needs {needs[durability]}")
