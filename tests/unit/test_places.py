"""The spool is part of every look and act."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pijobs import Job, State
from pijobs.cli.invocation import Invocation
from pijobs.cli.main import main
from pijobs.errors import InstanceNotFound, StorageUnavailable, StorageUnfit
from pijobs.execution.groups import Policy
from pijobs.observe.instances import explained, retry
from pijobs.observe.life import life
from pijobs.observe.lists import listing
from pijobs.observe.readiness import readiness
from pijobs.observe.sentences import sentences
from pijobs.observe.status import overview
from pijobs.plugins.loading import Plugins
from pijobs.plugins.registry import Registry
from pijobs.request.places import Places
from pijobs.request.queue import Handle, Queue
from pijobs.server.exposition import exposition
from pijobs.server.pages.summary import Topic, headline
from pijobs.settings import CORE_SETTINGS, PREFIX, validate
from pijobs.storage.contract import Storage
from pijobs.storage.memory import MemoryStorage
from pijobs.storage.records import Depths, Record
from pijobs.storage.sessions import SessionInfo
from pijobs.storage.values import NewInstance
from pijobs.testing.clock import ManualClock

AWAY = StorageUnavailable("connection refused")


@pytest.fixture
def storage(clock: ManualClock) -> MemoryStorage:
    return MemoryStorage("main", clock=clock)


@pytest.fixture
def spool(clock: ManualClock) -> MemoryStorage:
    return MemoryStorage("spool", clock=clock)


@pytest.fixture
def queue(storage: Storage, spool: Storage, tmp_path: Path) -> Queue:
    def fail(user: str) -> None:
        raise ValueError("no such user")

    job = Job("a.b", fail, subject=lambda user: user)
    values = {"SECRET_KEY": "s", PREFIX + "FALLBACK": ("direct",)}
    settings = validate(values, CORE_SETTINGS, directory=tmp_path)
    return Queue(settings, Registry.of([job]), Plugins([]), storage=storage, spool=spool)


@pytest.fixture
def in_the_spool(queue: Queue, storage: Storage, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Handle]:
    """A call while the storage is away; it fails in the request."""

    def enqueue(user: str) -> Handle:
        def away(*args: object, **options: object) -> None:
            raise AWAY

        with monkeypatch.context() as patch:
            patch.setattr(storage, "enqueue_many", away)
            return queue.enqueue("a.b", [user])

    return enqueue


@pytest.fixture
def dead(in_the_spool: Callable[[str], Handle]) -> Handle:
    return in_the_spool("alice@example.com")


def ids(queue: Queue, **filters: str | State | None) -> list[str]:
    rows, cursor = listing(queue, limit=50, **filters)  # type: ignore[arg-type]
    assert cursor is None
    return [row["id"] for row in rows]


def test_a_dead_letter_of_the_spool_is_in_the_lists(queue: Queue, dead: Handle) -> None:
    stored = queue.enqueue("a.b", ["bob@example.com"])
    assert ids(queue) == [stored.id, dead.id]
    assert ids(queue, state=State.DEAD, name="a.b", group="a.b") == [dead.id]
    assert ids(queue, subject="alice@example.com") == [dead.id]
    rows, _ = listing(queue, limit=50)
    assert [row["place"] for row in rows] == ["storage", "spool"]


def test_a_list_of_both_goes_on_where_its_cursor_says(
    queue: Queue, in_the_spool: Callable[[str], Handle], dead: Handle
) -> None:
    expected = [queue.enqueue("a.b", ["x"]).id for _ in range(3)][::-1]
    expected += [in_the_spool("y").id, dead.id]
    found: list[str] = []
    cursor = None
    while True:
        rows, cursor = listing(queue, limit=2, cursor=cursor)
        found += [row["id"] for row in rows]
        if cursor is None:
            break
    assert found == expected


def test_the_life_of_one_in_the_spool_is_told(queue: Queue, dead: Handle) -> None:
    row = explained(queue, dead.id)
    text = "\n".join(life(row))
    assert "dead, in the spool of this machine" in text and "no such user" in text
    assert f"pijobs jobs retry {dead.id}" in text


def test_it_can_be_retried_cancelled_and_removed(queue: Queue, spool: Storage, dead: Handle) -> None:
    queue.retry(dead.id)
    assert spool.get(dead.id).state is State.QUEUED
    queue.cancel(dead.id)
    assert spool.get(dead.id).state is State.CANCELLED
    queue.remove(dead.id)
    with pytest.raises(InstanceNotFound):
        queue.retry(dead.id)


def test_it_counts(queue: Queue, dead: Handle) -> None:
    queue.enqueue("a.b", ["x"])
    answer = overview(queue)
    assert answer["jobs"]["a.b"] == {"queued": 1, "dead": 1, "oldest_age": 0.0}
    assert answer["states"]["dead"] == 1
    assert [row["id"] for row in answer["failures"]] == [dead.id]
    assert any("1 queued, 1 dead" in line for line in sentences(answer))


def test_the_oldest_due_one_may_wait_in_the_spool(queue: Queue, dead: Handle, clock: ManualClock) -> None:
    queue.retry(dead.id)
    clock.advance(40)
    assert overview(queue)["oldest_age"] == 40


def test_a_spool_that_does_not_answer_hides_nothing_of_the_storage(
    queue: Queue, spool: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.enqueue("a.b", ["x"])

    def away() -> Depths:
        raise AWAY

    monkeypatch.setattr(spool, "depths", away)
    assert overview(queue)["states"]["queued"] == 1


def test_a_storage_that_does_not_answer_hides_nothing_of_the_spool(
    queue: Queue, storage: Storage, dead: Handle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(instance_id: str) -> Record:
        raise AWAY

    monkeypatch.setattr(storage, "get", away)
    assert queue.places.find(dead.id)[1].state is State.DEAD
    with pytest.raises(StorageUnavailable):
        queue.places.find("unknown")


@pytest.fixture
def away(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the storage answers nothing."""

    def fail(*args: object, **options: object) -> None:
        raise AWAY

    for name in ("ping", "get", "page", "depths", "sessions", "groups"):
        monkeypatch.setattr(storage, name, fail)


