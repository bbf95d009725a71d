"""A job leaves the request, or runs in it: off, immediate, queued, and what happens without a storage."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from pijobs import DestinationDown, FailJob, Job, JobContext, Limits, RetryJob, State
from pijobs.errors import (
    DeadlinePassed,
    EncodeError,
    InstanceRefused,
    KeyConflict,
    QueueUnavailable,
    StateConflict,
    StorageUnavailable,
    UnknownJob,
)
from pijobs.payload.codec import Call, open_envelope
from pijobs.payload.keys import KeyRing
from pijobs.plugins.loading import Plugins
from pijobs.plugins.registry import Registry
from pijobs.request.calls import LABEL_LENGTH
from pijobs.request.queue import Queue
from pijobs.settings import CORE_SETTINGS, PREFIX, validate
from pijobs.storage.contract import Storage
from pijobs.storage.memory import MemoryStorage
from pijobs.storage.sessions import SessionInfo
from pijobs.storage.values import NewInstance, OnConflict, Stored
from pijobs.testing.clock import ManualClock

NewQueue = Callable[..., Queue]


class Recorder:
    """The job of these tests: keeps how it was called."""

    def __init__(self) -> None:
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        self.contexts: list[JobContext] = []
        self.error: BaseException | None = None

    def __call__(self, ctx: JobContext, *args: Any, **kwargs: Any) -> None:
        self.contexts.append(ctx)
        self.calls.append((args, kwargs))
        if self.error is not None:
            raise self.error


class Cable(MemoryStorage):
    """The memory storage; ``error`` is what happens at enqueue."""

    def __init__(self, name: str, clock: ManualClock) -> None:
        super().__init__(name, clock=clock)
        self.error: Exception | None = None
        self.options: list[dict[str, Any]] = []
        self.taken: list[NewInstance] = []

    def enqueue_many(self, batch: Sequence[tuple[NewInstance, OnConflict]], **options: Any) -> list[Stored]:
        self.options.append(options)
        self.taken += [new for new, _ in batch]
        if self.error is not None:
            raise self.error
        return super().enqueue_many(batch, **options)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def storage(clock: ManualClock) -> Cable:
    return Cable("main", clock)


@pytest.fixture
def spool(clock: ManualClock) -> Cable:
    return Cable("spool", clock)


@pytest.fixture
def new_queue(recorder: Recorder, tmp_path: Path) -> NewQueue:
    def new(storage: Storage | None = None, spool: Storage | None = None, /, **more: Any) -> Queue:
        options: Mapping[str, Any] = {name: more.pop(name) for name in list(more) if name.isupper()}
        values = {"SECRET_KEY": "s", **{PREFIX + name: value for name, value in options.items()}}
        registry = Registry.of([Job("a.b", recorder, **more)])
        settings = validate(values, CORE_SETTINGS, directory=tmp_path)
        return Queue(settings, registry, Plugins([]), storage=storage, spool=spool)

    return new


def live_worker(storage: MemoryStorage) -> None:
    storage.open_session(SessionInfo("w", "host", 1, storage.now(), "1"), lease=10_000)


# -- off -------------------------------------------------------------------------------------------------------------


def test_off_runs_in_the_request(new_queue: NewQueue, recorder: Recorder) -> None:
    queue = new_queue()
    handle = queue.enqueue("a.b", (1,), {"two": 2})
    assert queue.mode == "off" and recorder.calls == [((1,), {"two": 2})]
    assert (handle.state, handle.via) == (State.DONE, "direct") and handle.id == recorder.contexts[0].id


@pytest.mark.parametrize("error", [OSError("away"), FailJob("no"), RetryJob(), DestinationDown(), SystemExit(2)])
def test_off_makes_one_attempt_and_the_exception_reaches_the_caller(
    new_queue: NewQueue, recorder: Recorder, error: BaseException
) -> None:
    recorder.error = error
    with pytest.raises(type(error)) as caught:
        new_queue().enqueue("a.b")
    assert caught.value is error and len(recorder.calls) == 1 and recorder.contexts[0].attempt == 1


def test_off_checks_the_arguments_as_the_codec_would(new_queue: NewQueue, recorder: Recorder) -> None:
    for call in ("enqueue", "run"):
        with pytest.raises(EncodeError, match=r"items\[1\]: expected"):
            getattr(new_queue(), call)("a.b", kwargs={"items": [0, object()]})
    assert recorder.calls == []


def test_off_gives_the_deadline_of_call_or_job(new_queue: NewQueue, recorder: Recorder) -> None:
    new_queue(expires=60).enqueue("a.b")
    new_queue(expires=60).enqueue("a.b", expires=5)
    new_queue().enqueue("a.b")
    left = [ctx.time_left() for ctx in recorder.contexts]
    assert 50 < left[0] <= 60 and 4 < left[1] <= 5 and left[2] == float("inf")


def test_off_needs_no_key(recorder: Recorder) -> None:
    queue = Queue(validate({}, CORE_SETTINGS), Registry.of([Job("a.b", recorder)]), Plugins([]))
    assert queue.enqueue("a.b").state is State.DONE


def test_off_refuses_what_only_a_storage_can_do(new_queue: NewQueue) -> None:
    for act in ("retry", "cancel", "remove"):
        with pytest.raises(QueueUnavailable, match="no queue is configured"):
            getattr(new_queue(), act)("1")


# -- calls -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["off", "immediate", "queued"])
def test_a_wrong_call_is_refused_in_every_mode(
    new_queue: NewQueue, mode: str, storage: Cable, recorder: Recorder
) -> None:
    queue = new_queue(None if mode == "off" else storage, IMMEDIATE=mode == "immediate")
    assert queue.mode == mode
    with pytest.raises(UnknownJob, match=r"did you mean 'a\.b'"):
        queue.enqueue("a.c")
    with pytest.raises(EncodeError):
        queue.enqueue("a.b", kwargs={"ctx": None})
    with pytest.raises(EncodeError):
        queue.enqueue("a.b", [object()])
    with pytest.raises(EncodeError, match="expected a list or tuple as args, found str"):
        queue.enqueue("a.b", "letters")
    with pytest.raises(ValueError, match="delay"):
        queue.enqueue("a.b", delay=-1)
    assert recorder.calls == [] and storage.options == []


@pytest.mark.parametrize(
    ("option", "wrong"),
    [
        ("delay", -1),
        ("delay", "5"),
        ("delay", float("nan")),
        ("delay", float("inf")),
        ("delay", True),
        ("eta", dt.datetime(2030, 1, 1)),
        ("eta", "tomorrow"),
        ("eta", 1.7e12),
        ("expires", 0),
        ("expires", -1),
        ("expires", float("inf")),
        ("expires", dt.timedelta(1)),
        ("priority", 1001),
        ("priority", 1.5),
        ("priority", True),
        ("key", ""),
        ("key", 5),
        ("on_conflict", "ignore"),
        ("on_conflict", True),
    ],
)
def test_an_option_that_can_not_be_meant_is_refused(
    new_queue: NewQueue, storage: Cable, option: str, wrong: Any
) -> None:
    with pytest.raises(ValueError, match=f"option {option}: expected .*, found "):
        new_queue(storage).enqueue("a.b", **{option: wrong})
    assert storage.options == []


def test_delay_and_eta_together_are_refused(new_queue: NewQueue) -> None:
    with pytest.raises(ValueError, match="delay and eta"):
        new_queue().enqueue("a.b", delay=1, eta=2)


OWN = {"delay": 1, "eta": 2, "expires": 3, "priority": 4, "key": 5, "on_conflict": 6, "id": 7, "name": 8, "args": 9}


@pytest.mark.parametrize("mode", ["off", "immediate", "queued"])
def test_a_job_s_own_arguments_may_be_named_like_options(
    new_queue: NewQueue, storage: Cable, recorder: Recorder, mode: str
) -> None:
    queue = new_queue(None if mode == "off" else storage, IMMEDIATE=mode == "immediate")
    handle = queue.enqueue("a.b", kwargs=OWN, priority=9)
    if mode != "queued":
        assert recorder.calls == [((), OWN)]
    else:
        record, body = storage.get(handle.id), storage.body(handle.id)
        assert body is not None and queue.codec().decode(record.envelope, body).kwargs == OWN
        assert record.priority == 9 and record.state is State.QUEUED


# -- immediate -------------------------------------------------------------------------------------------------------


def test_immediate_goes_through_the_codec(new_queue: NewQueue, storage: Cable, recorder: Recorder) -> None:
    items = [(1,)]
    handle = new_queue(storage, IMMEDIATE=True).enqueue("a.b", kwargs={"items": items})
    assert recorder.calls == [((), {"items": items})] and recorder.calls[0][1]["items"] is not items
    assert (handle.state, handle.via) == (State.DONE, "direct") and storage.options == []


@pytest.mark.parametrize(
    ("error", "state", "attempts"),
    [
        (OSError("away"), State.DEAD, 5),
        (FailJob("no"), State.DEAD, 1),
        (DestinationDown("down"), State.DEAD, 5),
        (DeadlinePassed(), State.EXPIRED, 1),
    ],
)
def test_immediate_makes_all_attempts_at_once_and_puts_the_outcome_in_the_handle(
    new_queue: NewQueue, storage: Cable, recorder: Recorder, error: Exception, state: State, attempts: int
) -> None:
    recorder.error = error
    handle = new_queue(storage, IMMEDIATE=True).enqueue("a.b")
    assert handle.state is state and handle.reason and len(recorder.calls) == attempts


# -- queued ----------------------------------------------------------------------------------------------------------


def test_queued_stores_the_call_and_returns(new_queue: NewQueue, storage: Cable, recorder: Recorder) -> None:
    queue = new_queue(storage)
    handle = queue.enqueue("a.b", ["x"], {"y": ("z",)})
    record, body = storage.get(handle.id), storage.body(handle.id)
    assert (handle.state, handle.via) == (State.QUEUED, "storage") and recorder.calls == []
    assert body is not None and queue.codec().decode(record.envelope, body) == Call(("x",), {"y": ("z",)})
    assert (record.group, record.priority, record.created) == ("a.b", 0, storage.now())
    # The bound of its age; what is sealed says that there is no deadline.
    assert record.deadline == storage.now() + 7 * 24 * 3600 * 1000 and open_envelope(record.envelope).deadline is None
    envelope = open_envelope(record.envelope)
    assert (envelope.id, envelope.name, envelope.created) == (handle.id, "a.b", storage.now())


def test_the_storage_is_given_the_enqueue_timeout(new_queue: NewQueue, storage: Cable) -> None:
    new_queue(storage, ENQUEUE_TIMEOUT=0.5).enqueue("a.b")
    assert storage.options == [{"timeout": 0.5, "worker_within": None, "bypassable": True}]


def test_options_of_the_call_win_over_those_of_the_job(new_queue: NewQueue, storage: Cable) -> None:
    queue = new_queue(storage, priority=5, expires=60)
    own, called = queue.enqueue("a.b"), queue.enqueue("a.b", priority=-7, expires=10)
    now = storage.now()
    assert (storage.get(own.id).priority, storage.get(own.id).deadline) == (5, now + 60_000)
    assert (storage.get(called.id).priority, storage.get(called.id).deadline) == (-7, now + 10_000)
    assert open_envelope(storage.get(called.id).envelope).deadline == now + 10_000


@pytest.mark.parametrize(
    "when",
    [
        {"delay": 90},
        {"eta": 1_700_000_090.0},
        {"eta": dt.datetime.fromtimestamp(1_700_000_090, dt.timezone(dt.timedelta(hours=5)))},
    ],
    ids=["delay", "seconds", "datetime"],
)
def test_a_later_start_is_scheduled(new_queue: NewQueue, storage: Cable, when: dict[str, Any]) -> None:
    handle = new_queue(storage).enqueue("a.b", **when)
    assert handle.state is State.SCHEDULED and storage.get(handle.id).due == 1_700_000_090_000


def test_a_moment_that_has_passed_is_now(new_queue: NewQueue, storage: Cable) -> None:
    assert new_queue(storage).enqueue("a.b", eta=5).state is State.QUEUED
    assert new_queue(storage).enqueue("a.b", delay=0).state is State.QUEUED


def test_at_most_one_instance_with_a_key_waits(new_queue: NewQueue, storage: Cable) -> None:
    queue = new_queue(storage)
    first = queue.enqueue("a.b", key="alice")
    second = queue.enqueue("a.b", key="alice")
    assert storage.get(first.id).state is State.CANCELLED and storage.get(second.id).state is State.QUEUED
    assert queue.enqueue("a.b", key="alice", on_conflict="keep").id == second.id
    with pytest.raises(KeyConflict):
        queue.enqueue("a.b", key="alice", on_conflict="error")
    assert queue.enqueue("a.b", key="bob").id != second.id
    assert storage.get(second.id).state is State.QUEUED


def test_key_and_subject_are_stored_as_hmac_only(new_queue: NewQueue, storage: Cable) -> None:
    queue = new_queue(storage, subject=lambda user: user)
    queue.enqueue("a.b", ["alice"], key="alice")
    (new,) = storage.taken
    lookup = KeyRing.of(queue.settings).newest.lookup
    assert new.key == lookup("key a.b", "alice") != new.subject == lookup("subject", "alice")
    assert len(storage.page(State.QUEUED, subject=new.subject).records) == 1


def test_group_and_limit_come_from_the_job(new_queue: NewQueue, storage: Cable) -> None:
    queue = new_queue(storage, group=lambda server, **_: f"smtp:{server}", limits=Limits(concurrency=1))
    queue.enqueue("a.b", ["main"])
    group = storage.group("smtp:main")
    assert group is not None and group.limit == 1 and group.waiting == 1


def test_a_job_without_a_group_has_no_limit(new_queue: NewQueue, storage: Cable) -> None:
    new_queue(storage).enqueue("a.b")
    group = storage.group("a.b")
    assert group is not None and group.limit is None


def test_the_label_is_masked_and_stored_encrypted(new_queue: NewQueue, storage: Cable) -> None:
    queue = new_queue(storage, label=lambda to: to)
    for given, shown in (("alice@example.com", "a***@example.com"), ("a***@example.com", "a***@example.com")):
        handle = queue.enqueue("a.b", [given])
        body = storage.body(handle.id)
        assert body is not None
        assert queue.codec().decode(storage.get(handle.id).envelope, body).label == shown
        assert storage.get(handle.id).label == shown


@pytest.mark.parametrize("what", ["label", "group", "subject"])
def test_a_function_of_the_job_that_raises_does_not_stop_the_call(
    new_queue: NewQueue, storage: Cable, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(text: str) -> str:
        raise ValueError(f"cannot use {text!r}")

    handle = new_queue(storage, **{what: fails}).enqueue("a.b", ["Dear Alice, your code"])
    assert storage.get(handle.id).group == "a.b"
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert line.startswith(f"job a.b: its {what} function failed: ValueError") and "Alice" not in line


@pytest.mark.parametrize("what", ["label", "group", "subject"])
@pytest.mark.parametrize("value", [None, 5, ""])
def test_a_function_of_the_job_may_return_nothing_or_anything(
    new_queue: NewQueue, storage: Cable, what: str, value: Any
) -> None:
    handle = new_queue(storage, **{what: lambda: value}).enqueue("a.b")
    assert storage.get(handle.id).group == ("5" if (what, value) == ("group", 5) else "a.b")


def test_an_instance_can_be_cancelled_retried_and_removed(new_queue: NewQueue, storage: Cable) -> None:
    queue = new_queue(storage)
    handle = queue.enqueue("a.b")
    queue.cancel(handle.id)
    assert storage.get(handle.id).reason == "cancelled by an operator"
    queue.remove(handle.id)
    assert storage.depths().counts == {}


def test_run_is_direct_whatever_the_mode(new_queue: NewQueue, storage: Cable, recorder: Recorder) -> None:
    for queue in (new_queue(), new_queue(storage), new_queue(storage, IMMEDIATE=True)):
        recorder.error = None
        assert queue.run("a.b", ["x"]).state is State.DONE
        recorder.error = OSError("away")
        with pytest.raises(OSError, match="away"):
            queue.run("a.b", ["x"])
    assert len(recorder.calls) == 6 and storage.options == []


# -- without a storage -----------------------------------------------------------------------------------------------

AWAY = StorageUnavailable("connection refused")


def test_the_spool_takes_a_job_without_deadline(new_queue: NewQueue, storage: Cable, spool: Cable) -> None:
    storage.error = AWAY
    handle = new_queue(storage, spool).enqueue("a.b", ["x"])
    assert (handle.via, handle.state) == ("spool", State.QUEUED) and spool.get(handle.id).state is State.QUEUED
    assert storage.depths().counts == {}


def test_a_job_with_a_deadline_is_spooled_only_if_a_worker_is_alive(
    new_queue: NewQueue, storage: Cable, spool: Cable, recorder: Recorder, clock: ManualClock
) -> None:
    storage.error = AWAY
    queue = new_queue(storage, spool, expires=60)
    assert queue.enqueue("a.b").via == "direct" and len(recorder.calls) == 1
    live_worker(spool)
    assert queue.enqueue("a.b").via == "spool" and len(recorder.calls) == 1
    clock.advance(11)
    assert queue.enqueue("a.b").via == "direct" and len(recorder.calls) == 2
    assert spool.options[0]["worker_within"] == 10_000


def test_the_same_instance_goes_to_the_spool(new_queue: NewQueue, storage: Cable, spool: Cable) -> None:
    storage.error = AWAY
    handle = new_queue(storage, spool).enqueue("a.b")
    assert spool.taken == storage.taken and spool.taken[0].id == handle.id


def test_without_a_spool_the_job_runs_in_the_request(new_queue: NewQueue, storage: Cable, recorder: Recorder) -> None:
    storage.error = AWAY
    handle = new_queue(storage).enqueue("a.b", ["x"])
    assert (handle.via, handle.state) == ("direct", State.DONE) and recorder.calls == [(("x",), {})]


FAILURES = [
    (OSError("smtp is away, too"), State.DEAD, "one attempt: OSError: smtp is away, too"),
    (FailJob("no such user"), State.DEAD, "no such user"),
    (DestinationDown("down"), State.DEAD, "one attempt: down"),
    (RetryJob("later"), State.DEAD, "one attempt: later"),
    (DeadlinePassed(), State.EXPIRED, "the deadline passed"),
    (SystemExit(3), State.DEAD, "SystemExit"),
]


@pytest.mark.parametrize(("error", "state", "reason"), FAILURES, ids=lambda value: type(value).__name__)
def test_what_fails_in_the_request_is_in_the_handle_the_log_and_the_counts(
    new_queue: NewQueue, storage: Cable, recorder: Recorder, caplog: pytest.LogCaptureFixture,
    error: BaseException, state: State, reason: str,
) -> None:  # fmt: skip
    storage.error, recorder.error = AWAY, error
    queue = new_queue(storage)
    handle = queue.enqueue("a.b", ["x"])
    assert (handle.via, handle.state, len(recorder.calls)) == ("direct", state, 1)
    assert reason in (handle.reason or "")
    assert f"job a.b {handle.id}: -> {state} in the request: " in caplog.text
    assert any(state.value in name for name in queue.metrics._share.take() if "failed" in name)


def test_what_ran_in_the_request_is_recorded_in_the_spool(
    new_queue: NewQueue, storage: Cable, spool: Cable, recorder: Recorder
) -> None:
    storage.error = AWAY
    queue = new_queue(storage, spool, FALLBACK=("direct",))
    done = queue.enqueue("a.b", ["x"])
    recorder.error = OSError("away")
    dead = queue.enqueue("a.b", ["y"])
    assert (spool.get(done.id).state, spool.get(dead.id).state) == (State.DONE, State.DEAD)
    record = spool.get(dead.id)
    assert record.has_body and record.attempts == 1 and record.reason == dead.reason
    assert '"outcome":"dead"' in record.history[0]


def test_without_a_spool_the_storage_is_told_when_it_answers(
    new_queue: NewQueue, storage: Cable, recorder: Recorder
) -> None:
    storage.error = AWAY
    queue = new_queue(storage)
    done = queue.enqueue("a.b")
    recorder.error = OSError("away")
    dead = queue.enqueue("a.b")
    storage.error = None
    queue.enqueue("a.b")
    assert (storage.get(done.id).state, storage.get(dead.id).state) == (State.DONE, State.DEAD)


def test_without_a_worker_the_storage_is_told_at_once(new_queue: NewQueue, storage: Cable, spool: Cable) -> None:
    handle = new_queue(storage, spool, WITHOUT_WORKER="direct", expires=60).enqueue("a.b")
    assert (handle.via, storage.get(handle.id).state) == ("direct", State.DONE)
    assert spool.depths().counts == {}


@pytest.mark.parametrize(("setting", "of_class", "raises"), [
    (None, False, False), (None, True, True), (True, False, True), (False, True, False),
])  # fmt: skip
def test_in_the_request_the_exception_reaches_the_caller_where_that_is_wanted(
    new_queue: NewQueue, storage: Cable, recorder: Recorder, setting: bool | None, of_class: bool, raises: bool
) -> None:
    storage.error, recorder.error = AWAY, OSError("smtp is away, too")
    queue = new_queue(storage, DIRECT_RAISES=setting)
    queue.direct_raises = of_class
    if raises:
        with pytest.raises(OSError, match="too"):
            queue.enqueue("a.b")
    else:
        assert queue.enqueue("a.b").state is State.DEAD
    assert len(recorder.calls) == 1


def test_in_the_request_the_deadline_is_that_of_the_call(
    new_queue: NewQueue, storage: Cable, recorder: Recorder
) -> None:
    storage.error = AWAY
    new_queue(storage, expires=60).enqueue("a.b", expires=5)
    assert 4 < recorder.contexts[0].time_left() <= 5


def test_the_fallbacks_are_tried_in_their_order(new_queue: NewQueue, storage: Cable, spool: Cable) -> None:
    storage.error = AWAY
    assert new_queue(storage, spool, FALLBACK=["direct", "spool"]).enqueue("a.b").via == "direct"
    assert spool.options == []


@pytest.mark.parametrize("fallback", [(), ("spool",)])
def test_without_a_fallback_the_caller_is_told(
    new_queue: NewQueue, storage: Cable, spool: Cable, recorder: Recorder, fallback: tuple[str, ...]
) -> None:
    storage.error = spool.error = AWAY
    with pytest.raises(QueueUnavailable, match=r"no fallback took job 'a\.b'") as caught:
        new_queue(storage, spool, FALLBACK=fallback).enqueue("a.b")
    assert caught.value.__cause__ is AWAY and recorder.calls == []


def test_a_key_that_is_taken_in_the_spool_is_told(new_queue: NewQueue, storage: Cable, spool: Cable) -> None:
    storage.error = AWAY
    queue = new_queue(storage, spool)
    queue.enqueue("a.b", key="k")
    with pytest.raises(KeyConflict):
        queue.enqueue("a.b", key="k", on_conflict="error")


def test_a_conflict_is_no_outage(new_queue: NewQueue, storage: Cable, recorder: Recorder) -> None:
    queue = new_queue(storage)
    queue.enqueue("a.b", key="k")
    with pytest.raises(KeyConflict):
        queue.enqueue("a.b", key="k", on_conflict="error")
    assert recorder.calls == [] and queue.outage.since is None


def test_an_outage_is_logged_once_and_so_is_its_end(
    new_queue: NewQueue, storage: Cable, caplog: pytest.LogCaptureFixture
) -> None:
    queue = new_queue(storage)
    for _ in range(2):
        caplog.clear()
        storage.error = AWAY
        for _ in range(5):
            queue.enqueue("a.b")
        storage.error = None
        for _ in range(5):
            queue.enqueue("a.b")
        lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
        assert len(lines) == 2 and "does not answer" in lines[0] and "answers again" in lines[1]
    assert queue.outage.fallbacks == 10 and queue.outage.since is None


# -- without a worker ------------------------------------------------------------------------------------------------


def test_with_a_deadline_and_no_worker_it_may_run_in_the_request(
    new_queue: NewQueue, storage: Cable, recorder: Recorder, clock: ManualClock
) -> None:
    queue = new_queue(storage, WITHOUT_WORKER="direct", expires=60)
    assert queue.enqueue("a.b").via == "direct"
    live_worker(storage)
    assert queue.enqueue("a.b").via == "storage"
    clock.advance(30.1)
    assert queue.enqueue("a.b").via == "direct"
    assert len(recorder.calls) == 2 and 0 < recorder.contexts[0].time_left() <= 60
    assert queue.outage.since is None


def test_without_a_deadline_it_waits_for_a_worker(new_queue: NewQueue, storage: Cable) -> None:
    assert new_queue(storage, WITHOUT_WORKER="direct").enqueue("a.b").via == "storage"


def test_unless_it_is_asked_for_a_job_waits_for_a_worker(new_queue: NewQueue, storage: Cable) -> None:
    assert new_queue(storage, expires=60).enqueue("a.b").via == "storage"


# -- observers -------------------------------------------------------------------------------------------------------


def test_an_observer_that_fails_does_not_fail_the_call(
    new_queue: NewQueue, storage: Cable, broken_plugins: None, caplog: pytest.LogCaptureFixture
) -> None:
    queue = new_queue(storage)
    queue.plugins = Plugins(["broken.observer"])
    assert queue.enqueue("a.b").state is State.QUEUED
    assert "plugin broken.observer failed in job_enqueued" in caplog.text


def test_the_log_tells_the_story_without_an_argument(
    new_queue: NewQueue, storage: Cable, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    queue = new_queue(storage, label=lambda to, text: to)
    first = queue.enqueue("a.b", ["alice@example.com", "739105"], key="alice@example.com")
    queue.enqueue("a.b", ["alice@example.com", "739105"], key="alice@example.com")
    assert f"job a.b {first.id}: new -> queued" in caplog.text
    assert f"job a.b {first.id}: -> cancelled (superseded by" in caplog.text
    assert "alice" not in caplog.text and "739105" not in caplog.text


# -- what is too large -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["immediate", "queued"])
def test_a_call_that_is_too_large_is_refused_before_anything_is_sent(
    new_queue: NewQueue, storage: Cable, spool: Cable, recorder: Recorder, mode: str
) -> None:
    queue = new_queue(storage, spool, MAX_SIZE=2000, IMMEDIATE=mode == "immediate")
    queue.enqueue("a.b", ["x" * 1900])
    sent = len(storage.taken)
    with pytest.raises(EncodeError, match=r"expected at most 2000 bytes \(PI_JOB_QUEUE_MAX_SIZE\), found 2"):
        queue.enqueue("a.b", ["x" * 2000])
    assert len(storage.taken) == sent and spool.taken == []
    assert len(recorder.calls) == (mode == "immediate")


def test_what_the_storage_refuses_is_no_outage(new_queue: NewQueue, storage: Cable, spool: Cable) -> None:
    storage.error = InstanceRefused("too large")
    queue = new_queue(storage, spool)
    assert queue.enqueue("a.b").via == "direct"
    assert queue.outage.since is None and spool.taken == []
    with pytest.raises(InstanceRefused, match="too large"):
        new_queue(storage, spool, FALLBACK=("spool",)).enqueue("a.b")


def test_a_call_that_a_host_refused_leaves_a_dead_letter_without_its_arguments(
    storage: Cable, new_queue: NewQueue
) -> None:
    queue = new_queue(storage)
    queue.record_refusal("a.b", {"to": "somebody@example.com"}, ValueError("no address: somebody@example.com"))
    (record,) = storage.page(State.DEAD).records
    assert (record.name, record.error) == ("a.b", "ValueError")
    assert record.reason == "refused at enqueue: ValueError: no address: s***@example.com"
    with pytest.raises(StateConflict):
        queue.retry(record.id)


def test_a_label_of_any_length_and_with_any_letter_is_kept_within_bounds(new_queue: NewQueue, storage: Cable) -> None:
    queue = new_queue(storage, label=lambda to: to)
    handle = queue.enqueue("a.b", ["\0\n\x1b" + "x" * 100_000])
    label = storage.get(handle.id).label
    assert label is not None and label.startswith("???x") and len(label) == LABEL_LENGTH
