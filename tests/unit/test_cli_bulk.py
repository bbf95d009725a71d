"""``pijobs jobs list|retry|cancel|purge`` on all that fit, and ``pijobs failures``."""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from pijobs.jobs import State
from pijobs.storage.sql import SqlStorage
from pijobs.storage.values import End, NewInstance

from .conftest import Pijobs

DOWN, REFUSED = "the relay is down", "550 no such user b***@example.com"


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[SqlStorage]:
    storage = SqlStorage(f"sqlite:///{tmp_path}/queue.sqlite", "privacyidea")
    yield storage
    storage.close()


def dead(storage: SqlStorage, *, reason: str, name: str = "mail.send", ago: float = 0) -> str:
    """An instance that ended so, some seconds ago."""
    new = NewInstance(uuid4().hex, name, b"envelope", b"body", name)
    storage.record_end(new, End(new.id, "", State.DEAD, reason=reason), timeout=5)
    with sqlite3.connect(storage.display_url.removeprefix("sqlite:///")) as connection:
        connection.execute("UPDATE pijobs_instance SET ended = ended - ? WHERE id = ?", (int(ago * 1000), new.id))
        connection.execute("UPDATE pijobs_instance SET place = place - ? WHERE id = ?", (int(ago * 1e6), new.id))
    return new.id


def states(storage: SqlStorage, *ids: str) -> list[str]:
    return [storage.get(one).state.value for one in ids]


def test_dead_letters_of_one_reason_are_retried(storage: SqlStorage, pijobs: Pijobs) -> None:
    down, refused = dead(storage, reason=DOWN), dead(storage, reason=REFUSED)
    code, printed, _ = pijobs("jobs", "retry", "--because", "RELAY", "--yes")
    assert (code, printed) == (0, "1 of 1 queued again\n")
    assert states(storage, down, refused) == ["queued", "dead"]


@pytest.mark.parametrize(
    ("option", "expected"), [("--since", ["dead", "queued"]), ("--older-than", ["queued", "dead"])]
)
def test_by_how_long_ago_it_ended(storage: SqlStorage, pijobs: Pijobs, option: str, expected: list[str]) -> None:
    old, new = dead(storage, reason=DOWN, ago=7200), dead(storage, reason=DOWN)
    assert pijobs("jobs", "retry", option, "1h", "--yes")[0] == 0
    assert states(storage, old, new) == expected


def test_the_help_tells_the_reason_of_a_failure_from_the_reason_for_the_audit_log(pijobs: Pijobs) -> None:
    for command in ("retry", "cancel", "purge"):
        told = " ".join(pijobs("jobs", command, "--help")[1].split())
        assert "for the audit log; to choose by the reason of a failure: --because." in told


def test_a_list_goes_on_until_it_has_what_was_asked_for(storage: SqlStorage, pijobs: Pijobs) -> None:
    refused = [dead(storage, reason=REFUSED, ago=7200) for _ in range(3)]
    for _ in range(110):  # more than one list of two reads
        dead(storage, reason=DOWN)
    code, printed, told = pijobs("jobs", "list", "--because", "no such user", "--limit", "2")
    assert code == 0 and {line.split()[0] for line in printed.splitlines()} < set(refused)
    assert len(printed.splitlines()) == 2 and "there may be more: --cursor" in told
    assert pijobs("jobs", "list", "--because", "greylisted", "--limit", "2")[1] == "no instances\n"


def test_all_of_them_and_more_than_a_page(storage: SqlStorage, pijobs: Pijobs) -> None:
    for number in range(205):
        storage.enqueue(NewInstance(str(number), "news.send", b"envelope", b"body", "news"), timeout=5)
    storage.enqueue(NewInstance("other", "mail.send", b"envelope", b"body", "mail"), timeout=5)
    assert pijobs("jobs", "cancel", "--name", "news.send", "--yes")[:2] == (0, "205 of 205 cancelled\n")
    assert storage.get("other").state is State.QUEUED
    assert pijobs("jobs", "cancel", "--all", "--yes")[:2] == (0, "1 of 1 cancelled\n")
    assert pijobs("jobs", "purge", "--state", "cancelled", "--older-than", "1d", "--yes")[1] == "0 of 0 deleted\n"
    assert pijobs("jobs", "purge", "--state", "cancelled", "--name", "news.send", "--yes")[1] == "205 of 205 deleted\n"


