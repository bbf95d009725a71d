"""A worker's sign of life, on a storage and a clock that stand still until told otherwise."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from services import wait_until

from pijobs import State
from pijobs.base import processes
from pijobs.context import Permit
from pijobs.errors import StorageUnavailable
from pijobs.storage.memory import MemoryStorage
from pijobs.storage.sessions import Beat, SessionInfo
from pijobs.storage.values import End, Ended, Lease, NewInstance
from pijobs.testing.clock import ManualClock
from pijobs.worker.session import Session, describe_process

LEASE = 10.0


class Outage(MemoryStorage):
    """The memory storage, with a cable that can be pulled."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock=clock)
        self.away = False

    def _answer(self) -> None:
        if self.away:
            raise StorageUnavailable("the cable is pulled")

    def open_session(self, info: SessionInfo, *, lease: int) -> None:
        self._answer()
        super().open_session(info, lease=lease)

    def beat(self, session: str, *, lease: int, abandoned: Any = (), unknown: Any = ()) -> Beat:
        self._answer()
        return super().beat(session, lease=lease, abandoned=abandoned, unknown=unknown)

    def close_session(self, session: str, *, crashed: bool = False) -> list[Ended]:
        self._answer()
        return super().close_session(session, crashed=crashed)


@pytest.fixture
def storage(clock: ManualClock) -> Outage:
    return Outage(clock)


@pytest.fixture
def told() -> list[Ended]:
    """The transitions that the session was told of."""
    return []


@pytest.fixture
def stuck() -> list[Lease]:
    return []


@pytest.fixture
def new_session(
    storage: Outage, clock: ManualClock, told: list[Ended], stuck: list[Lease]
) -> Iterator[Callable[[], Session]]:
    made: list[Session] = []

    def new() -> Session:
        info = SessionInfo(f"session{len(made)}", "host", 1, 0, "1")
        made.append(Session(storage, info, lease=LEASE, on_ended=told.append, on_stuck=stuck.append, clock=clock))
        return made[-1]

    yield new
    storage.away = False
    for session in made:
        session.close()


@pytest.fixture
def session(new_session: Callable[[], Session]) -> Session:
    """Open, without a thread: the test gives the signs of life."""
    session = new_session()
    session.beat()
    return session


def enqueue(storage: MemoryStorage, instance_id: str = "1", deadline: int | None = None) -> None:
    new = NewInstance(instance_id, "a.b", b"e", b"b", "a.b", created=storage.now(), deadline=deadline)
    storage.enqueue(new, timeout=1)


def lease_one(session: Session) -> Lease:
    (lease,) = session.step([], want=1).leases
    return lease


def state(storage: MemoryStorage) -> State:
    return storage.get("1").state


def test_the_first_sign_of_life_announces_the_worker(storage: Outage, session: Session) -> None:
    (record,) = storage.sessions()
    assert record.info.id == session.info.id and record.info.started == storage.now() and session.reachable


def test_what_a_session_tells_is_told_anew_when_it_changes(storage: Outage) -> None:
    facts: dict[str, Any] = {}
    session = Session(storage, describe_process(), lease=LEASE, facts=lambda: facts)
    told = []
    for definitions in (None, "", "abc", "abc"):
        facts["definitions"] = definitions
        session.beat()
        told += [record.info.definitions for record in storage.sessions()]
    assert told == [None, "", "abc", "abc"]


def test_signs_of_life_keep_the_lease(storage: Outage, session: Session, clock: ManualClock) -> None:
    enqueue(storage)
    lease = lease_one(session)
    assert session.running == [lease]
    for _ in range(10):
        clock.advance(LEASE * 0.9)
        session.beat()
    assert state(storage) is State.RUNNING and storage.get("1").crashes == 0
    assert session.step([End("1", lease.token, State.DONE)], want=0).lost == []
    assert session.running == [] and state(storage) is State.DONE


