"""What happens to the instances of workers that die or leave."""

from __future__ import annotations

import json

import pytest

from pijobs.jobs import State
from pijobs.storage.contract import Storage
from pijobs.storage.values import MAX_CRASHES

from .conftest import Advance, StartWorker
from .time_travel import SLACK
from .workers import LONG, Worker, enqueue


def crash(worker: Worker, start_worker: StartWorker) -> None:
    """Another worker takes the instance and is never heard of again; this one finds out."""
    victim = start_worker()
    assert len(victim.take(1)) == 1
    victim.fall_silent()
    worker.beat()


def test_a_beat_keeps_a_session_alive(storage: Storage, worker: Worker, start_worker: StartWorker) -> None:
    instance = enqueue(storage)
    worker.take_one()
    assert worker.beat().alive
    assert start_worker().beat().ended == []
    assert storage.get(instance).state is State.RUNNING


def test_a_beat_renews_the_leases(
    storage: Storage, worker: Worker, start_worker: StartWorker, advance: Advance
) -> None:
    instance, other = enqueue(storage), start_worker()
    lease = worker.take_one()
    worker.beat(lease=200)
    worker.beat(lease=LONG)
    advance(200)
    assert other.beat().ended == []
    worker.end(lease, State.DONE)
    assert storage.get(instance).state is State.DONE


def test_a_beat_of_an_unknown_session_says_that_it_is_not_alive(storage: Storage) -> None:
    assert storage.beat("nobody", lease=LONG).alive is False


def test_a_beat_of_a_session_taken_for_dead_says_so(
    storage: Storage, worker: Worker, start_worker: StartWorker
) -> None:
    other = start_worker()
    worker.fall_silent()
    other.beat()
    assert worker.beat().alive is False
    assert other.beat().alive is True


def test_a_beat_after_a_closed_session_says_that_it_is_not_alive(storage: Storage, worker: Worker) -> None:
    storage.close_session(worker.session)
    assert worker.beat().alive is False


def test_a_session_taken_for_dead_can_be_opened_anew(
    storage: Storage, worker: Worker, start_worker: StartWorker
) -> None:
    other = start_worker()
    worker.fall_silent()
    other.beat()
    storage.open_session(worker.info, lease=LONG)
    instance = enqueue(storage)
    assert worker.take_ids() == [instance]
    assert worker.beat().alive


def test_a_late_sign_of_life_counts_while_nobody_has_taken_the_session_for_dead(
    storage: Storage, worker: Worker, start_worker: StartWorker
) -> None:
    instance, other = enqueue(storage), start_worker()
    lease = worker.take_one()
    worker.fall_silent()
    beat = worker.beat()
    assert (beat.alive, beat.ended) == (True, [])
    assert other.beat().ended == []
    worker.end(lease, State.DONE)
    assert storage.get(instance).state is State.DONE


# -- recovery --------------------------------------------------------------------------------------------------------


def test_what_a_dead_worker_held_goes_back(storage: Storage, worker: Worker, start_worker: StartWorker) -> None:
    instance = enqueue(storage)
    crash(worker, start_worker)
    record = storage.get(instance)
    assert (record.state, record.attempts, record.crashes) == (State.QUEUED, 0, 1)
    assert record.has_body
    lease = worker.take_one()
    assert (lease.id, lease.attempts, lease.crashes) == (instance, 0, 1)


def test_recovery_is_told(storage: Storage, worker: Worker, start_worker: StartWorker) -> None:
    instance, victim = enqueue(storage, group="smtp.example"), start_worker()
    victim.take_one()
    victim.fall_silent()
    (ended,) = worker.beat().ended
    assert (ended.id, ended.name, ended.group, ended.state) == (instance, "test.job", "smtp.example", State.QUEUED)
    assert (ended.attempts, ended.crashes) == (0, 1)
    assert worker.beat().ended == []


def test_recovery_leaves_a_line_in_the_history(storage: Storage, worker: Worker, start_worker: StartWorker) -> None:
    instance, victim = enqueue(storage), start_worker()
    worker.run(instance, State.SCHEDULED, due=storage.now() - 1000, entry='{"n": 1}')
    victim.take_one()
    victim.fall_silent()
    before = storage.now()
    worker.beat()
    first, second = map(json.loads, storage.get(instance).history)
    assert first == {"n": 1}
    assert (second["event"], second["session"]) == ("crashed", victim.session)
    assert before - SLACK <= second["at"] <= storage.now() + 5_000