def test_list_and_purge_take_all_of_them_too(
    storage: SqlStorage, pijobs: Pijobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pijobs.cli.jobs.MOST", 2)
    ids = [dead(storage, reason=DOWN) for _ in range(5)]
    storage.enqueue(NewInstance("waits", "news.send", b"envelope", b"body", "news"), timeout=5)
    told = pijobs("jobs", "list", "--all", "--because", "relay")
    assert sorted(line.split()[0] for line in told[1].splitlines()) == sorted(ids) and not told[2]
    assert len(json.loads(pijobs("jobs", "list", "--all", "--json")[1])) == 6
    assert pijobs("jobs", "purge", "--all", "--older-than", "1h", "--yes")[1] == "0 of 0 deleted\n"
    assert pijobs("jobs", "purge", "--all", "--yes")[1] == "5 of 5 deleted\n"
    assert storage.get("waits").state is State.QUEUED
    assert pijobs("jobs", "purge", "--all", "--state", "dead", "--yes")[0] == 2


def test_it_asks_first(storage: SqlStorage, pijobs: Pijobs, monkeypatch: pytest.MonkeyPatch) -> None:
    one = dead(storage, reason=DOWN)
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    code, printed, _ = pijobs("jobs", "retry", "--all")
    assert code == 1 and "1 instances to be queued again; go on?" in printed
    assert states(storage, one) == ["dead"]


@pytest.mark.parametrize(
    "arguments", [("retry",), ("retry", "some-id", "--all"), ("cancel", "some-id", "--name", "a.b")]
)
def test_either_ids_or_which_ones(pijobs: Pijobs, arguments: tuple[str, ...]) -> None:
    code, _, told = pijobs("jobs", *arguments)
    assert code == 2 and "expected either ids or which ones (--all, --name, --because, …)" in told


def test_a_duration_says_what_it_may_be(pijobs: Pijobs) -> None:
    code, _, told = pijobs("jobs", "retry", "--since", "yesterday")
    assert code == 2 and "expected a duration such as 90s, 10m, 2h or 7d, found 'yesterday'" in told


def test_ctrl_c_stops_it_and_what_was_done_is_told(
    storage: SqlStorage, pijobs: Pijobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [dead(storage, reason=DOWN) for _ in range(3)]
    retry = SqlStorage.retry

    def retry_then_stop(self: SqlStorage, instance_id: str) -> None:
        if "queued" in states(storage, *ids):
            raise KeyboardInterrupt
        retry(self, instance_id)

    monkeypatch.setattr(SqlStorage, "retry", retry_then_stop)
    code, printed, told = pijobs("jobs", "retry", "--all", "--yes")
    assert (code, printed) == (1, "1 of 3 queued again\n") and "stopped" in told
    assert "job.retry done" in pijobs("audit", "list")[1] and "1 of 3" in pijobs("audit", "list")[1]


def test_a_list_is_cut_to_what_fits(storage: SqlStorage, pijobs: Pijobs) -> None:
    old, new = dead(storage, reason=DOWN, ago=7200), dead(storage, reason=DOWN)
    dead(storage, reason=REFUSED)
    listed = json.loads(pijobs("jobs", "list", "--because", "down", "--json")[1])
    assert [row["id"] for row in listed] == [new, old]
    assert old not in pijobs("jobs", "list", "--since", "1h")[1]
    assert new not in pijobs("jobs", "list", "--older-than", "1h")[1]


def test_failures_are_counted_by_reason(storage: SqlStorage, pijobs: Pijobs) -> None:
    dead(storage, reason=REFUSED), dead(storage, reason=DOWN), dead(storage, reason=DOWN)
    dead(storage, reason="long ago", ago=7200)
    lines = pijobs("failures")[1].splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("     2  mail.send dead  the relay is down  (")
    assert lines[1].startswith("     1  mail.send dead  550 no such user …  (")
    assert "long ago" in pijobs("failures", "--since", "1d")[1]
    assert pijobs("failures", "--name", "sms.send")[:2] == (0, "nothing failed\n")
