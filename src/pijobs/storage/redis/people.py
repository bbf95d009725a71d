"""The part for people: records, numbers, and switches."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Literal

from pijobs.errors import InstanceNotFound, StateConflict
from pijobs.jobs import State
from pijobs.storage import contract
from pijobs.storage.periods import Period
from pijobs.storage.records import Audit, Depths, GroupRecord, Page, Record
from pijobs.storage.redis import answers
from pijobs.storage.redis.base import RedisBase
from pijobs.storage.sessions import SessionRecord
from pijobs.storage.texts import storable_name, storable_text
from pijobs.storage.values import GROUPS, Pause

#: The most records that one script reads.
GROUPS_AT_ONCE, RECORDS_AT_ONCE, OLDEST_AT_ONCE = 100, 50, 200
#: Groups of which one script finds out whether they are in trouble.
GROUPS_LOOKED_AT = 250
#: Instances of each job whose group :meth:`RedisStorage.oldest_due` reads.
OLDEST_LOOKED_AT = 1000

_CURSOR = re.compile(r"(\d{1,16})\.([^\s]+)")


class ForPeople(RedisBase, contract.ForPeople):
    """The part for people: records, numbers, and switches."""

    def check(self, *, repair: bool = False) -> Iterator[Audit]:
        cursor = "0"
        while True:
            cursor, found = self._audit(cursor, repair=repair)
            yield found
            if found.last:
                return

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

    def pause(self, group: str | None = None, *, by: str = "", reason: str = "") -> None:
        note = Pause(self.now(), by, reason).dump()
        self._run(self._scripts.group, "pause all" if group is None else "pause", group or "", note)

    def resume(self, group: str | None = None) -> None:
        self._run(self._scripts.group, "resume all" if group is None else "resume", group or "")

    def make_due(self, group: str) -> int:
        number, place = 0, b"-inf"
        while place:
            _, done, place = self._run(self._scripts.group, "hurry", group, place)
            number += done
        return number

    def bypass(self, group: str | None = None, *, by: str = "", reason: str = "") -> None:
        self._ask("HSET", "bypass", storable_name(group or ""), Pause(self.now(), by, reason).dump())

    def end_bypass(self, group: str | None = None) -> None:
        self._ask("HDEL", "bypass", storable_name(group or ""))

    def groups(self, *, after: str = "", limit: int = GROUPS, healthy: str | None = None) -> list[GroupRecord]:
        found: list[GroupRecord] = []
        while len(found) < limit:
            # One script for all of them would block Redis for too long.
            number = min(GROUPS_AT_ONCE, limit - len(found))
            which = () if healthy is None else (healthy, GROUPS_LOOKED_AT)
            begin = f"({after}" if after else "-"
            _, rows, last = self._run(self._scripts.read, "groups", begin, number, *which)
            found += [answers.group(values) for values in rows]
            if not last:
                break
            after = answers.words(last)
        return found

    def totals(self, period: Period | None = None) -> dict[str, float]:
        return answers.totals(self._ask("HGETALL", "totals" if period is None else f"totals:{period.name}"))