def test_recovery_gives_the_old_place_back(storage: Storage, worker: Worker, start_worker: StartWorker) -> None:
    ids = [enqueue(storage) for _ in range(3)]
    high = enqueue(storage, priority=1)
    victim = start_worker()
    assert victim.take_ids(2) == [high, ids[0]]
    victim.fall_silent()
    worker.beat()
    assert worker.take_ids() == [high, *ids]


def test_only_the_dead_lose_their_leases(storage: Storage, worker: Worker, start_worker: StartWorker) -> None:
    ids = [enqueue(storage) for _ in range(2)]
    victim = start_worker()
    held, lost = worker.take_one(), victim.take_one()
    victim.fall_silent()
    assert [one.id for one in worker.beat().ended] == [lost.id]
    assert storage.get(held.id).state is State.RUNNING
    assert {held.id, lost.id} == set(ids)


def test_more_than_one_call_recovers_comes_with_the_next(
    storage: Storage, worker: Worker, start_worker: StartWorker
) -> None:
    for _ in range(130):
        enqueue(storage)
    victim = start_worker()
    while victim.take(50):
        pass
    assert storage.depths().counts[("test.job", State.RUNNING)] == 130
    victim.fall_silent()
    first, second = worker.beat().ended, worker.beat().ended
    assert len(first) <= 100
    assert len({one.id for one in first + second}) == 130
    assert storage.depths().counts[("test.job", State.QUEUED)] == 130


def test_dead_sessions_go(storage: Storage, worker: Worker, start_worker: StartWorker) -> None:
    victim = start_worker()
    victim.fall_silent()
    worker.beat()
    assert [one.info.id for one in storage.sessions()] == [worker.session]


def test_a_crash_frees_the_room_in_its_group(storage: Storage, worker: Worker, start_worker: StartWorker) -> None:
    enqueue(storage, group="narrow", limit=1)
    crash(worker, start_worker)
    assert len(worker.take()) == 1


# -- poison ----------------------------------------------------------------------------------------------------------


def test_an_instance_that_takes_down_its_workers_ends_dead(
    storage: Storage, worker: Worker, start_worker: StartWorker
) -> None:
    instance = enqueue(storage)
    for crashes in range(1, MAX_CRASHES):
        crash(worker, start_worker)
        assert (storage.get(instance).state, storage.get(instance).crashes) == (State.QUEUED, crashes)
    victim = start_worker()
    victim.take_one()
    victim.fall_silent()
    (ended,) = worker.beat().ended
    assert (ended.state, ended.crashes) == (State.DEAD, MAX_CRASHES)
    record = storage.get(instance)
    assert (record.state, record.crashes, record.has_body) == (State.DEAD, MAX_CRASHES, True)
    assert record.reason
    assert record.ended is not None
    assert len(record.history) == MAX_CRASHES
    assert worker.take() == []


@pytest.mark.parametrize("told", [False, True])
def test_what_never_ran_alone_does_not_end_dead(
    storage: Storage, worker: Worker, start_worker: StartWorker, told: bool
) -> None:
    def fall(victim: Worker) -> list[State]:
        if told:
            return [one.state for one in storage.close_session(victim.session, crashed=True)]
        victim.fall_silent()
        return [one.state for one in worker.beat().ended]

    ids = [enqueue(storage) for _ in range(2)]
    for _ in range(MAX_CRASHES + 1):
        victim = start_worker()
        assert len(victim.take(2)) == 2
        assert fall(victim) == [State.QUEUED] * 2
    assert [storage.get(one).crashes for one in ids] == [MAX_CRASHES + 1] * 2
    victim = start_worker()
    victim.take_one()
    assert fall(victim) == [State.DEAD]
    assert [storage.get(one).state for one in ids] == [State.DEAD, State.QUEUED]


def test_who_is_recovered_last_of_many_did_not_run_alone(
    storage: Storage, worker: Worker, start_worker: StartWorker
) -> None:
    ids = [enqueue(storage) for _ in range(101)]  # one call of a sign of life, or five of a script, and one more
    for _ in range(MAX_CRASHES):
        victim = start_worker()
        while victim.take():
            pass
        victim.fall_silent()
        ended = [one for _ in range(2) for one in worker.beat().ended]
        assert {one.state for one in ended} == {State.QUEUED} and len(ended) == len(ids)


