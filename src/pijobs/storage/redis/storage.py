"""The storage in Redis: what the contract asks, each as one script."""

from __future__ import annotations

import copy
import re
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Literal

from pijobs.base import clock
from pijobs.errors import Bypassed, InstanceNotFound, NoLiveWorker, StateConflict, StorageUnavailable
from pijobs.jobs import State
from pijobs.storage.contract import Storage
from pijobs.storage.housekeeping import Housekeeping, Slice
from pijobs.storage.periods import Period
from pijobs.storage.pool import ConnectionPool
from pijobs.storage.records import Audit, Depths, GroupRecord, Page, Record
from pijobs.storage.redis import answers, arguments
from pijobs.storage.redis.arguments import Argument
from pijobs.storage.redis.connection import Wire
from pijobs.storage.redis.diagnosis import diagnose
from pijobs.storage.redis.durability import require_durability, wait_until_durable
from pijobs.storage.redis.scripts import RECOVERED, Script, Scripts
from pijobs.storage.redis.topology import PROTOCOL_FIELDS, Place, key_prefix, read_protocol
from pijobs.storage.redis.trial import Admission, Lent, on_trial, require_commands
from pijobs.storage.sessions import Beat, SessionInfo, SessionRecord
from pijobs.storage.texts import storable_json, storable_name, storable_text
from pijobs.storage.trial import live_once
from pijobs.storage.values import (
    GROUPS,
    HOUSEKEEPING_BATCH,
    LEFT_OUT,
    MAX_TOTALS,
    PROGRESS,
    Durability,
    End,
    Ended,
    LossKind,
    NewInstance,
    OnConflict,
    Pause,
    Retention,
    Step,
    Stored,
)

#: Seconds that workers and pages wait for an answer.
TIMEOUT = 5.0
#: Seconds that :meth:`RedisStorage.ping` waits.
PING_TIMEOUT = 1.0
#: Seconds of one blocking pop, and so how long :meth:`RedisStorage.wake` may take.
NAP = 0.9
#: A :meth:`RedisStorage.wake` so many seconds ago still counts for a wait that has just begun.
JUST_NOW = 0.1
#: Answers that took longer say too little about the time at which they were given.
GOOD_SAMPLE = 0.1

#: What one script looks at, at most.
GROUPS_AT_ONCE, RECORDS_AT_ONCE, TOTALS_AT_ONCE, AUDITED_AT_ONCE, OLDEST_AT_ONCE = 50, 50, 200, 25, 200
#: Instances of each job of which :meth:`RedisStorage.oldest_due` looks at the group.
OLDEST_LOOKED_AT = 1000

_CURSOR = re.compile(r"(\d{1,16})\.([^\s]+)")


