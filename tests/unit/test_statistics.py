"""Statistics: what may be counted, that it adds up, and that nothing is added twice."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flask
import pytest
from processes import run_at_once

import pijobs_statistics as statistics
from pijobs import FailJob, InstanceEvent
from pijobs.database import Database
from pijobs.errors import QueueUnavailable
from pijobs.factory import build
from pijobs.flask import JobQueue, current_queue
from pijobs_statistics import plugin, store, watch
from pijobs_statistics.journal import Journal
from pijobs_statistics.output import as_csv, query
from pijobs_statistics.record import current_attempt
from pijobs_statistics.store import Per, Row, Store
from pijobs_statistics.tables import METADATA
from pijobs_statistics.values import Amount, amount, number, series
from pijobs_statistics.watch import Watch

HOUR = 1_800_000_000 // 86400 * 86400  # the first one of a day
LOGIN = ("login", '{"result":"ok"}')


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/db"
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def database(database_url: str, tmp_path: Path) -> Iterator[Database]:
    """A database of each kind, without statistics."""
    database = Database(database_url, tmp_path)
    yield database
    with database.begin() as connection:
        METADATA.drop_all(connection)
    database.close()


@pytest.fixture
def kept(database: Database) -> Store:
    return Store(database)


def values(directory: Path, **settings: Any) -> dict[str, Any]:
    names = {f"PI_JOB_QUEUE_{name}": value for name, value in settings.items()}
    return {"SECRET_KEY": "x" * 32, "SQLALCHEMY_DATABASE_URI": f"sqlite:///{directory}/db", **names}


@pytest.fixture
def app(tmp_path: Path) -> flask.Flask:
    """An app that runs its jobs in the request, through the codec."""
    app = flask.Flask("app")
    app.config.update(values(tmp_path, CLASS="pijobs.HueyQueue", IMMEDIATE=True, PLUGINS=("statistics",)))
    JobQueue(app)
    return app


def counted(app: flask.Flask) -> list[tuple[str, dict[str, str], Amount]]:
    rows = Store.of(app.extensions["pijobs"].settings).read("day")
    return [(row.name, row.tags, row.amount) for row in rows]


def hit() -> str:
    """A view."""
    statistics.record("hit")
    return ""


# -- what may be counted -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tag", ["user", "email", "ip", "Result", "a-b", "x" * 41])
def test_a_tag_that_would_name_a_person_is_refused(tag: str) -> None:
    with pytest.raises(ValueError, match="never of a person"):
        series("login", {tag: "x"})


@pytest.mark.parametrize("name", ["", "Login", "login ok", "login.", "x" * 81])
def test_a_name_that_can_not_be_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="expected lower case"):
        series(name, {})


@pytest.mark.parametrize("value", ["alice@example.com", "+49 170 1234567", "739105", "a\nb", "x" * 81])
def test_a_value_that_looks_like_a_persons_is_counted_without_it(value: str) -> None:
    assert series("login", {"result": value}).tags == '{"result":"refused"}'


@pytest.mark.parametrize("value", [float("nan"), float("inf"), True, "1", 10**13])
def test_a_value_that_is_no_number_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="expected a number"):
        amount(value)


def test_values_add_up_without_errors_of_rounding() -> None:
    assert number(sum(amount(0.1).total for _ in range(10))) == 1
    assert number(amount(0.125).total) == 0.125


# -- recorded and written ------------------------------------------------------------------------------------------


def test_a_thousand_records_of_a_request_cost_one_enqueue(app: flask.Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    queue, calls = app.extensions["pijobs"].queue, []
    enqueue = queue.enqueue

    def count(*call: Any) -> Any:
        calls.append(call)
        return enqueue(*call)

    def view() -> str:
        for each in range(1000):
            statistics.record("hit", value=2, kind=each % 7)
        return ""

    monkeypatch.setattr(queue, "enqueue", count)
    app.add_url_rule("/", view_func=view)
    assert app.test_client().get("/").status_code == 200
    assert len(calls) == 1
    assert sum(amount.total for _, _, amount in counted(app)) == 2_000_000


def test_the_second_request_counts_too(app: flask.Flask) -> None:
    app.add_url_rule("/", view_func=hit)
    for _ in range(3):
        app.test_client().get("/")
    assert counted(app) == [("hit", {}, Amount(3, 3000))]


def test_what_a_failed_request_recorded_counts(app: flask.Flask) -> None:
    def view() -> str:
        statistics.record("hit")
        raise ValueError("a fault of the view")

    app.add_url_rule("/", view_func=view)
    assert app.test_client().get("/").status_code == 500
    assert counted(app) == [("hit", {}, Amount(1, 1000))]


def test_a_queue_that_takes_nothing_does_not_disturb_a_request(
    app: flask.Flask, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*call: Any) -> None:
        raise QueueUnavailable

    monkeypatch.setattr(app.extensions["pijobs"].queue, "enqueue", refuse)
    app.add_url_rule("/", view_func=hit)
    assert app.test_client().get("/").status_code == 200
    assert "1 rows are lost" in caplog.text


def test_outside_of_an_app_a_block_says_where_it_ends(app: flask.Flask) -> None:
    with statistics.collect(app.extensions["pijobs"].queue):
        statistics.record("hit", 1.5)
        assert counted(app) == []
        statistics.flush()
        assert counted(app) == [("hit", {}, Amount(1, 1500))]
        statistics.record("hit")
    assert counted(app) == [("hit", {}, Amount(2, 2500))]
    with pytest.raises(RuntimeError, match="found neither"):
        statistics.record("hit")


def test_without_a_queue_it_is_written_in_the_request(tmp_path: Path) -> None:
    app = flask.Flask("app")
    app.config.update(values(tmp_path, PLUGINS=("statistics",)))
    JobQueue(app)
    with app.app_context():
        statistics.record("hit")
        assert current_queue().mode == "off"
    assert counted(app) == [("hit", {}, Amount(1, 1000))]


def test_an_attempt_of_a_job_that_is_repeated_adds_nothing(app: flask.Flask) -> None:
    for _ in range(2):
        plugin.job_started(InstanceEvent("an-id", "test.job", "g", "running", attempt=1))
        with app.app_context():
            statistics.record("hit")
            statistics.flush()
            statistics.record("hit")
    current_attempt.set(None)
    assert counted(app) == [("hit", {}, Amount(2, 2000))]


# -- exactly once --------------------------------------------------------------------------------------------------


def test_a_batch_that_comes_again_adds_nothing(kept: Store) -> None:
    rows = [[HOUR, *LOGIN, 3, 3000], [HOUR, *LOGIN, 1, 500]]
    assert kept.apply("one", rows)
    assert not kept.apply("one", rows)
    assert kept.apply("two", rows)
    assert kept.read("minute") == [Row(HOUR, "login", {"result": "ok"}, Amount(8, 7000))]


def test_an_end_of_a_job_that_is_told_again_counts_once(kept: Store) -> None:
    kept.apply("one", [], [["a", HOUR, *LOGIN], ["b", HOUR, *LOGIN], ["a", HOUR, *LOGIN]])
    kept.apply("two", [], [["b", HOUR + 60, *LOGIN], ["c", HOUR, *LOGIN]])
    assert kept.read("hour") == [Row(HOUR, "login", {"result": "ok"}, Amount(3, 3000))]


PROGRAM = """
import sys
from pathlib import Path
from pijobs.database import Database
from pijobs_statistics.store import Store

