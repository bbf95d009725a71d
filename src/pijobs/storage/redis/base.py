"""The base of all parts of the storage in Redis: clock, connections, version, audit."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from pijobs.base import clock
from pijobs.errors import StorageUnavailable
from pijobs.storage import contract
from pijobs.storage.housekeeping import Housekeeping, Slice
from pijobs.storage.pool import ConnectionPool
from pijobs.storage.records import Audit
from pijobs.storage.redis import answers
from pijobs.storage.redis.arguments import Argument
from pijobs.storage.redis.connection import Wire
from pijobs.storage.redis.diagnosis import diagnose
from pijobs.storage.redis.durability import wait_until_durable
from pijobs.storage.redis.scripts import Script, Scripts
from pijobs.storage.redis.topology import PROTOCOL_FIELDS, Place, key_prefix
from pijobs.storage.redis.trial import Admission, Lent
from pijobs.storage.values import Durability, Retention

#: Seconds that workers and pages wait for an answer.
TIMEOUT = 5.0
#: Seconds that :meth:`RedisStorage.ping` waits.
PING_TIMEOUT = 1.0

#: Instances that one script audits.
AUDITED_AT_ONCE = 25


class RedisBase(contract.Base):
    """The base class of :mod:`servers`, :mod:`workers` and :mod:`people`."""

    def __init__(
        self,
        url: str,
        name: str,
        *,
        retention: Retention | None = None,
        password: str | None = None,
        durability: Durability = "server",
    ) -> None:
        self._url = url
        self._durability = durability
        self._prefix = key_prefix(name)
        self._place = place = Place(url, self._prefix + "meta", password=password)
        self.display_url = place.display_url
        self._scripts = Scripts(retention or Retention())
        # Requests have their own connections, so that no worker's blocking pop delays them.
        door = Admission(place, self._prefix, self._elsewhere, self._hear)
        self._requests: ConnectionPool[Wire] = ConnectionPool(
            door.connect, Wire.close, connect_within=door.connect_within, usable=Wire.is_usable, retry_max=2.0
        )
        self._workers: ConnectionPool[Wire] = ConnectionPool(
            door.connect, Wire.close, connect_within=door.connect_within, usable=Wire.is_usable, size=1024,
            retry_after=0.1, retry_max=1.0,
        )  # fmt: skip
        self._keep_house()
        self._offset: float | None = None
        self._woken = float("-inf")

    def now(self, *, timeout: float = 0.2) -> int:
        if self._offset is None:
            try:
                self._ask_time(timeout)
            except StorageUnavailable:
                return round(clock.time() * 1000)
        return round(clock.monotonic() * 1000 + (self._offset or 0))

    def ping(self) -> None:
        self._ask_time(PING_TIMEOUT)

    def set_protocol(self, number: int, *, oldest_reader: int) -> None:
        told = (word for pair in zip(PROTOCOL_FIELDS, (number, oldest_reader), strict=True) for word in pair)
        self._ask("HSET", "meta", *told)
        self.protocol = number

    def close(self) -> None:
        self._requests.close()
        self._workers.close()

    def _hear(self, wire: Wire) -> None:
        self.protocol = wire.protocol

    def _keep_house(self) -> None:
        self._housekeeping = Housekeeping(self._tidy, audit=lambda: self._audit("", repair=True)[1])

    @abstractmethod
    def _elsewhere(self, pool: Lent, prefix: str, scripts: Scripts) -> contract.Storage:
        """The same storage with other keys, on one connection."""

    def _ask_time(self, timeout: float) -> None:
        end = clock.monotonic() + timeout
        with self._requests.take(timeout) as wire:
            sent = clock.monotonic()
            seconds, micros = wire.ask(end - sent, "TIME")
        self._learn_time(int(seconds) * 1000 + int(micros) / 1000, sent)

    def _learn_time(self, server: float, sent: float) -> None:
        received = clock.monotonic()
        self._offset = clock.server_offset(self._offset, server - received * 1000, server - sent * 1000)

    def _run(self, script: Script, *words: Argument) -> list[Any]:
        return self._run_on(self._workers, TIMEOUT, script, words)

    def _run_on(
        self,
        pool: ConnectionPool[Wire],
        timeout: float,
        script: Script,
        words: Sequence[Argument],
        after: Sequence[Argument] = (),
        durability: Durability = "server",
    ) -> list[Any]:
        """:param after: a command to send before it.
        :param durability: what to wait for after it."""
        end = clock.monotonic() + timeout
        with pool.take(timeout) as wire:
            answer, sent = wire.run(end - clock.monotonic(), script, self._prefix, words, after=after)
            if durability != "server":
                wait_until_durable(wire, durability, end - clock.monotonic())
        self._learn_time(answer[0], sent)
        return answer

    def _ask(self, command: str, key: str, *rest: Argument) -> Any:
        with self._workers.take(TIMEOUT) as wire:
            return wire.ask(TIMEOUT, command, self._prefix + key, *rest)

    def _run_within(self, timeout: float | None, script: Script, *words: Argument) -> list[Any]:
        """:param timeout: seconds, for a request; None: those of a worker."""
        if timeout is None:
            return self._run(script, *words)
        return self._run_on(self._requests, timeout, script, words)

    def _tidy(self, most: int) -> Slice:
        answer = self._run(self._scripts.tidy, most)
        return Slice(more=bool(answer[2]), ended=answers.ended(answer[1]))

    def _audit(self, cursor: str, *, repair: bool) -> tuple[str, Audit]:
        """One slice, from a cursor or from the end of the last one; and the next cursor."""
        answer = self._run(self._scripts.audit, cursor, AUDITED_AT_ONCE, int(repair))
        return answers.words(answer[1]), answers.audit(*answer[1:], repaired=repair)

    def diagnose(self) -> dict[str, str]:
        with self._workers.take(TIMEOUT) as wire:
            return diagnose(wire, self._place, TIMEOUT)