class RedisStorage(Storage):
    """Job instances in Redis (6.0 and later) or Valkey.

    :param url: see :class:`~pijobs.storage.redis.topology.Place`.
    :param name: queues of different names do not meet.
    :param password: instead of one in the URL.
    :param durability: what an enqueue waits for.
    """

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
        # Requests have connections of their own, so that no worker's blocking pop stands in their way.
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

    # -- clock and connection ------------------------------------------------------------------------------------

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

    def _ask_time(self, timeout: float) -> None:
        end = clock.monotonic() + timeout
        with self._requests.take(timeout) as wire:
            sent = clock.monotonic()
            seconds, micros = wire.ask(end - sent, "TIME")
        self._learn_time(int(seconds) * 1000 + int(micros) / 1000, sent)

    def _learn_time(self, server: float, sent: float) -> None:
        received = clock.monotonic()
        if self._offset is None or received - sent < GOOD_SAMPLE:
            self._offset = server - (sent + received) * 500

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
        """:param after: a command to send in front.
        :param durability: what to wait for afterwards."""
        end = clock.monotonic() + timeout
        with pool.take(timeout) as wire:
            answer, sent = wire.run(end - clock.monotonic(), script, self._prefix, words, after=after)
            if durability != "server":
                wait_until_durable(wire, durability, end - clock.monotonic())
        self._learn_time(answer[0], sent)
        return answer

    # -- for servers ---------------------------------------------------------------------------------------------

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

    def _ask(self, command: str, key: str, *rest: Argument) -> Any:
        with self._workers.take(TIMEOUT) as wire:
            return wire.ask(TIMEOUT, command, self._prefix + key, *rest)

    # -- for what moves to another storage -----------------------------------------------------------------------

    def take_out(self, number: int, *, hold: int, timeout: float | None = None) -> list[NewInstance]:
        return answers.instances(self._run_within(timeout, self._scripts.moving, "take", number, hold)[1])

    def forget(self, ids: Sequence[str], *, timeout: float | None = None) -> None:
        self._run_within(timeout, self._scripts.moving, "forget", *ids)

    def record_end(self, new: NewInstance, end: End, *, timeout: float | None = None) -> bool:
        words = (*arguments.of_instance(new), *arguments.of_end(end))
        return bool(self._run_within(timeout, self._scripts.record_end, *words)[1])

    def _run_within(self, timeout: float | None, script: Script, *words: Argument) -> list[Any]:
        """:param timeout: seconds, for a request; None: as long as a worker waits."""
        if timeout is None:
            return self._run(script, *words)
        return self._run_on(self._requests, timeout, script, words)

    # -- for workers ---------------------------------------------------------------------------------------------

    def open_session(self, info: SessionInfo, *, lease: int) -> None:
        self.protocol = read_protocol(self._ask("HMGET", "meta", *PROTOCOL_FIELDS), self.display_url)
        self._run(self._scripts.session, "open", info.id, lease, info.dump())

    def retell(self, info: SessionInfo) -> None:
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

    def _tidy(self, most: int) -> Slice:
        answer = self._run(self._scripts.tidy, most)
        return Slice(more=bool(answer[2]), ended=answers.ended(answer[1]))

    def _audit(self, cursor: str, *, repair: bool) -> tuple[str, Audit]:
        """One slice from a cursor, or from where the last one stopped; and the cursor of the next."""
        answer = self._run(self._scripts.audit, cursor, AUDITED_AT_ONCE, int(repair))
        return answers.words(answer[1]), answers.audit(*answer[1:], repaired=repair)

    def check(self, *, repair: bool = False) -> Iterator[Audit]:
        cursor = "0"
        while True:
            cursor, found = self._audit(cursor, repair=repair)
            yield found
            if found.last:
                return

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
        # Redis runs the script the moment that the pop is over: who takes a token does not go home to ask for the work.
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

    # -- for people ----------------------------------------------------------------------------------------------

    def get(self, instance_id: str) -> Record:
        values = self._run(self._scripts.read, "get", instance_id)[1]
        if not values:
            raise InstanceNotFound(instance_id)
        return answers.record(values)

    def body(self, instance_id: str) -> bytes | None:
        state, body = self._ask("HMGET", f"i:{instance_id}", "state", "body")
        if state is None:
            raise InstanceNotFound(instance_id)
        return None if body is None else bytes(body)

    def page(
        self,
        state: State,
        *,
        name: str | None = None,
        group: str | None = None,
        subject: str | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> Page:
        place, last = "+inf", ""
        if cursor is not None:
            if not (match := _CURSOR.fullmatch(cursor)):
                raise ValueError(f"expected a cursor that an earlier page gave, found {cursor!r}")
            place, last = match.groups()
        filters = (name or "", group or "", subject or "")
        records: list[Record] = []
        for left in range(limit, 0, -RECORDS_AT_ONCE):
            number = min(left, RECORDS_AT_ONCE)
            answer = self._run(self._scripts.read, "page", state.value, *filters, place, last, number)
            records += map(answers.record, answer[1])
            if not (cursor := answers.text(answer[2])):
                break
            place, _, last = cursor.partition(".")
        return Page(records, cursor)

    def waiting(self, name: str, *, most: int, timeout: float | None = None) -> tuple[int, int | None]:
        _, number, due = self._run_within(timeout, self._scripts.read, "waiting", name)
        return min(most, number), answers.number(due)

    def make_room(self, name: str, *, priority: int, reason: str, timeout: float | None = None) -> str | None:
        return answers.text(self._run_within(timeout, self._scripts.room, name, priority, storable_text(reason))[1])

    def depths(self) -> Depths:
        return answers.depths(*self._run(self._scripts.read, "depths")[1:])

    def oldest_due(self, *, without: Collection[str]) -> int | None:
        found = (self._oldest_of(name, without) for name in self._ask("SMEMBERS", "names"))
        return min((due for due in found if due is not None), default=None)

    def _oldest_of(self, name: bytes, without: Collection[str]) -> int | None:
        for first in range(0, OLDEST_LOOKED_AT, OLDEST_AT_ONCE):
            rows = self._run(self._scripts.read, "oldest", name, first, first + OLDEST_AT_ONCE - 1)[1]
            for due, group in zip(rows[::2], rows[1::2], strict=True):
                if answers.words(group) not in without:
                    return int(due)
            if len(rows) < 2 * OLDEST_AT_ONCE:
                break
        return None

    def sessions(self) -> list[SessionRecord]:
        found = map(answers.session, self._run(self._scripts.read, "sessions")[1])
        return sorted(filter(None, found), key=lambda record: (record.info.started, record.info.id))

    def cancel(self, instance_id: str, *, reason: str) -> None:
        self._administer("cancel", instance_id, storable_text(reason))

    def retry(self, instance_id: str) -> None:
        self._administer("retry", instance_id)

    def remove(self, instance_id: str) -> None:
        self._administer("remove", instance_id)

    def reseal(self, instance_id: str, *, old: tuple[bytes, bytes], new: tuple[bytes, bytes]) -> bool:
        answer = self._run(self._scripts.admin, "reseal", instance_id, *old, *new)
        return bool(answer[-1] == b"ok")

    def _administer(self, action: Literal["cancel", "retry", "remove"], instance_id: str, *rest: str) -> None:
        answer = self._run(self._scripts.admin, action, instance_id, *rest)
        state = answer[1].decode()
        if not state:
            raise InstanceNotFound(instance_id)
        fault = answer[2]
        if fault == b"state":
            wanted = {"cancel": "queued or scheduled", "retry": "dead", "remove": "ended"}[action]
            raise StateConflict(f"can't {action} instance {instance_id}: expected it to be {wanted}, it is {state}")
        if fault == b"deadline":
            raise StateConflict(f"can't retry instance {instance_id}: its deadline has passed")
        if fault == b"body":
            raise StateConflict(f"can't retry instance {instance_id}: its body has gone")

    # -- groups and limits ---------------------------------------------------------------------------------------

    def pause(self, group: str | None = None, *, by: str = "", reason: str = "") -> None:
        note = Pause(self.now(), by, reason).dump()
        self._run(self._scripts.group, "pause all" if group is None else "pause", group or "", note)

    def resume(self, group: str | None = None) -> None:
        self._run(self._scripts.group, "resume all" if group is None else "resume", group or "")

    def hurry(self, group: str) -> int:
        number, place = 0, b"-inf"
        while place:
            _, done, place = self._run(self._scripts.group, "hurry", group, place)
            number += done
        return number

    def bypass(self, group: str | None = None, *, by: str = "", reason: str = "") -> None:
        self._ask("HSET", "bypass", storable_name(group or ""), Pause(self.now(), by, reason).dump())

    def end_bypass(self, group: str | None = None) -> None:
        self._ask("HDEL", "bypass", storable_name(group or ""))

    def group(self, name: str) -> GroupRecord | None:
        values = self._run(self._scripts.read, "group", name)[1]
        return answers.group(values) if values else None

    def groups(self, *, after: str = "", limit: int = GROUPS) -> list[GroupRecord]:
        found: list[GroupRecord] = []
        while len(found) < limit:
            # One script for all of them would hold Redis for too long.
            number = min(GROUPS_AT_ONCE, limit - len(found))
            rows = self._run(self._scripts.read, "groups", f"({after}" if after else "-", number)[1]
            found += [answers.group(values) for values in rows]
            if len(rows) < number:
                break
            after = found[-1].name
        return found

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

    # -- totals --------------------------------------------------------------------------------------------------

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

    def totals(self, period: Period | None = None) -> dict[str, float]:
        return answers.totals(self._ask("HGETALL", "totals" if period is None else f"totals:{period.name}"))

    # -- for `config check` --------------------------------------------------------------------------------------

    def diagnose(self) -> dict[str, str]:
        with self._workers.take(TIMEOUT) as wire:
            return diagnose(wire, self._place, TIMEOUT)


def _nap(timeout: float) -> float:
    """Seconds of one blocking pop. Never 0, which means for ever."""
    return min(max(timeout, 0.01), NAP)