def test_a_session_that_was_taken_for_dead_reopens_and_its_result_does_not_count(
    storage: Outage, session: Session, new_session: Callable[[], Session], clock: ManualClock, told: list[Ended]
) -> None:
    enqueue(storage)
    lease, before = lease_one(session), session.info.id
    other = new_session()
    for _ in range(4):
        other.beat()
        clock.advance(LEASE * 0.3)
    other.beat()
    assert state(storage) is State.QUEUED and [ended.state for ended in told] == [State.QUEUED]
    session.beat()
    assert session.info.id != before and session.reachable
    assert {record.info.id for record in storage.sessions()} == {session.info.id, other.info.id}
    (again,) = session.step([], want=1).leases
    assert again.token != lease.token
    assert session.step([End("1", lease.token, State.DONE)], want=0).lost == ["1"]
    assert state(storage) is State.RUNNING


def test_a_session_that_slept_alone_gives_back_what_it_held(
    storage: Outage, session: Session, clock: ManualClock
) -> None:
    enqueue(storage)
    lease_one(session)
    storage.close_session(session.info.id, crashed=True)
    session.beat()
    assert len(storage.sessions()) == 1 and state(storage) is State.QUEUED
    assert lease_one(session).crashes == 1


def test_a_job_past_its_timeout_is_abandoned(
    storage: Outage, session: Session, clock: ManualClock, told: list[Ended], stuck: list[Lease]
) -> None:
    enqueue(storage)
    lease = lease_one(session)
    session.begin(lease, 5)
    clock.advance(4.9)
    session.beat()
    assert state(storage) is State.RUNNING and stuck == []
    clock.advance(0.2)
    session.beat()
    assert state(storage) is State.QUEUED and storage.get("1").crashes == 1
    assert stuck == [lease] and session.running == [] and [ended.id for ended in told] == ["1"]
    assert session.step([End("1", lease.token, State.DONE)], want=0).lost == ["1"]


def test_the_others_of_the_session_go_on(storage: Outage, session: Session, clock: ManualClock) -> None:
    enqueue(storage)
    enqueue(storage, "2")
    session.begin(lease_one(session), 1)
    second = lease_one(session)
    clock.advance(2)
    session.beat()
    assert session.running == [second] and storage.get("2").state is State.RUNNING


def test_what_ended_in_time_is_not_given_up_while_the_storage_can_not_take_its_end(
    storage: Outage, session: Session, clock: ManualClock, stuck: list[Lease]
) -> None:
    enqueue(storage)
    lease = lease_one(session)
    session.begin(lease, 5)
    clock.advance(4.9)
    session.finish(lease)
    clock.advance(1)
    session.beat()
    assert state(storage) is State.RUNNING and stuck == [] and session.running == [lease]
    assert session.step([End("1", lease.token, State.DONE)], want=0).lost == []


def test_a_job_without_a_timeout_is_never_stuck(storage: Outage, session: Session, clock: ManualClock) -> None:
    enqueue(storage)
    session.begin(lease_one(session), None)
    for _ in range(100):
        clock.advance(9)
        session.beat()
    assert state(storage) is State.RUNNING


def test_what_was_abandoned_during_an_outage_is_told_after_it(
    storage: Outage, session: Session, clock: ManualClock, stuck: list[Lease]
) -> None:
    enqueue(storage)
    session.begin(lease_one(session), 1)
    storage.away = True
    clock.advance(2)
    session.beat()
    assert len(stuck) == 1 and state(storage) is State.RUNNING and not session.reachable
    storage.away = False
    session.beat()
    assert state(storage) is State.QUEUED and len(stuck) == 1 and session.reachable


def test_closing_gives_back_what_runs_not_counted(storage: Outage, session: Session) -> None:
    enqueue(storage)
    lease_one(session)
    session.close()
    record = storage.get("1")
    assert (record.state, record.attempts, record.crashes) == (State.QUEUED, 0, 0)
    assert storage.sessions() == []


