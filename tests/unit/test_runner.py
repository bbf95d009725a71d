"""How an attempt ends: a table for the decision, and real attempts on a storage."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import smtplib
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any

import msgspec
import pytest

from pijobs import DestinationDown, FailJob, Job, JobContext, RetryJob, RetryPolicy, Settings, State
from pijobs.base import functions
from pijobs.errors import DeadlinePassed, LeaseLost, UnknownHere
from pijobs.execution.ends import HELD_LONGEST, HELD_WAIT
from pijobs.execution.runner import Runner
from pijobs.execution.verdict import LEAST_WAIT, decide
from pijobs.payload.codec import VERSION, Call, Codec
from pijobs.payload.keys import KeyRing
from pijobs.plugins.registry import Registry
from pijobs.storage.memory import MemoryStorage
from pijobs.storage.records import Record
from pijobs.storage.sessions import SessionInfo
from pijobs.storage.values import End, Lease, NewInstance
from pijobs.testing.clock import ManualClock

INF = float("inf")
POLICY = RetryPolicy(max_attempts=3, delay=10, backoff=2, jitter=0, permanent=(LookupError,))
STRICT = RetryPolicy(max_attempts=3, delay=10, jitter=0, retry_on=(OSError,))

# -- the decision ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "error", "attempt", "time_left", "state", "counted", "wait"),
    [
        (POLICY, OSError(), 1, INF, State.SCHEDULED, True, 10),
        (POLICY, OSError(), 2, INF, State.SCHEDULED, True, 20),
        (POLICY, OSError(), 3, INF, State.DEAD, True, None),
        (POLICY, OSError(), 1, 10.1, State.SCHEDULED, True, 10),
        (POLICY, OSError(), 1, 10.0, State.EXPIRED, True, None),
        (POLICY, OSError(), 3, 1.0, State.DEAD, True, None),
        (POLICY, KeyError(), 1, INF, State.DEAD, True, None),
        (POLICY, SystemExit(1), 1, INF, State.SCHEDULED, True, 10),
        (POLICY, GeneratorExit(), 1, INF, State.SCHEDULED, True, 10),
        (STRICT, ConnectionError(), 1, INF, State.SCHEDULED, True, 10),
        (STRICT, ValueError(), 1, INF, State.DEAD, True, None),
        (STRICT, SystemExit(), 1, INF, State.DEAD, True, None),
        (POLICY, FailJob(), 1, INF, State.DEAD, True, None),
        (POLICY, RetryJob(), 1, INF, State.SCHEDULED, True, 10),
        (STRICT, RetryJob(), 1, INF, State.SCHEDULED, True, 10),
        (POLICY, RetryJob(delay=3), 1, INF, State.SCHEDULED, True, 3),
        (POLICY, RetryJob(delay=0), 1, INF, State.SCHEDULED, True, 0),
        (POLICY, RetryJob(delay=-5), 1, INF, State.SCHEDULED, True, 0),
        (POLICY, RetryJob(delay=3), 3, INF, State.DEAD, True, None),
        (POLICY, RetryJob(delay=60), 1, 30, State.EXPIRED, True, None),
        (POLICY, DestinationDown(), 1, INF, State.SCHEDULED, False, 10),
        (STRICT, DestinationDown(), 99, INF, State.SCHEDULED, False, STRICT.max_delay),
        (RetryPolicy(delay=0), DestinationDown(), 1, INF, State.SCHEDULED, False, LEAST_WAIT),
        (POLICY, DestinationDown(retry_after=90), 3, INF, State.SCHEDULED, False, 90),
        (POLICY, DestinationDown(retry_after=-1), 1, INF, State.SCHEDULED, False, LEAST_WAIT),
        (POLICY, DestinationDown(retry_after=90), 1, 60, State.EXPIRED, False, None),
        (POLICY, DestinationDown(retry_after=90, counted=True), 1, INF, State.SCHEDULED, True, 90),
        (POLICY, DestinationDown(counted=True), 3, INF, State.DEAD, True, None),
        (POLICY, DeadlinePassed(), 1, 0, State.EXPIRED, True, None),
        (POLICY, DeadlinePassed(), 3, INF, State.EXPIRED, True, None),
        (POLICY, LeaseLost(), 3, INF, State.QUEUED, False, LEAST_WAIT),
    ],
)
def test_what_a_failed_attempt_leads_to(
    policy: RetryPolicy,
    error: BaseException,
    attempt: int,
    time_left: float,
    state: State,
    counted: bool,
    wait: float | None,
) -> None:
    verdict = decide(Job("a.b", print, retry=policy), error, attempt, time_left)
    assert (verdict.state, verdict.counted, verdict.wait) == (state, counted, wait)
    assert verdict.reason and verdict.error in (type(error).__name__, None)


def test_the_reason_tells_how_many_attempts_there_were() -> None:
    verdict = decide(Job("a.b", print, retry=POLICY), OSError("refused"), 3, INF)
    assert verdict.reason == "all 3 attempts used up; last: OSError: refused"


@pytest.mark.parametrize(
    ("error", "known"),
    [
        (smtplib.SMTPRecipientsRefused({"alice@example.com": (550, b"no such user alice@example.com")}), []),
        (smtplib.SMTPSenderRefused(550, b"denied", "alice@example.com"), []),
        (smtplib.SMTPDataError(554, b"spam: Dear alice, the code is 739105"), ["Dear alice, the code is 739105"]),
        (smtplib.SMTPAuthenticationError(535, b"bad password s3cr3t for alice"), ["s3cr3t", "alice"]),
        (ValueError("Dear alice,\nthe code"), ["Dear alice,\nthe code"]),
        (KeyError("Dear alice,\nthe code"), ["Dear alice,\nthe code"]),
    ],
)
def test_the_reason_holds_neither_argument_nor_address(error: Exception, known: list[str]) -> None:
    reason = decide(Job("a.b", print), error, 1, INF, known).reason
    assert reason is not None
    assert not any(word in reason for word in ("alice", "739105", "s3cr3t", "the code"))


# -- attempts --------------------------------------------------------------------------------------------------------


class Site:
    """One job, one worker, one storage."""

    def __init__(self, memory: MemoryStorage, clock: ManualClock, settings: Settings) -> None:
        self.memory, self.clock, self.settings = memory, clock, settings
        self.codec = Codec(KeyRing.of(settings))
        self.app_context: Callable[[], AbstractContextManager[Any]] = nullcontext
        memory.open_session(SessionInfo("s", "host", 1, memory.now(), "1"), lease=10**9)

    def enqueue(self, *args: Any, expires: float | None = None, name: str = "a.b", **kwargs: Any) -> None:
        now = self.memory.now()
        deadline = None if expires is None else now + round(expires * 1000)
        envelope, body = self.codec.encode(id="1", name=name, call=Call(args, kwargs), created=now, deadline=deadline)
        self.memory.enqueue(NewInstance("1", name, envelope, body, name, created=now, deadline=deadline), timeout=1)

    def lease(self) -> Lease:
        (lease,) = self.memory.step("s", [], want=1).leases
        return lease

    def attempt(self, function: Callable[..., Any], **options: Any) -> End:
        """One attempt, written down in the storage."""
        lease = self.lease()
        registry = Registry.of([Job("a.b", function, **{"retry": POLICY, **options})])
        runner = Runner(registry, lambda: self.codec, self.settings, self.app_context)
        call = runner.decode(lease, self.memory.now())
        assert isinstance(call, Call)
        end = runner.attempt(self.memory, lease, call).end
        assert self.memory.step("s", [end], want=0).lost == []
        return end

    @property
    def record(self) -> Record:
        return self.memory.get("1")

    @property
    def entry(self) -> dict[str, Any]:
        """The last line of the history."""
        entry: dict[str, Any] = json.loads(self.record.history[-1])
        return entry


@pytest.fixture
def site(memory: MemoryStorage, clock: ManualClock, core_settings: Settings) -> Site:
    return Site(memory, clock, core_settings)


def raising(error: BaseException) -> Callable[..., None]:
    def function(*args: Any, **kwargs: Any) -> None:
        raise error

    return function


def test_a_function_that_returns_is_done(site: Site) -> None:
    got: list[Any] = []
    site.enqueue(1, two=(2,))
    site.attempt(lambda *args, **kwargs: got.append((args, kwargs)))
    assert got == [((1,), {"two": (2,)})]
    assert site.record.state is State.DONE and site.record.attempts == 1 and not site.record.has_body
    assert site.entry["outcome"] == "done" and site.entry["attempt"] == 1


def test_the_context_tells_the_instance_and_the_attempt(site: Site) -> None:
    seen: list[Any] = []

    def function(ctx: JobContext) -> None:
        seen.append((ctx.id, ctx.name, ctx.attempt, ctx.deadline, ctx.time_left(), ctx.settings))
        raise RetryJob(delay=0)

    site.enqueue(expires=60)
    start = site.clock.time()
    site.attempt(function)
    site.clock.advance(20)
    site.attempt(function)
    assert seen == [
        ("1", "a.b", 1, start + 60, 60, site.settings),
        ("1", "a.b", 2, start + 60, 40, site.settings),
    ]


def test_a_failure_is_scheduled_again(site: Site) -> None:
    site.enqueue()
    site.attempt(raising(OSError("away")))
    record = site.record
    assert (record.state, record.attempts, record.error, record.reason) == (
        State.SCHEDULED, 1, "OSError", "OSError: away",
    )  # fmt: skip
    assert record.due == site.memory.now() + 10_000 and record.has_body


def test_after_the_last_attempt_it_is_dead_with_one_line_per_attempt(site: Site) -> None:
    site.enqueue()
    for _ in range(3):
        site.attempt(raising(OSError("away")))
        site.clock.advance(100)
    assert site.record.state is State.DEAD and site.record.attempts == 3
    assert [json.loads(line)["attempt"] for line in site.record.history] == [1, 2, 3]


def test_retry_with_other_arguments_replaces_only_those(site: Site) -> None:
    got: list[Any] = []

    def function(first: int, *, rest: list[str], note: str) -> None:
        got.append((first, rest, note))
        if len(rest) > 1:
            raise RetryJob(delay=1, kwargs={"rest": rest[1:]})

    site.enqueue(7, rest=["a", "b", "c"], note="kept")
    for _ in range(3):
        site.attempt(function)
        site.clock.advance(1)
    assert got == [(7, ["a", "b", "c"], "kept"), (7, ["b", "c"], "kept"), (7, ["c"], "kept")]
    assert site.record.state is State.DONE


def test_retry_with_other_arguments_replaces_those_given_by_position(site: Site) -> None:
    got: list[Any] = []

    def function(ctx: JobContext, first: int, second: str, *more: int) -> None:
        got.append((first, second, more))
        if first < 3:
            raise RetryJob(delay=0, kwargs={"first": first + 1})

    site.enqueue(1, "kept", 8, 9)
    for _ in range(3):
        site.attempt(function)
    assert got == [(1, "kept", (8, 9)), (2, "kept", (8, 9)), (3, "kept", (8, 9))]
    assert site.record.state is State.DONE


def test_retry_with_an_argument_that_the_job_does_not_have_is_dead_and_names_it(site: Site) -> None:
    def function(first: int) -> None:
        raise RetryJob(kwargs={"frist": 2})

    site.enqueue(1)
    end = site.attempt(function)
    assert end.state is State.DEAD and "frist" in (site.record.reason or "")


def test_retry_with_arguments_that_can_not_be_stored_is_dead_and_says_where(site: Site) -> None:
    site.enqueue()
    end = site.attempt(raising(RetryJob(kwargs={"rest": [object()]})))
    assert end.state is State.DEAD and end.body is None
    assert site.record.error == "EncodeError" and "rest[0]" in (site.record.reason or "")


def test_the_arguments_of_a_retry_that_is_dead_are_not_stored(site: Site) -> None:
    site.enqueue()
    end = site.attempt(raising(RetryJob(kwargs={"x": 1})), retry=RetryPolicy(max_attempts=1))
    assert end.state is State.DEAD and end.body is None


def test_a_destination_that_is_down_does_not_count(site: Site) -> None:
    site.enqueue()
    for _ in range(10):
        site.attempt(raising(DestinationDown("421 come back later", retry_after=30)))
        assert site.record.due == site.memory.now() + 30_000
        site.clock.advance(30)
    assert site.record.state is State.SCHEDULED and site.record.attempts == 0


def test_without_a_group_a_destination_that_stays_down_is_asked_ever_less_often() -> None:
    def waits(job: Job) -> list[float | None]:
        return [decide(job, DestinationDown("away"), 1, INF, held=held).wait for held in (0, 100, 1e6)]

    assert waits(Job("a.b", print, retry=POLICY)) == [10, 25, POLICY.max_delay]
    assert waits(Job("a.b", print, retry=POLICY, group=lambda: "paced by its breaker")) == [10, 10, 10]


def test_a_short_time_that_is_named_again_and_again_grows_where_no_breaker_paces_it() -> None:
    error = DestinationDown("busy", retry_after=1)

    def waits(job: Job) -> list[float | None]:
        return [decide(job, error, 1, INF, held=held).wait for held in (0, 2, 100, 1e6)]

    assert waits(Job("a.b", print, retry=POLICY)) == [1, 1, 25, 30]
    assert waits(Job("a.b", print, retry=POLICY, group=lambda *_: "g")) == [1, 1, 1, 1]


def test_no_attempt_is_planned_beyond_the_deadline(site: Site) -> None:
    site.enqueue(expires=10)
    site.attempt(raising(OSError("away")))
    assert site.record.state is State.EXPIRED and not site.record.has_body
    assert site.record.reason == "the next attempt would begin after the deadline; last: OSError: away"


def test_a_job_that_finds_its_deadline_passed_expires(site: Site) -> None:
    def function(ctx: JobContext) -> None:
        site.clock.advance(61)
        ctx.check()
        pytest.fail("the effect happened")

    site.enqueue(expires=60)
    site.attempt(function)
    assert site.record.state is State.EXPIRED


def test_a_lease_taken_before_the_deadline_and_begun_after_it_has_no_effect(site: Site) -> None:
    called: list[int] = []
    site.enqueue(expires=60)
    lease = site.lease()
    site.clock.advance(60)
    runner = Runner(Registry.of([Job("a.b", lambda: called.append(1))]), lambda: site.codec, site.settings, nullcontext)
    assert runner.attempt(site.memory, lease, Call((), {})).end.state is State.EXPIRED
    assert called == []


def test_a_job_that_finds_its_lease_lost_goes_back_uncounted_without_its_effect(site: Site) -> None:
    held = [True, True, False]

    def function(ctx: JobContext) -> None:
        ctx.check()
        ctx.check_deadline()  # the name in 0.1
        pytest.fail("the effect happened")

    site.enqueue(expires=60)
    lease = site.lease()
    registry = Registry.of([Job("a.b", function)])
    runner = Runner(registry, lambda: site.codec, site.settings, nullcontext)
    end = runner.attempt(site.memory, lease, Call((), {}), holds=lambda: held.pop(0)).end
    assert (end.state, end.counted) == (State.QUEUED, False) and held == []


@pytest.mark.parametrize("error", [SystemExit(3), GeneratorExit(), BaseException("odd")])
def test_whatever_a_job_raises_is_a_failed_attempt(site: Site, error: BaseException) -> None:
    site.enqueue()
    site.attempt(raising(error))
    assert site.record.state is State.SCHEDULED and site.record.error == type(error).__name__


def test_an_interruption_of_the_process_reaches_the_worker(site: Site) -> None:
    site.enqueue()
    with pytest.raises(KeyboardInterrupt):
        site.attempt(raising(KeyboardInterrupt()))
    assert site.record.state is State.RUNNING


def test_an_error_that_can_not_be_written_is_a_failed_attempt(site: Site) -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    site.enqueue()
    site.attempt(raising(Broken()))
    assert site.record.reason == "Broken"


def test_a_retry_with_a_delay_that_is_no_number_is_a_failed_attempt(site: Site) -> None:
    def function() -> None:
        wrong: Any = "5 minutes"
        raise RetryJob(delay=wrong)

    site.enqueue()
    site.attempt(function)
    assert site.record.state is State.SCHEDULED and site.record.error == "TypeError"


# -- nothing behind the function may raise ---------------------------------------------------------------------------


class Odd(Exception):
    """Of an old library: its first argument is no text."""

    def __str__(self) -> str:
        return self.args[0]  # type: ignore[no-any-return]


class Rude(Exception):
    def __str__(self) -> str:
        raise SystemExit(1)


class Stubborn(RetryPolicy):
    def wait_after(self, attempt: int, **_: Any) -> float:
        raise ZeroDivisionError


LONE = "X-Caf\udce9"


def note_of_a_thread(ctx: JobContext) -> None:
    stop = threading.Event()

    def more() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            ctx.note(**{f"k{number % 5000}": number})

    threading.Thread(target=more, daemon=True).start()
    threading.Timer(0.3, stop.set).start()
    time.sleep(0.05)


def spoiled(error: Any, **values: Any) -> BaseException:
    for name, value in values.items():
        setattr(error, name, value)
    return error  # type: ignore[no-any-return]


def noting(**facts: Any) -> Callable[[JobContext], None]:
    def function(ctx: JobContext) -> None:
        ctx.note(**facts)

    return function


@pytest.mark.parametrize(
    ("function", "state"),
    [
        (raising(RetryJob(Odd({"code": 421}))), State.SCHEDULED),  # type: ignore[arg-type]
        (raising(FailJob(Odd({"code": 421}))), State.DEAD),  # type: ignore[arg-type]
        (raising(DestinationDown(Odd({"code": 421}), counted=True)), State.SCHEDULED),  # type: ignore[arg-type]
        (raising(Odd({"code": 421})), State.SCHEDULED),
        (raising(Rude()), State.SCHEDULED),
        (raising(RetryJob(Rude())), State.SCHEDULED),  # type: ignore[arg-type]
        (raising(spoiled(RetryJob(), delay="soon")), State.SCHEDULED),
        (raising(spoiled(RetryJob(), kwargs=[1])), State.SCHEDULED),
        (raising(RetryJob(kwargs={1: 2})), State.DEAD),  # type: ignore[dict-item]
        (raising(type("Fehler\x1b[2J" * 50, (Exception,), {})("x")), State.SCHEDULED),
        (noting(**{LONE: "1"}), State.DONE),
        (noting(x=LONE), State.DONE),
        (noting(x=Odd({"code": 421})), State.DONE),
        (noting(**{f"k{number}": "x" * 10_000 for number in range(5000)}), State.DONE),
        (note_of_a_thread, State.DONE),
    ],
)
def test_an_attempt_ends_counted_whatever_is_to_be_told_of_it(
    site: Site, function: Callable[..., Any], state: State
) -> None:
    site.enqueue()
    end = site.attempt(function)
    assert (site.record.state, site.record.attempts) == (state, 1)
    assert state is not State.SCHEDULED or site.record.due >= site.memory.now() + 1000
    for text in (end.reason, end.error, end.entry):
        (text or "").encode()
    assert len(end.entry or "") < 40_000


def test_a_policy_that_fails_is_a_counted_failure_and_comes_to_an_end(site: Site) -> None:
    site.enqueue()
    for _ in range(3):
        site.attempt(raising(OSError("away")), retry=Stubborn(max_attempts=3))
        site.clock.advance(60)
    assert (site.record.state, site.record.attempts) == (State.DEAD, 3)
    assert "the end of the attempt failed (ZeroDivisionError)" in json.loads(site.record.history[0])["reason"]


# -- what has not run is not done ------------------------------------------------------------------------------------


async def later() -> int:
    await asyncio.sleep(0)
    return 7


def test_a_coroutine_function_runs_in_the_loop_of_its_thread(site: Site) -> None:
    loops: list[Any] = []

    async def function(ctx: JobContext, value: int) -> None:
        assert await later() == 7
        loops.append((asyncio.get_running_loop(), ctx.attempt, value))
        raise RetryJob(delay=0)

    site.enqueue(5)
    site.attempt(function)
    site.attempt(functools.partial(function))
    assert [entry[1:] for entry in loops] == [(1, 5), (2, 5)] and loops[0][0] is loops[1][0]
    assert site.record.attempts == 2


def test_tasks_that_a_coroutine_leaves_behind_are_cancelled(site: Site) -> None:
    ends: list[str] = []

    async def rest() -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise

    async def function() -> None:
        ends.append("begun")
        site.task = asyncio.create_task(rest())  # type: ignore[attr-defined]
        await asyncio.sleep(0)

    site.enqueue()
    site.attempt(function)
    assert ends == ["begun", "cancelled"] and site.record.state is State.DONE


def test_a_task_that_can_not_be_cancelled_does_not_keep_the_thread(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functions, "CANCEL_TIME", 0.05)
    tasks: list[asyncio.Task[None]] = []
    ends = time.monotonic() + 20

    async def stubborn() -> None:
        while time.monotonic() < ends:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)

    async def function() -> None:
        tasks.append(asyncio.create_task(stubborn()))
        await asyncio.sleep(0)

    site.enqueue()
    site.attempt(function)
    assert site.record.state is State.DONE
    functions.run(function, (), {}, coroutine=True)  # in the same thread
    assert [task.done() for task in tasks] == [False, False]


def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def inner(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return inner


def test_a_coroutine_function_runs_behind_a_decorator_and_as_an_object(site: Site) -> None:
    ran: list[int] = []

    async def function(value: int) -> None:
        ran.append(value)
        raise RetryJob(delay=0)

    class Callee:
        async def __call__(self, value: int) -> None:
            ran.append(value)

    site.enqueue(5)
    site.attempt(wrapped(functools.partial(function)))
    site.attempt(Callee())
    assert ran == [5, 5] and site.record.state is State.DONE


def numbers() -> Iterator[int]:
    yield 1


async def more_numbers() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    "function",
    [
        lambda: later(),
        lambda: numbers(),
        lambda: more_numbers(),
        lambda: (n for n in [1]),
        lambda: wrapped(later)(),
        lambda: map(print, [1]),
        lambda: [later(), later()],
        lambda: (numbers(),),
        lambda: Future(),
    ],
)
def test_a_function_that_returns_what_has_yet_to_run_has_failed(site: Site, function: Callable[..., Any]) -> None:
    site.enqueue()
    site.attempt(function)
    assert (site.record.state, site.record.attempts) == (State.DEAD, 1)
    assert "nobody runs" in (site.record.reason or "")


# -- where it failed -------------------------------------------------------------------------------------------------


def deep(secret: str) -> None:
    try:
        raise ConnectionError(secret)
    except ConnectionError as error:
        raise ValueError(secret) from error


def test_the_history_tells_where_an_attempt_failed_and_nothing_else(site: Site) -> None:
    site.enqueue("hush-hush")
    site.attempt(lambda secret: deep(secret))
    frames = site.entry["frames"]
    assert [frame.rpartition(" in ")[2] for frame in frames] == [
        "<lambda>",
        "deep",
        "caused by ConnectionError",
        "deep",
    ]
    assert all(frame.startswith(f"{__file__}:") for frame in frames if not frame.startswith("caused"))
    assert_no_secret(written(site))


def test_a_deep_recursion_leaves_a_short_traceback_that_begins_with_the_job(site: Site) -> None:
    def function() -> None:
        function()

    def the_job() -> None:
        function()

    site.enqueue()
    site.attempt(the_job)
    assert site.record.error == "RecursionError" and len(site.entry["frames"]) <= 12
    assert site.entry["frames"][0].endswith(" in the_job")


# -- the app context -------------------------------------------------------------------------------------------------


@pytest.fixture
def contexts(site: Site) -> list[str]:
    """What happens to the context of the app."""
    seen: list[str] = []

    @contextmanager
    def app_context() -> Iterator[None]:
        seen.append("pushed")
        try:
            yield
        finally:
            seen.append("popped")

    site.app_context = app_context
    return seen


@pytest.mark.parametrize("error", [None, OSError(), SystemExit(), KeyboardInterrupt()])
def test_the_context_is_pushed_and_popped_however_the_job_ends(
    site: Site, contexts: list[str], error: BaseException | None
) -> None:
    def function() -> None:
        contexts.append("runs")
        if error is not None:
            raise error

    site.enqueue()
    try:
        site.attempt(function)
    except KeyboardInterrupt:
        assert isinstance(error, KeyboardInterrupt)
    assert contexts == ["pushed", "runs", "popped"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_context_that_fails_is_a_failed_attempt(site: Site, when: str) -> None:
    @contextmanager
    def app_context() -> Iterator[None]:
        if when == "before":
            raise OSError("no database")
        yield
        raise OSError("no database")

    site.app_context = app_context
    site.enqueue()
    site.attempt(lambda: None)
    assert site.record.state is State.SCHEDULED and site.record.reason == "OSError: no database"


# -- what is written down --------------------------------------------------------------------------------------------

SECRETS: dict[str, Any] = {
    "to": "alice@example.com",
    "text": "Dear Alice,\nyour code is 739105",
    "pin": 4711,
    "token": "hush-hush",
}


def written(site: Site) -> str:
    return f"{site.record.reason} {site.record.error} {site.record.history}"


def assert_no_secret(text: str) -> None:
    for secret in ("alice@", "Alice", "739105", "4711", "hush-hush", "your code"):
        assert secret not in text, text


@pytest.mark.parametrize(
    "message",
    [
        "cannot send {text}",
        "cannot send {text!r} to {to}",
        "got {token} and {pin}",
        "parameters: {args}",
        "at line 'your code is 739105'",
    ],
)
def test_the_reason_of_an_attempt_holds_no_argument(site: Site, message: str) -> None:
    def function(**kwargs: Any) -> None:
        raise ValueError(message.format(args=kwargs, **kwargs))

    site.enqueue(**SECRETS)
    site.attempt(function)
    assert "ValueError" in written(site)
    assert_no_secret(written(site))


def test_notes_are_kept_after_redaction(site: Site) -> None:
    def function(ctx: JobContext, **kwargs: Any) -> None:
        ctx.note(reply="250 2.0.0 queued as 4XyZ", code=250)
        ctx.note(reply_to="{to} said {text!r} {pin} {token}".format(**kwargs))

    site.enqueue(**SECRETS)
    site.attempt(function)
    assert site.entry["notes"]["reply"] == "250 2.0.0 queued as 4XyZ" and site.entry["notes"]["code"] == "250"
    assert_no_secret(written(site))


def test_what_a_job_hides_is_told_nowhere(site: Site) -> None:
    def function(ctx: JobContext) -> None:
        ctx.hide("hunter2", None)
        ctx.note(reply="535 hunter2 is wrong")
        raise ValueError("the server refused hunter2")

    site.enqueue()
    site.attempt(function)
    assert site.entry["notes"]["reply"] == "535 *** is wrong"
    assert "refused" in written(site) and "hunter2" not in written(site)


def test_what_is_masked_in_one_note_is_masked_in_the_next(site: Site) -> None:
    def function(ctx: JobContext, **kwargs: Any) -> None:
        ctx.note(reply=f"250 queued as {kwargs['token']}", queue_id=kwargs["token"], id="250")

    site.enqueue(**SECRETS)
    site.attempt(function)
    assert site.entry["notes"] == {"reply": "250 queued as ***", "queue_id": "***", "id": "250"}


def test_notes_of_a_failed_attempt_are_kept(site: Site) -> None:
    def function(ctx: JobContext) -> None:
        ctx.note(reply="451 try later")
        raise OSError

    site.enqueue()
    site.attempt(function)
    assert site.entry["notes"] == {"reply": "451 try later"} and site.entry["outcome"] == "scheduled"


def test_a_note_that_can_not_be_written_does_not_end_the_attempt(site: Site) -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError

    def function(ctx: JobContext) -> None:
        ctx.note(broken=Broken())

    site.enqueue()
    site.attempt(function)
    assert site.record.state is State.DONE and site.entry["notes"] == {"broken": "a Broken"}


def test_what_a_job_logs_carries_the_instance_and_no_argument(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    def function(ctx: JobContext, **kwargs: Any) -> None:
        ctx.log.info("sending %(text)s to %(to)s", kwargs)
        ctx.log.warning("%s, %r: %d", kwargs["token"], kwargs["text"], kwargs["pin"])
        try:
            raise ValueError("cannot send {text!r}".format(**kwargs))
        except ValueError:
            ctx.log.exception("failed")
        ctx.log.info("not %d of a number", "x")
        ctx.log.debug("not shown")

    caplog.set_level(logging.INFO, "pijobs.job")
    site.enqueue(**SECRETS)
    site.attempt(function)
    lines = [record.getMessage() for record in caplog.records if record.name == "pijobs.job"]
    assert site.record.state is State.DONE and len(lines) == 4
    assert all(line.startswith("1 attempt 1: ") for line in lines)
    # Formatted by logging itself, not by our own formatter: PI_LOGCONFIG may choose any.
    assert_no_secret(caplog.text.split("raise ValueError")[-1] + "".join(lines))
    error = caplog.records[2].exc_info
    assert error and type(error[1]).__name__ == "ValueError" and error[2] is not None


# -- limits ----------------------------------------------------------------------------------------------------------


def test_a_job_counts_against_a_limit_of_its_own(site: Site) -> None:
    answers: list[float | None] = []

    def function(ctx: JobContext) -> None:
        answers.extend(ctx.count("gateway", 2, 60) for _ in range(2))
        site.clock.advance(20)
        answers.append(ctx.count("gateway", 2, 60))

    site.enqueue()
    site.attempt(function)
    assert answers == [None, None, 40.0]


# -- what can't be decoded -------------------------------------------------------------------------------------------


def runner(site: Site, *names: str, keys: tuple[str, ...] | None = None) -> Runner:
    codec = site.codec if keys is None else Codec(KeyRing(keys))
    registry = Registry.of([Job(name, lambda *args: None) for name in names])
    return Runner(registry, lambda: codec, site.settings, nullcontext)


def raising_upgrade(args: Any, kwargs: Any) -> Any:
    raise ValueError(kwargs["phone"])


def turn(site: Site, runner: Runner) -> Call | End:
    """Lease and decode; what is deferred is written down."""
    answer = runner.decode(site.lease(), site.memory.now())
    if isinstance(answer, End):
        site.memory.step("s", [answer], want=0)
    return answer


def test_an_unknown_job_is_held_back_and_runs_once_it_is_known(site: Site) -> None:
    site.enqueue("x", name="later.job")
    held = turn(site, runner(site, "a.b"))
    assert isinstance(held, End) and (held.state, held.counted) == (State.SCHEDULED, False)
    assert site.record.state is State.SCHEDULED and "later.job" in (site.record.reason or "")
    assert site.memory.step("s", [], want=1).leases == []
    site.clock.advance(HELD_WAIT)
    assert turn(site, runner(site, "later.job")) == Call(("x",), {})


def test_an_unknown_key_is_held_back_and_runs_once_it_is_there(site: Site) -> None:
    site.enqueue("x")
    held = turn(site, runner(site, "a.b", keys=("another",)))
    assert isinstance(held, End) and held.error == "DecodeError" and "unknown key" in (held.reason or "")
    site.clock.advance(HELD_WAIT)
    assert turn(site, runner(site, "a.b")) == Call(("x",), {})


def test_what_nobody_can_run_yet_waits_ever_longer_and_does_not_end(site: Site) -> None:
    site.enqueue(name="later.job")
    strange, waits = runner(site), []
    for _ in range(60):
        turn(site, strange)
        waits.append(site.record.due - site.memory.now())
        site.clock.advance(waits[-1] / 1000)
    assert site.record.state is State.SCHEDULED and site.record.attempts == 0 and site.record.has_body
    assert waits == sorted(waits) and waits[0] == HELD_WAIT * 1000 and waits[-1] == HELD_LONGEST * 1000
    assert sum(waits[:15]) < 60_000  # many tries within the time of an OTP
    assert len(site.record.history) == 1  # the first time only


def test_what_one_worker_does_not_know_waits_for_another_without_end(site: Site) -> None:
    def function() -> None:
        raise UnknownHere("it is not in this database")

    site.enqueue()
    for _ in range(50):
        site.attempt(function)
        assert (site.record.state, site.record.attempts) == (State.SCHEDULED, 0)
        assert site.memory.step("s", [], want=1).leases == []  # not before its wait is over
        site.clock.advance((site.record.due - site.memory.now()) / 1000)
    assert site.record.reason == "it is not in this database"
    (line,) = map(json.loads, site.record.history)
    assert (line["event"], line["error"]) == ("held", "UnknownHere")


def test_an_envelope_of_another_instance_is_damaged(site: Site) -> None:
    envelope, body = site.codec.encode(id="2", name="a.b", call=Call((), {}), created=0, deadline=None)
    site.memory.enqueue(NewInstance("1", "a.b", envelope, body, "a.b"), timeout=1)
    held = turn(site, runner(site, "a.b"))
    assert isinstance(held, End) and held.reason == "damaged: envelope and record differ"


@pytest.mark.parametrize(("envelope", "body"), [(b"", b""), (b"\xc1", b"x"), (b"\x96\x02", b""), (b"\x91\x01", b"")])
def test_what_is_damaged_is_parked_at_once(site: Site, envelope: bytes, body: bytes) -> None:
    site.memory.enqueue(NewInstance("1", "a.b", envelope, body, "a.b"), timeout=1)
    assert isinstance(turn(site, runner(site, "a.b")), End)
    assert site.record.state is State.DEAD and site.record.attempts == 0
    assert site.record.error == "Damaged" and "damaged" in (site.record.reason or "")


def test_a_version_that_is_not_known_here_is_held(site: Site) -> None:
    newer = msgspec.msgpack.encode([VERSION + 1, "key", "1", "a.b", 0, None, "more"])
    site.memory.enqueue(NewInstance("1", "a.b", newer, b"", "a.b"), timeout=1)
    turn(site, runner(site, "a.b"))
    assert site.record.state is State.SCHEDULED and f"version {VERSION + 1}" in (site.record.reason or "")


def test_a_call_of_another_signature_is_held_with_the_reason_and_not_counted(site: Site) -> None:
    def function(to: str, text: str) -> None: ...

    site.enqueue(phone="1", text="x")
    today = Runner(Registry.of([Job("a.b", function)]), lambda: site.codec, site.settings, nullcontext)
    held = turn(site, today)
    assert isinstance(held, End) and site.record.state is State.SCHEDULED and site.record.attempts == 0
    assert "missing a required argument: 'to'" in (site.record.reason or "")
    assert "Job(upgrade=…)" in (site.record.reason or "")


@pytest.mark.parametrize(("args", "kwargs"), [((), {"phone": "1", "text": "x"}), (("1", "x"), {}), (("1",), {})])
def test_old_arguments_are_turned_into_new_ones(site: Site, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    def function(*, to: list[str], text: str) -> None: ...

    def upgrade(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        phone, text, *_ = [*args, *kwargs.values(), "empty"]
        return (), {"to": [phone], "text": text}

    site.enqueue(*args, **kwargs)
    job = Job("a.b", function, upgrade=upgrade)
    call = turn(site, Runner(Registry.of([job]), lambda: site.codec, site.settings, nullcontext))
    assert isinstance(call, Call) and call.kwargs["to"] == ["1"] and call.kwargs["text"] in ("x", "empty")


def test_an_argument_of_another_type_is_upgraded_too(site: Site) -> None:
    def function(to: list[str]) -> None: ...

    site.enqueue(to="1")
    job = Job("a.b", function, upgrade=lambda args, kwargs: (args, {"to": [kwargs["to"]]}))
    call = turn(site, Runner(Registry.of([job]), lambda: site.codec, site.settings, nullcontext))
    assert isinstance(call, Call) and call.kwargs == {"to": ["1"]}


@pytest.mark.parametrize("upgrade", [lambda args, kwargs: None, lambda args, kwargs: (args, kwargs), raising_upgrade])
def test_an_upgrade_that_does_not_help_holds_the_instance(site: Site, upgrade: Any) -> None:
    def function(to: str) -> None: ...

    site.enqueue(phone="alice@example.com")
    job = Job("a.b", function, upgrade=upgrade)
    turn(site, Runner(Registry.of([job]), lambda: site.codec, site.settings, nullcontext))
    assert site.record.state is State.SCHEDULED and site.record.attempts == 0
    assert_no_secret(written(site))