def test_while_the_storage_is_away_the_spool_is_listed_and_that_is_told(
    queue: Queue, in_the_spool: Callable[[str], Handle], request: pytest.FixtureRequest
) -> None:
    queue.enqueue("a.b", ["of the storage"])
    newer, older = [in_the_spool(user).id for user in ("x", "y")][::-1]
    request.getfixturevalue("away")
    places, told = queue.places.within_reach()
    assert told == ("the storage does not answer: connection refused; only the spool of this machine is shown")
    rows, cursor = listing(queue, limit=1, places=places)
    assert [row["id"] for row in rows] == [newer]
    rows, cursor = listing(queue, limit=5, places=places, cursor=cursor)
    assert ([row["id"] for row in rows], cursor) == ([older], None)
    with pytest.raises(StorageUnavailable):
        Places(queue.places.storage).within_reach()


def test_while_the_storage_is_away_the_spool_is_acted_on(
    queue: Queue, spool: Storage, dead: Handle, away: None
) -> None:
    assert "dead, in the spool of this machine" in "\n".join(life(explained(queue, dead.id)))
    retry(queue, dead.id)
    assert spool.get(dead.id).state is State.QUEUED
    queue.cancel(dead.id)
    assert spool.get(dead.id).state is State.CANCELLED


def test_while_the_storage_is_away_the_spool_is_counted(queue: Queue, dead: Handle, away: None) -> None:
    answer = overview(queue)
    assert not answer["reachable"] and answer["states"]["dead"] == 1
    text = "\n".join(sentences(answer))
    assert "calls run in the request meanwhile" in text
    assert "only the spool of this machine is shown:\nno live worker of this machine\n  a.b: 1 dead" in text
    assert dead.id in text
    shown = exposition(queue).decode()
    assert 'pijobs_spool_instances{job="a.b",state="dead"} 1.0' in shown
    assert "pijobs_instances{" not in shown and "pijobs_storage_up 0.0" in shown


@pytest.fixture
def down(spool: Storage) -> None:
    """A destination of the spool is down, and somebody waits for it."""
    spool.open_session(SessionInfo("s", "mx1", 7, spool.now(), "1", "thread", 3, (), ()), lease=60_000)
    new = NewInstance("1", "a.b", b"e", b"b", "smtp:main", created=spool.now())
    spool.enqueue(new, timeout=1)
    policy = Policy(failures=5, opened=2, reason="refused").dumps()
    assert spool.set_group("smtp:main", version=0, limit=1, blocked_until=None, policy=policy)


def test_while_the_storage_is_away_a_destination_that_is_down_is_told(queue: Queue, down: None, away: None) -> None:
    text = "\n".join(sentences(overview(queue)))
    assert "group smtp:main: its destination failed 5 times in a row: refused" in text
    assert "1 live worker processes, 3 workers" in text
    checks = dict(readiness(queue))
    assert not checks["storage"].ok and not checks["breakers"].ok and checks["spool"].ok
    answer = overview(queue)
    rows = [{**row, "jobs": ["a.b"]} for row in answer["groups"]]
    page = headline(Topic("mails"), {**answer, "groups": rows}, {}, 60)
    assert (page.tone, page.text) == ("bad", "Some mails wait: smtp:main is down.")
    assert "They are in the spool of this machine: the storage does not answer. connection refused" in page.more


def test_what_a_breaker_holds_back_in_the_spool_lacks_no_worker(queue: Queue, down: None, clock: ManualClock) -> None:
    clock.advance(61)
    assert dict(readiness(queue))["spool"].ok


@pytest.mark.parametrize(("command", "told"), [("workers", "mx1 pid 7  3 thread"), ("groups", "smtp:main: 0 running")])
def test_while_the_storage_is_away_workers_and_groups_of_the_spool_are_listed(
    queue: Queue,
    down: None,
    away: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    told: str,
) -> None:
    monkeypatch.setattr(Invocation, "queue", lambda self: queue)
    with pytest.raises(SystemExit) as ended:
        main([command])
    shown = capsys.readouterr()
    assert ended.value.code == 3 and told in shown.out
    assert "the storage does not answer: connection refused; only the spool of this machine" in shown.err


def test_a_storage_that_can_not_be_used_is_told_as_such(
    queue: Queue, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise StorageUnfit("expected the encoding UTF8, found LATIN1")

    monkeypatch.setattr(storage, "ping", refuse)
    answer = overview(queue)
    assert "the storage can't be used: expected the encoding UTF8, found LATIN1" in [*sentences(answer)]
    assert headline(Topic("mails"), answer, {}, 60).text == "Mails go out in the request: the storage can't be used."


def test_a_look_makes_no_spool(storage: Storage, spool: Storage, tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite"
    assert [*Places(storage, spool, path)] == [storage]
    path.touch()
    assert [*Places(storage, spool, path)] == [storage, spool]