def test_closing_counts_what_must_not_happen_twice(storage: Outage, session: Session, told: list[Ended]) -> None:
    enqueue(storage)
    enqueue(storage, "2")
    for _ in range(2):
        permit = Permit()
        lease = lease_one(session)
        session.begin(lease, None, permit)
        permit.once = lease.id == "1"
    session.close()
    assert [storage.get(one).crashes for one in ("1", "2")] == [1, 0]
    assert state(storage) is State.QUEUED and [ended.id for ended in told][:1] == ["1"]


def test_an_interrupted_attempt_counts_only_where_it_must_not_happen_twice(storage: Outage, session: Session) -> None:
    enqueue(storage)
    permit, lease = Permit(), lease_one(session)
    session.begin(lease, None, permit)
    assert not session.interrupted(lease)
    permit.once = True
    assert session.interrupted(lease)
    session.beat()
    assert state(storage) is State.QUEUED and storage.get("1").crashes == 1


def test_closing_during_an_outage_only_warns(
    storage: Outage, session: Session, caplog: pytest.LogCaptureFixture
) -> None:
    storage.away = True
    session.close()
    assert "not closed, its leases will time out" in caplog.text


def test_a_worker_waits_for_a_storage_that_is_away_at_its_start(
    storage: Outage, new_session: Callable[[], Session], caplog: pytest.LogCaptureFixture
) -> None:
    storage.away = True
    session = new_session()
    session.beat()
    assert not session.reachable and "waiting for it" in caplog.text
    with pytest.raises(StorageUnavailable):
        session.step([], want=1)
    storage.away = False
    session.beat()
    assert session.reachable and session.step([], want=1).leases == []


def test_an_outage_is_logged_once_at_each_end(
    storage: Outage, session: Session, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    caplog.clear()
    storage.away = True
    for _ in range(5):
        session.beat()
    storage.away = False
    session.beat()
    session.beat()
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]


def test_the_thread_gives_signs_of_life_and_ends_with_the_session(
    storage: Outage, new_session: Callable[[], Session], clock: ManualClock, stuck: list[Lease]
) -> None:
    session = new_session()
    session._lease_ms = 60  # a beat each 20 ms of the host's time
    session.start()
    enqueue(storage)
    session.begin(lease_one(session), 0.01)
    clock.advance(0.05)
    wait_until(lambda: bool(stuck), what="the thread's next sign of life")
    session.close()
    assert "pijobs-session" not in [thread.name for thread in threading.enumerate()]


