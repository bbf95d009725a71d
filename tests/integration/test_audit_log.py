"""The audit log: what is in it stays as it was, and one person's part can go."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from pijobs.audit import AuditLog, Entry
from pijobs.audit.entries import chained
from pijobs.audit.log import ERASE, MOST_REFUSALS, PRUNE, PRUNE_EVERY
from pijobs.audit.tables import entries, head
from pijobs.audit.verify import Findings, verify
from pijobs.database import Database
from pijobs.payload.keys import KeyRing

DAY = 24 * 3600.0


class Place:
    """An audit log in a database of its own, with a clock. :ivar now: seconds."""

    def __init__(self, directory: Path) -> None:
        self.now = 1_000_000.0
        self.database = Database(f"sqlite:///{directory}/audit.sqlite", directory)
        self.ring = KeyRing(["the newest key"])
        self.log = AuditLog(self.database, self.ring, 30 * DAY, lambda: self.now)

    def fill(self, number: int = 5) -> None:
        for count in range(number):
            self.log.append(Entry("job.retry", who="alice", address="192.0.2.1", on=f"job {count}", reason="a test"))

    def found(self, expected: tuple[int, str] | None = None) -> Findings:
        return verify(self.log, self.ring, expected)

    def tamper(self, *statements: Any) -> None:
        with self.database.begin() as connection:
            for statement in statements:
                connection.execute(statement)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_what_happened_is_told_newest_first(place: Place) -> None:
    place.fill(3)
    place.log.append(Entry("sign-in", "refused", who="bob", address="2001:db8::1"))
    shown = [one.shown() for one in place.log.newest()]
    assert [row["on"] for row in shown] == ["", "job 2", "job 1", "job 0"]
    assert (shown[0]["who"], shown[0]["address"], shown[0]["outcome"]) == ("bob", "2001:db8::1", "refused")
    assert [one.seq for one in place.log.newest(who="alice", limit=2)] == [3, 2]
    assert [one.seq for one in place.log.newest(act="sign", before=9)] == [4]
    assert place.log.newest(who="nobody") == []
    assert place.found() == Findings([], 4, 0, place.log.head())


def test_looking_makes_no_table(place: Place) -> None:
    assert place.log.newest() == [] and place.found() == Findings()
    assert place.database.file is not None and not place.database.file.exists()


def changed_body(place: Place, seq: int, **values: Any) -> str:
    (one,) = [one for one in place.log.all() if one.seq == seq]
    return json.dumps({**one.content, **values}, sort_keys=True, separators=(",", ":"))


TAMPERINGS: dict[str, tuple[Callable[[Place], list[Any]], str]] = {
    "body": (lambda place: [entries.update().where(entries.c.seq == 3).values(body=changed_body(place, 3, act="x"))],
             "entry 3 was changed"),
    "first": (lambda place: [entries.update().where(entries.c.seq == 1).values(body=changed_body(place, 1, act="x"))],
              "entry 1 was changed"),
    "name": (lambda place: [entries.update().where(entries.c.seq == 3).values(
                plain=sa.func.replace(entries.c.plain, "alice", "mallory"))], "entry 3: a name"),
    "reason": (lambda place: [entries.update().where(entries.c.seq == 3).values(
                plain=sa.func.replace(entries.c.plain, "a test", "none"))], "entry 3: a name"),
    "seal": (lambda place: [entries.update().where(entries.c.seq == 3).values(seal="0" * 32)], "seal that is not ours"),
    "column": (lambda place: [entries.update().where(entries.c.seq == 3).values(at=1)], "entry 3: a column"),
    "nonsense": (lambda place: [entries.update().where(entries.c.seq == 3).values(body="[]")], "entry 3 can't be read"),
    "removed": (lambda place: [entries.delete().where(entries.c.seq == 3)], "entry 3 is missing"),
    "oldest": (lambda place: [entries.delete().where(entries.c.seq <= 2)], "entries up to 2 are missing"),
    "newest": (lambda place: [entries.delete().where(entries.c.seq > 3)], "newest entries are missing"),
    "all": (lambda place: [entries.delete()], "newest entries are missing"),
    "head": (lambda place: [head.update().values(seq=2)], "head of the log does not fit"),
    "erased": (lambda place: [entries.update().where(entries.c.seq == 3).values(plain=None)], "entry 3 lost its words"),
}  # fmt: skip


@pytest.mark.parametrize("kind", TAMPERINGS)
def test_who_writes_to_the_database_is_found_out(place: Place, kind: str) -> None:
    place.fill()
    tampering, told = TAMPERINGS[kind]
    place.tamper(*tampering(place))
    assert any(told in fault for fault in place.found().faults)


def test_a_chain_made_anew_without_the_key_is_found_out(place: Place, tmp_path: Path) -> None:
    place.fill()
    stranger = AuditLog(place.database, KeyRing(["guessed"]), None)
    place.tamper(entries.delete(), head.delete())
    stranger.append(Entry("job.retry", who="mallory"))
    assert place.found().faults


def test_a_chain_that_fits_again_without_the_key_has_a_seal_that_is_not_ours(place: Place) -> None:
    place.fill()
    before, changes = "", []
    for one in place.log.all():
        body = changed_body(place, 2, outcome="refused") if one.seq == 2 else one.body
        digest = one.digest if one.seq == 1 else chained(before, body)
        changes.append(entries.update().where(entries.c.seq == one.seq).values(body=body, digest=digest))
        before = digest
    place.tamper(*changes, head.update().values(digest=before))
    assert place.found().faults[0] == "entry 2 has a seal that is not ours"


def test_newest_entries_that_are_cut_off_with_the_head_are_seen_by_who_noted_it(place: Place) -> None:
    place.fill()
    noted = place.log.head()
    kept = next(one for one in place.log.all() if one.seq == 3)
    place.tamper(entries.delete().where(entries.c.seq > 3), head.update().values(seq=3, digest=kept.digest))
    assert place.found().faults == []
    assert "newest entries are missing" in place.found(noted).faults[0]
    place.fill()
    assert place.found(noted).faults == ["entry 5 is another one than was noted"]


def test_a_new_key_seals_what_an_older_one_sealed(place: Place) -> None:
    place.fill()
    place.ring = KeyRing(["a newer key"])
    assert "is not here" in place.found().faults[0]
    AuditLog(place.database, place.ring, None).append(Entry("key.retire"))
    assert place.found().faults == []
    place.tamper(entries.update().where(entries.c.seq == 2).values(body=changed_body(place, 2, act="x")))
    assert place.found().faults == ["entry 2 was changed"]


def test_one_persons_words_can_go_and_the_chain_holds(place: Place) -> None:
    place.fill(2)
    place.log.append(Entry("account.remove", who="root", address="192.0.2.9", about="alice"))
    place.log.append(Entry("sign-in", who="root", address="192.0.2.9"))
    assert place.log.erase("alice", Entry(ERASE, who="root")) == 3
    with place.database.read() as connection:
        rows = connection.execute(sa.select(entries)).all()
    assert not any("alice" in str(row) or "192.0.2.1" in str(row) for row in rows)
    shown = {one.seq: one.shown() for one in place.log.newest()}
    assert shown[1]["who"] == shown[1]["reason"] == shown[3]["about"] == "(erased)"
    assert shown[4]["who"] == "root"
    found = place.found()
    assert (found.faults, found.erased) == ([], 3)
    assert [one.seq for one in place.log.newest(who="alice")] == [3, 2, 1]
    place.tamper(entries.update().where(entries.c.seq == 4).values(plain=None))
    assert place.found().faults == ["entry 4 lost its words, and no erasure tells why"]


def test_old_entries_go_and_the_rest_is_still_whole(place: Place) -> None:
    place.fill(10)
    place.now += 31 * DAY
    place.fill(PRUNE_EVERY - 10)
    assert next(place.log.all()).seq == 11
    assert next(iter(place.log.newest())).content["act"] == PRUNE
    assert place.found().faults == []
    place.tamper(entries.delete().where(entries.c.seq == 11))
    assert place.found().faults == ["the entries up to 11 are missing"]


def test_many_at_once_make_one_chain(place: Place) -> None:
    threads = [threading.Thread(target=place.fill, args=(5,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert place.found() == Findings([], 40, 0, place.log.head())


@pytest.mark.parametrize("name", ["\ud800", "é" * 500, "a\nb", "\0"])
def test_whatever_a_stranger_typed_can_be_kept(place: Place, name: str) -> None:
    place.log.record(Entry("sign-in", "refused", who=name, reason=name))
    assert place.found().faults == []
    assert len(place.log.newest(who=name)) == 1


def test_strangers_do_not_fill_the_database(place: Place) -> None:
    for number in range(MOST_REFUSALS + 20):
        place.log.record(Entry("sign-in", "refused", who=f"guess {number}"))
    assert place.log.head()[0] == MOST_REFUSALS
    place.log.record(Entry("sign-in", who="alice"))
    place.now += 3601
    place.log.record(Entry("sign-in", "refused", who="later"))
    assert place.log.head()[0] == MOST_REFUSALS + 2


def test_a_database_that_is_away_is_an_error_in_the_log_and_no_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    away = Database(f"sqlite:///{tmp_path}/nowhere/audit.sqlite", tmp_path)
    with caplog.at_level(logging.INFO):
        AuditLog(away, KeyRing(["key"]), None).record(Entry("queue.pause", who="alice", reason="a test"))
    assert "queue.pause done: who='alice' reason='a test'" in caplog.text
    assert "queue.pause is not in the audit log" in caplog.text
