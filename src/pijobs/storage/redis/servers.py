"""The part for servers: it stores calls, and moves them to another storage."""

from __future__ import annotations

from collections.abc import Sequence

from pijobs.errors import Bypassed, NoLiveWorker
from pijobs.storage import contract
from pijobs.storage.redis import answers, arguments
from pijobs.storage.redis.arguments import Argument
from pijobs.storage.redis.base import RedisBase
from pijobs.storage.values import End, NewInstance, OnConflict, Stored


class ForServers(RedisBase, contract.ForServers):
    """The part for servers: it stores calls, and moves them to another storage."""

    def enqueue_many(
        self,
        batch: Sequence[tuple[NewInstance, OnConflict]],
        *,
        timeout: float,
        worker_within: int | None = None,
        bypassable: bool = False,
    ) -> list[Stored]:
        words: list[Argument] = [arguments.optional(worker_within), "", int(bypassable)]
        for new, on_conflict in batch:
            words += (*arguments.of_instance(new), on_conflict)
        answer = self._run_on(self._requests, timeout, self._scripts.enqueue, words, durability=self._durability)
        if answer[1] == b"no worker":
            raise NoLiveWorker
        if answer[1] == b"bypassed":
            raise Bypassed([one.decode() for one in answer[2:]])
        return [answers.stored(new.id, told) for (new, _), told in zip(batch, answer[1:], strict=False)]

    def enqueue_periodic(self, new: NewInstance, *, due: int) -> bool:
        answer = self._run(self._scripts.enqueue, "", due, 0, *arguments.of_instance(new), "replace")
        return bool(answer[1] != b"taken")

    def last_periodic(self, name: str) -> int | None:
        return answers.number(self._ask("HGET", "cron", name))

    def take_out(self, number: int, *, hold: int, timeout: float | None = None) -> list[NewInstance]:
        return answers.instances(self._run_within(timeout, self._scripts.moving, "take", number, hold)[1])

    def forget(self, ids: Sequence[str], *, timeout: float | None = None) -> None:
        self._run_within(timeout, self._scripts.moving, "forget", *ids)

    def record_end(self, new: NewInstance, end: End, *, timeout: float | None = None) -> bool:
        words = (*arguments.of_instance(new), *arguments.of_end(end))
        return bool(self._run_within(timeout, self._scripts.record_end, *words)[1])
