"""The storages of histories in Redis."""

from __future__ import annotations

import secrets
from typing import Any

import redis

from pijobs.storage.contract import Storage
from pijobs.storage.redis import RedisStorage
from pijobs.storage.redis.scripts import Scripts
from pijobs.storage.values import Retention
from pijobs.testing.simulation.places import Place
from pijobs.testing.simulation.served_places import Served, names
from pijobs.testing.simulation.world import Host, World


class Server:
    """The Redis server of a run, and the simulated time that its scripts read."""

    def __init__(self, url: str) -> None:
        self.url, self.client = url, redis.Redis.from_url(url)
        self._run = secrets.token_hex(4)
        self._clock = f"simulated-time-{self._run}"
        self.now = f"redis.call('HMGET', '{self._clock}', 'seconds', 'micros')"

    def queue_name(self) -> str:
        """A new name."""
        return f"{self._run}-{next(names)}"

    def set_time(self, seconds: float) -> None:
        """Set the time that scripts read."""
        micros = int(seconds * 1e6)
        self.client.hset(self._clock, mapping={"seconds": micros // 10**6, "micros": micros % 10**6})

    def close(self) -> None:
        """Delete the time, and close the connection."""
        self.client.delete(self._clock)
        self.client.close()


class Simulated(RedisStorage):
    """A Redis storage with the history's time."""

    place: Place

    def try_out(self) -> None:
        """Skip the trial: its scripts would ask for the server's time."""

    def _learn_time(self, server: float, sent: float) -> None:
        # Calls from outside the history set no time, and would read that of the last call.
        super()._learn_time(self.place.time() * 1000, self.place.world.now)


class RedisPlace(Served):
    """A queue in Redis."""

    truth: Simulated

    def __init__(self, world: World, name: str, host: Host, *, server: Server) -> None:
        self._server = server
        super().__init__(world, name, host)

    def _make(self) -> Storage:
        storage = Simulated(self._server.url, self._server.queue_name())
        storage._scripts = Scripts(Retention(), now=self._server.now)
        storage.place = self
        return storage

    def before_call(self) -> None:
        self._server.set_time(self.time())

    def _keys(self) -> list[bytes]:
        return list(self._server.client.scan_iter(f"{self.truth._prefix}*"))

    def _read(self) -> Any:
        return {key: self._server.client.dump(key) for key in self._keys()}

    def _write(self, held: Any) -> None:
        for key in self._keys():
            self._server.client.delete(key)
        for key, value in (held or {}).items():
            self._server.client.restore(key, 0, value)

    def _spoil(self, instance_id: str) -> None:
        self._server.client.hset(f"{self.truth._prefix}i:{instance_id}", "body", b"spoilt")

    def close(self) -> None:
        self._write(None)
        super().close()
