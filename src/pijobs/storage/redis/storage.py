"""The storage in Redis: each method of the contract is one script."""

from __future__ import annotations

import copy

from pijobs.storage import contract
from pijobs.storage.redis.base import TIMEOUT
from pijobs.storage.redis.durability import require_durability
from pijobs.storage.redis.people import ForPeople
from pijobs.storage.redis.scripts import Scripts
from pijobs.storage.redis.servers import ForServers
from pijobs.storage.redis.trial import Lent, on_trial, require_commands
from pijobs.storage.redis.workers import ForWorkers
from pijobs.storage.trial import live_once


class RedisStorage(ForServers, ForWorkers, ForPeople, contract.Storage):
    """Job instances in Redis (6.0 and later) or Valkey.

    :param url: see :class:`~pijobs.storage.redis.topology.Place`.
    :param name: queues with different names are separate.
    :param password: instead of one in the URL.
    :param durability: what an enqueue waits for.
    """

    def try_out(self) -> None:
        with self._workers.take(TIMEOUT) as wire, on_trial(wire, self._prefix, self._elsewhere) as trial:
            require_commands(wire, trial._prefix)
            live_once(trial, timeout=TIMEOUT)
            require_durability(wire, self._durability)

    def _elsewhere(self, pool: Lent, prefix: str, scripts: Scripts) -> RedisStorage:
        """The same storage with other keys, on one connection."""
        other = copy.copy(self)
        other._prefix, other._scripts, other._durability = prefix, scripts, "server"
        other._requests = other._workers = pool  # type: ignore[assignment]
        other._keep_house()
        return other