def test_a_running_instance_past_its_deadline_expires_when_its_worker_dies(
    storage: Storage, worker: Worker, start_worker: StartWorker, advance: Advance
) -> None:
    instance, victim = enqueue(storage, deadline=storage.now() + 50_000), start_worker()
    victim.take_one()
    advance(50_000)
    victim.fall_silent()
    assert [(one.id, one.state) for one in worker.beat().ended] == [(instance, State.EXPIRED)]
    record = storage.get(instance)
    assert (record.state, record.has_body) == (State.EXPIRED, False)


def test_a_running_instance_past_its_deadline_is_left_to_its_live_worker(
    storage: Storage, worker: Worker, advance: Advance
) -> None:
    instance = enqueue(storage, deadline=storage.now() + 50_000)
    lease = worker.take_one()
    advance(50_000)
    assert worker.beat().ended == []
    worker.end(lease, State.DONE)
    assert storage.get(instance).state is State.DONE


# -- abandoned -------------------------------------------------------------------------------------------------------


def test_abandoned_leases_go_back_as_crashed(storage: Storage, worker: Worker) -> None:
    ids = [enqueue(storage) for _ in range(2)]
    first, second = worker.take()
    beat = worker.beat(abandoned=[first])
    assert beat.alive
    assert [(one.id, one.state, one.crashes) for one in beat.ended] == [(ids[0], State.QUEUED, 1)]
    assert [storage.get(one).state for one in ids] == [State.QUEUED, State.RUNNING]
    assert worker.take_ids() == [first.id]
    worker.end(second, State.DONE)


def test_an_abandoned_lease_is_lost(storage: Storage, worker: Worker) -> None:
    from pijobs.storage.values import End

    instance = enqueue(storage)
    lease = worker.take_one()
    worker.beat(abandoned=[lease])
    assert worker.step(End(lease.id, lease.token, State.DONE)).lost == [instance]


def test_only_held_leases_are_abandoned(storage: Storage, worker: Worker, start_worker: StartWorker) -> None:
    instance, other = enqueue(storage), start_worker()
    old = worker.take_one()
    worker.end(old, State.QUEUED, counted=False)
    held = worker.take_one()
    assert worker.beat(abandoned=[old]).ended == []
    assert other.beat(abandoned=[held]).ended == []
    assert storage.get(instance).state is State.RUNNING


def test_an_instance_abandoned_too_often_ends_dead(storage: Storage, worker: Worker) -> None:
    instance = enqueue(storage)
    for _ in range(MAX_CRASHES):
        worker.beat(abandoned=[worker.take_one()])
    assert (storage.get(instance).state, storage.get(instance).crashes) == (State.DEAD, MAX_CRASHES)


# -- closed sessions -------------------------------------------------------------------------------------------------


def test_a_closed_session_gives_back_what_it_runs_uncounted(
    storage: Storage, worker: Worker, start_worker: StartWorker
) -> None:
    ids = [enqueue(storage) for _ in range(3)]
    worker.take(2)
    storage.close_session(worker.session)
    records = [storage.get(one) for one in ids]
    assert [(one.state, one.attempts, one.crashes, one.history) for one in records] == [(State.QUEUED, 0, 0, ())] * 3
    assert start_worker().take_ids() == ids


def test_a_closed_session_is_gone(storage: Storage, worker: Worker) -> None:
    storage.close_session(worker.session)
    assert storage.sessions() == []


def test_a_crashed_session_gives_back_what_it_runs_counted(
    storage: Storage, worker: Worker, start_worker: StartWorker
) -> None:
    instance = enqueue(storage)
    worker.take_one()
    (ended,) = storage.close_session(worker.session, crashed=True)
    assert (ended.id, ended.state, ended.crashes) == (instance, State.QUEUED, 1)
    record = storage.get(instance)
    assert (record.state, record.crashes) == (State.QUEUED, 1)
    assert json.loads(record.history[0])["event"] == "crashed"
    assert start_worker().take_ids() == [instance]


def test_a_session_that_crashes_with_the_same_instance_ends_it_dead(
    storage: Storage, start_worker: StartWorker
) -> None:
    instance = enqueue(storage)
    states = []
    for _ in range(MAX_CRASHES):
        victim = start_worker()
        victim.take_one()
        states += [one.state for one in storage.close_session(victim.session, crashed=True)]
    assert states == [State.QUEUED, State.QUEUED, State.DEAD]
    assert storage.get(instance).state is State.DEAD


def test_closing_an_unknown_session_does_nothing(storage: Storage, worker: Worker) -> None:
    enqueue(storage)
    worker.take_one()
    assert storage.close_session("nobody") == []
    assert storage.close_session("nobody", crashed=True) == []
    assert storage.depths().counts[("test.job", State.RUNNING)] == 1