@pytest.mark.parametrize("which", ["first", "later"])
def test_a_sign_of_life_that_fails_oddly_is_followed_by_others(
    storage: Outage, new_session: Callable[[], Session], monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    session = new_session()
    session._lease_ms = 60
    failed = threading.Event()

    def odd(*args: Any, **kwargs: Any) -> Beat:
        failed.set()
        raise RuntimeError("odd")

    if which == "later":
        session.start()
    monkeypatch.setattr(storage, "open_session" if which == "first" else "beat", odd)
    if which == "first":
        session.start()
    assert failed.wait(120)
    monkeypatch.undo()
    session.reachable = False
    wait_until(lambda: session.reachable is True, what="another sign of life")


def test_transitions_of_a_step_are_told(
    storage: Outage, session: Session, clock: ManualClock, told: list[Ended]
) -> None:
    enqueue(storage, deadline=storage.now() + 1000)
    clock.advance(2)
    assert session.step([], want=1).leases == []
    assert [(ended.id, ended.state) for ended in told] == [("1", State.EXPIRED)]


def test_a_process_describes_itself() -> None:
    one, two = describe_process(workers=3, jobs=("a.b",)), describe_process()
    assert one.id != two.id and one.pid > 0 and one.host and one.version and one.workers == 3 and one.jobs == ("a.b",)


# -- what a lease is worth -------------------------------------------------------------------------------------------


def test_a_lease_is_held_while_signs_of_life_are_answered(
    session: Session, storage: Outage, clock: ManualClock
) -> None:
    enqueue(storage)
    lease = lease_one(session)
    for _ in range(5):
        clock.advance(LEASE * 0.9)
        assert session.holds(lease)
        session.beat()


def test_a_lease_runs_out_by_the_own_clock(session: Session, storage: Outage, clock: ManualClock) -> None:
    enqueue(storage)
    lease = lease_one(session)
    storage.away = True
    clock.advance(LEASE - 0.1)
    session.beat()
    assert session.holds(lease)
    clock.advance(0.1)
    assert not session.holds(lease)
    storage.away = False
    session.beat()
    assert session.holds(lease)


def test_a_lease_counts_from_the_moment_the_sign_of_life_was_sent(
    session: Session, storage: Outage, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    enqueue(storage)
    lease, beat = lease_one(session), storage.beat

    def slow(*args: Any, **options: Any) -> Beat:
        answer = beat(*args, **options)
        clock.advance(LEASE)  # the answer lay in a buffer while the process was frozen
        return answer

    monkeypatch.setattr(storage, "beat", slow)
    session.beat()
    assert not session.holds(lease)


def test_what_another_worker_runs_by_now_is_not_held(
    session: Session, storage: Outage, new_session: Callable[[], Session]
) -> None:
    enqueue(storage)
    lease = lease_one(session)
    storage.close_session(session.info.id, crashed=True)
    session.beat()
    assert not session.holds(lease)
    assert session.holds(lease_one(session))


def test_an_answer_that_comes_after_the_session_was_taken_for_dead_is_worth_nothing(
    session: Session, storage: Outage, monkeypatch: pytest.MonkeyPatch
) -> None:
    enqueue(storage)
    step = storage.step

    def frozen(*args: Any, **options: Any) -> Any:
        answer = step(*args, **options)
        storage.close_session(session.info.id, crashed=True)
        session.beat()
        return answer

    monkeypatch.setattr(storage, "step", frozen)
    assert not session.holds(lease_one(session))


def test_what_was_given_up_or_has_ended_is_not_held(session: Session, storage: Outage, clock: ManualClock) -> None:
    enqueue(storage)
    lease = lease_one(session)
    session.begin(lease, 1)
    clock.advance(2)
    session.beat()
    assert not session.holds(lease)
    again = lease_one(session)
    session.step([End("1", again.token, State.DONE)], want=0)
    assert not session.holds(again)


# -- what the storage has, compared with what runs here --------------------------------------------------------------


def test_what_nobody_was_told_of_goes_back_at_the_second_sign_of_life(session: Session, storage: Outage) -> None:
    enqueue(storage)
    enqueue(storage, "2")
    mine = lease_one(session)
    storage.step(session.info.id, [], want=1)  # the answer got lost
    session.beat()
    assert storage.get("2").state is State.RUNNING
    session.beat()
    assert (storage.get("2").state, storage.get("2").crashes) == (State.QUEUED, 0)
    assert state(storage) is State.RUNNING and session.holds(mine)


def test_an_end_that_the_storage_forgot_goes_back(session: Session, storage: Outage) -> None:
    enqueue(storage)
    lease = lease_one(session)
    earlier = storage.get("1")
    session.step([End("1", lease.token, State.DONE)], want=0)
    item = storage._items.find("1")
    storage._items.move(item, State.RUNNING)  # what a replica had that takes over now
    item.token, item.session = lease.token, earlier.session
    session.beat()
    session.beat()
    assert state(storage) is State.QUEUED


def test_an_answer_that_comes_after_its_leases_went_back_is_dropped(
    session: Session, storage: Outage, monkeypatch: pytest.MonkeyPatch
) -> None:
    enqueue(storage)
    step = storage.step

    def late(*args: Any, **options: Any) -> Any:
        answer = step(*args, **options)
        session.beat()
        session.beat()
        return answer

    monkeypatch.setattr(storage, "step", late)
    assert session.step([], want=1).leases == [] and session.running == []
    assert state(storage) is State.QUEUED


def test_what_the_storage_gave_away_is_not_held(session: Session, storage: Outage) -> None:
    enqueue(storage)
    lease = lease_one(session)
    storage.step(session.info.id, [End("1", lease.token, State.QUEUED, counted=False)], want=0)
    assert session.holds(lease)
    session.beat()
    assert not session.holds(lease)


def test_a_storage_that_was_emptied_is_told(
    session: Session, storage: Outage, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    session.beat()
    session.storage = empty = Outage(clock)
    session.beat()
    loss = empty.depths().loss
    assert loss is not None and (loss.kind, loss.at) == ("emptied", empty.now())
    assert "was emptied" in caplog.text and "counted as dead" not in caplog.text
    session.beat()
    assert len(empty.sessions()) == 1


def test_a_storage_that_was_emptied_is_told_once(
    session: Session, storage: Outage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real, epochs = storage.beat, iter([1, 0, 9, 9])

    def beat(*args: Any, **options: Any) -> Beat:
        return replace(real(*args, **options), epoch=next(epochs))

    monkeypatch.setattr(storage, "beat", beat)
    for _ in range(4):
        session.beat()
    assert caplog.text.count("was emptied") == 1


def test_a_storage_that_went_back_is_told_even_if_it_goes_away_again(
    session: Session, storage: Outage, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.beat()
    known = storage._sessions.get(session.info.id)
    assert known is not None
    clock.advance(2)
    session.beat()
    known.seen -= 2000
    note = storage.note_loss

    def fails(kind: Any) -> None:
        raise StorageUnavailable("the cable is pulled")

    monkeypatch.setattr(storage, "note_loss", fails)
    session.beat()
    assert not session.reachable
    monkeypatch.setattr(storage, "note_loss", note)
    session.beat()
    loss = storage.depths().loss
    assert loss is not None and loss.kind == "restored" and session.reachable


def test_being_taken_for_dead_is_no_loss_of_the_storage(session: Session, storage: Outage) -> None:
    session.beat()
    storage.close_session(session.info.id, crashed=True)
    session.beat()
    assert storage.depths().loss is None


# -- neighbours on this host -----------------------------------------------------------------------------------------


@pytest.fixture
def neighbour(storage: Outage, clock: ManualClock) -> Iterator[Callable[[SessionInfo], Session]]:
    made: list[Session] = []

    def open_one(info: SessionInfo) -> Session:
        made.append(Session(storage, info, lease=LEASE, clock=clock))
        made[-1].beat()
        return made[-1]

    yield open_one
    for session in made:
        session.close()


@pytest.fixture
def dead_process() -> SessionInfo:
    """What a process told that was killed since."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        began = processes.start_time(child.pid)
        assert began is not None
        child.kill()
    return replace(describe_process(), pid=child.pid, process_started=began)


def test_what_a_dead_process_of_this_host_ran_goes_back_with_the_next_sign_of_life(
    storage: Outage, neighbour: Callable[[SessionInfo], Session], dead_process: SessionInfo
) -> None:
    enqueue(storage)
    lease_one(neighbour(dead_process))
    neighbour(describe_process())
    assert (state(storage), storage.get("1").crashes) == (State.QUEUED, 1)
    assert len(storage.sessions()) == 1


@pytest.mark.parametrize("change", [{"place": "elsewhere"}, {"place": ""}, {"process_started": 0}])
def test_of_a_process_elsewhere_the_lease_decides(
    storage: Outage, neighbour: Callable[[SessionInfo], Session], dead_process: SessionInfo, change: dict[str, Any]
) -> None:
    enqueue(storage)
    lease_one(neighbour(replace(dead_process, **change)))
    neighbour(describe_process())
    assert state(storage) is State.RUNNING


def test_where_nothing_is_known_of_oneself_the_lease_decides(
    storage: Outage, neighbour: Callable[[SessionInfo], Session], dead_process: SessionInfo
) -> None:
    enqueue(storage)
    lease_one(neighbour(replace(dead_process, place="")))
    neighbour(replace(describe_process(), place=""))
    assert state(storage) is State.RUNNING


def test_a_live_process_of_this_host_keeps_its_leases(
    storage: Outage, neighbour: Callable[[SessionInfo], Session]
) -> None:
    enqueue(storage)
    lease_one(neighbour(describe_process()))
    neighbour(describe_process())
    assert state(storage) is State.RUNNING
