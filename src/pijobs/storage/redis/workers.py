"""The part for workers: sessions, leases and their ends, and the limits of groups."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence

from pijobs.base import clock
from pijobs.storage import contract
from pijobs.storage.periods import Period
from pijobs.storage.records import GroupRecord
from pijobs.storage.redis import answers, arguments
from pijobs.storage.redis.arguments import Argument
from pijobs.storage.redis.base import TIMEOUT, RedisBase
from pijobs.storage.redis.scripts import RECOVERED
from pijobs.storage.redis.topology import PROTOCOL_FIELDS, read_protocol
from pijobs.storage.sessions import Beat, SessionInfo
from pijobs.storage.texts import storable_json, storable_name
from pijobs.storage.values import HOUSEKEEPING_BATCH, LEFT_OUT, MAX_TOTALS, PROGRESS, End, Ended, LossKind, Step

#: Seconds of one blocking pop, and so how long :meth:`RedisStorage.wake` may take.
NAP = 0.9
#: A :meth:`RedisStorage.wake` so many seconds ago still counts for a wait that has just begun.
JUST_NOW = 0.1

#: Totals that one script adds to.
TOTALS_AT_ONCE = 200


class ForWorkers(RedisBase, contract.ForWorkers):
    """The part for workers: sessions, leases and their ends, and the limits of groups."""

    def open_session(self, info: SessionInfo, *, lease: int) -> None:
        self.protocol = read_protocol(self._ask("HMGET", "meta", *PROTOCOL_FIELDS), self.display_url)
        self._run(self._scripts.session, "open", info.id, lease, info.dump())

    def update_session(self, info: SessionInfo) -> None:
        self._run(self._scripts.session, "retell", info.id, info.dump())

    def beat(
        self,
        session: str,
        *,
        lease: int,
        abandoned: Sequence[tuple[str, str]] = (),
        unknown: Sequence[tuple[str, str]] = (),
    ) -> Beat:
        pairs = [one for pair in (*unknown, *abandoned) for one in pair]
        *answer, more = self._run(self._scripts.beat, session, lease, len(unknown), *pairs)
        beat = answers.beat(*answer)
        for _ in range(1, HOUSEKEEPING_BATCH // RECOVERED):
            if not more:
                break
            _, _, ended, *_, more = self._run(self._scripts.beat, session, lease, 0)
            beat.ended.extend(answers.ended(ended))
        beat.ended.extend(self._housekeeping.keep(lease))
        return beat

    def step(self, session: str, ends: Sequence[End], *, want: int, floor: int | None = None) -> Step:
        return self._step(session, ends, want, floor)

    def wait_for_step(self, session: str, *, timeout: float, want: int, floor: int | None = None) -> Step:
        if self._woken >= clock.monotonic() - JUST_NOW:
            return self.step(session, (), want=want, floor=floor)
        return self._step(session, (), want, floor, nap=_nap(timeout))

    def _step(
        self, session: str, ends: Sequence[End], want: int, floor: int | None, *, nap: float | None = None
    ) -> Step:
        stamp = secrets.token_hex(8)
        words: list[Argument] = [session, stamp, want, arguments.optional(floor)]
        for end in ends:
            words += arguments.of_end(end)
        # Redis runs the script right after the pop, so a worker needs no second round trip to get the work.
        after = () if nap is None else self._pop(nap, floor)
        answer = self._run_on(self._workers, TIMEOUT + (nap or 0), self._scripts.step, words, after)
        now, next_due, leases, lost, ended = answer
        return Step(
            leases=answers.leases(leases, now),
            lost=[one.decode() for one in lost],
            next_due=answers.number(next_due),
            ended=answers.ended(ended),
        )

    def note_progress(self, instance_id: str, token: str, line: str) -> bool:
        answer = self._run(self._scripts.admin, "progress", instance_id, token, storable_json(line), PROGRESS)
        return bool(answer[-1] == b"ok")

    def wait(self, timeout: float, *, floor: int | None = None) -> None:
        start = clock.monotonic()
        while self._woken < start - JUST_NOW and (left := start + timeout - clock.monotonic()) > 0:
            nap = _nap(left)
            with self._workers.take(TIMEOUT) as wire:
                if wire.ask(nap + TIMEOUT, *self._pop(nap, floor)) is not None:
                    return

    def _pop(self, nap: float, floor: int | None) -> tuple[Argument, ...]:
        return ("BLPOP", self._prefix + ("wake" if floor is None else f"wake:{floor}"), f"{nap:.3f}")

    def wake(self) -> None:
        self._woken = clock.monotonic()

    def close_session(self, session: str, *, crashed: bool = False) -> list[Ended]:
        ended: list[Ended] = []
        more = 1
        while more:
            _, told, more = self._run(self._scripts.session, "crashed" if crashed else "close", session)
            ended += answers.ended(told)
        return ended

    def note_loss(self, kind: LossKind) -> None:
        self._run(self._scripts.session, "lost", kind)

    def group(self, name: str) -> GroupRecord | None:
        values = self._run(self._scripts.read, "group", name)[1]
        return answers.group(values) if values else None

    def set_group(
        self, name: str, *, version: int, limit: int | None, blocked_until: int | None, policy: str, keep: int = 0
    ) -> bool:
        answer = self._run(
            self._scripts.group,
            "set",
            name,
            version,
            arguments.optional(limit),
            arguments.optional(blocked_until),
            policy,
            keep,
        )
        return bool(answer[1])

    def count(self, key: str, *, limit: int, per: int) -> int | None:
        return answers.number(self._run(self._scripts.count, storable_name(key), limit, per)[1])

    def add_totals(
        self,
        added: Mapping[str, float],
        *,
        period: Period | None = None,
        most: int = MAX_TOTALS,
        timeout: float | None = None,
    ) -> None:
        items = list(added.items())
        where = ("", "") if period is None else (f":{period.name}", period.keep)
        for n in range(0, len(items), TOTALS_AT_ONCE):
            words = (word for name, value in items[n : n + TOTALS_AT_ONCE] for word in (name, f"{value!r}"))
            self._run_within(timeout, self._scripts.totals, most, LEFT_OUT, *where, *words)


def _nap(timeout: float) -> float:
    """Seconds of one blocking pop. Never 0, which means for ever."""
    return min(max(timeout, 0.01), NAP)