url, number, hour = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
database = Database(url, Path.cwd())
print("ready", flush=True)
sys.stdin.read()
for each in range(10):
    rows = [[hour, "login", "{}", 1, 1000], [hour, f"n{number}", "{}", 1, 1]]
    Store(database).apply(f"{number // 2} {each}", rows)
"""


def test_batches_that_meet_count_once_each(database: Database, database_url: str) -> None:
    run_at_once(*([PROGRAM, database_url, str(number), str(HOUR)] for number in range(4)))
    assert Store(database).read("day", name="login") == [Row(HOUR, "login", {}, Amount(20, 20_000))]


# -- rolled up and trimmed -----------------------------------------------------------------------------------------


def roll(kept: Store) -> None:
    kept.roll_up("minute", "hour")
    kept.roll_up("hour", "day")


@pytest.mark.parametrize("rolled", [True, False])
def test_all_periods_tell_the_same_sum_rolled_up_or_not(kept: Store, rolled: bool) -> None:
    for each in range(50):
        kept.apply(str(each), [[HOUR + 3000 * each // 60 * 60, *LOGIN, 1, 1000]])
        if rolled and each % 7 == 0:
            roll(kept)
    for per in ("minute", "hour", "day"):
        assert sum(row.amount.total for row in kept.read(per)) == 50_000
    assert {row.start for row in kept.read("day")} == {HOUR, HOUR + 86400}


def test_a_roll_up_done_twice_adds_nothing(kept: Store) -> None:
    kept.apply("one", [[HOUR, *LOGIN, 1, 1000]])
    roll(kept)
    roll(kept)
    assert [row.amount for row in kept.read("day")] == [Amount(1, 1000)]


def test_what_comes_after_its_minute_was_trimmed_still_counts(kept: Store) -> None:
    keep: dict[Per, float] = {"minute": 0.0, "hour": 0.0, "day": 1e9}
    old = int(time.time()) // 86400 * 86400 - 86400
    for batch in ("one", "two"):
        kept.apply(batch, [[old, *LOGIN, 1, 1000]])
        roll(kept)
        kept.trim(keep, 100)
    assert kept.read("minute") == []
    assert [row.amount for row in kept.read("day")] == [Amount(2, 2000)]


def test_nothing_is_trimmed_that_was_not_rolled_up(kept: Store) -> None:
    kept.apply("one", [[60, *LOGIN, 1, 1000]])
    kept.trim({"minute": 0, "hour": 0, "day": 1e12}, 100)
    assert [row.amount for row in kept.read("day")] == [Amount(1, 1000)]


def test_days_and_names_of_batches_are_trimmed(kept: Store) -> None:
    kept.apply("one", [[60, *LOGIN, 1, 1000]])
    roll(kept)
    kept.trim({"minute": 0, "hour": 0, "day": 0}, -100)
    assert kept.read("day") == []
    assert kept.apply("one", [])


def test_too_many_tags_of_a_name_are_counted_together(kept: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MOST_SERIES", 3)
    monkeypatch.setattr(store, "MOST_OF_ALL", 5)
    rows = [[HOUR, f"n{name}", f'{{"tag":"{tag}"}}', 1, 1000] for name in range(3) for tag in range(10)]
    kept.apply("one", rows)
    found = kept.read("day")
    assert sum(row.amount.count for row in found) == 30
    assert len(found) <= 7
    assert {row.name for row in found} >= {"n0", "other"}


# -- the journal ---------------------------------------------------------------------------------------------------


def test_what_a_dead_process_noted_is_handed_in_by_the_next_under_the_same_name(tmp_path: Path) -> None:
    dead = Journal(tmp_path / "j")
    dead.append(["a"])
    (path,) = (tmp_path / "j").iterdir()
    taken: list[tuple[str, list[Any]]] = []
    Journal(tmp_path / "j").hand_in(lambda *batch: taken.append(batch))
    assert taken == []
    assert dead._file is not None
    fcntl.flock(dead._file[1], fcntl.LOCK_UN)  # as the kernel does at its end
    Journal(tmp_path / "j").hand_in(lambda *batch: taken.append(batch))
    assert taken == [(path.stem, [["a"]])]
    assert list((tmp_path / "j").iterdir()) == []
    os.close(dead._file[1])


def test_what_can_not_be_handed_in_is_kept(tmp_path: Path) -> None:
    def refuse(*_: Any) -> None:
        raise FailJob("no")

    journal, taken = Journal(tmp_path / "j"), []
    journal.append(["a"])
    with pytest.raises(FailJob):
        journal.hand_in(refuse)
    journal.append(["b"])
    journal.hand_in(lambda _, lines: taken.extend(lines))
    assert sorted(taken) == [["a"], ["b"]]


def test_a_folder_that_can_not_be_written_costs_nothing_but_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    journal, taken = Journal(tmp_path / "file" / "j"), []
    for line in range(3):
        journal.append([line])
    journal.hand_in(lambda _, lines: taken.extend(lines))
    assert taken == [[0], [1], [2]]
    assert caplog.text.count("can't be written") == 1


def test_a_line_that_was_torn_does_not_stop_the_others(tmp_path: Path) -> None:
    (tmp_path / "dead.journal").write_bytes(b'["a"]\n["b')
    taken: list[Any] = []
    Journal(tmp_path).hand_in(lambda _, lines: taken.extend(lines))
    assert taken == [["a"]]


# -- asked for -----------------------------------------------------------------------------------------------------


def test_times_are_read_as_iso_8601_or_seconds() -> None:
    assert query(since="2026-11-26", until="2026-11-26T01:00:00Z")["until"] - query(since="2026-11-26")["since"] == 3600
    assert query(since="7")["since"] == 7


@pytest.mark.parametrize("wrong", [{"per": "week"}, {"since": "yesterday"}, {"nmae": "x"}])
def test_what_can_not_be_asked_for_is_told(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="expected"):
        query(**wrong)


def test_a_spreadsheet_finds_no_formula() -> None:
    text = as_csv([Row(HOUR, "x", {"kind": "=1+1"}, Amount(2, 2500))])
    assert text.splitlines() == ["start,name,tag_kind,count,value", "2027-01-15T00:00:00Z,x,'=1+1,2,2.5"]


def test_a_plugin_counts_the_end_of_a_job_by_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = build(values(tmp_path, PLUGINS=("statistics",)), directory=tmp_path)
    counted = [("gateway", [("sms", {"realm": "demo"})]), ("a bad plugin", [("SMS", {})])]
    monkeypatch.setattr(watch, "call_hook", lambda settings, hook, **told: counted)
    monkeypatch.setattr(Watch, "_run", lambda watching: None)
    watching = Watch(queue.queue)
    watching.ended(InstanceEvent("1", "sms.send", "gate", "done", 1))
    lines: list[Any] = []
    watching._journal.hand_in(lambda batch, given: lines.extend(given))
    assert [line[2] for line in lines] == ["jobs", "sms"]
    assert len({line[0] for line in lines}) == 2


def test_the_jobs_are_registered(tmp_path: Path) -> None:
    names = set(build(values(tmp_path, PLUGINS=("statistics",)), directory=tmp_path).registry)
    assert names == {"statistics.apply", "statistics.hourly", "statistics.daily"}
