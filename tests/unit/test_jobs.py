"""A job tells its faults when it is made, all at once."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from pijobs import FailJob, Job, JobContext, Limits, RetryPolicy, Settings
from pijobs.errors import DeadlinePassed, DestinationDown, RetryJob


def test_the_defaults_make_a_valid_job() -> None:
    job = Job("sms.send", print)
    assert (job.priority, job.expires, job.retry.max_attempts) == (0, None, 5)


@pytest.mark.parametrize("name", ["a.b", "sms.send", "a1._x.y_2"])
def test_valid_names(name: str) -> None:
    assert Job(name, print).name == name


@pytest.mark.parametrize("name", ["", "send", "Sms.send", "sms.", ".send", "sms..send", "sms.send\n", "sms-x.y", 7])
def test_an_invalid_name_is_refused(name: Any) -> None:
    with pytest.raises(ValueError, match=r"name must look like 'sms\.send'"):
        Job(name, print)


@pytest.mark.parametrize(
    ("option", "value", "fault"),
    [
        ("priority", 1001, "priority must be an integer from -1000 to 1000, got 1001"),
        ("priority", -1001, "priority"),
        ("priority", 1.0, "priority"),
        ("priority", True, "priority"),
        ("expires", 0, "expires must be a number of seconds > 0 or None, got 0"),
        ("expires", "60", "expires"),
        ("expires", float("nan"), "expires"),
        ("expires", float("inf"), "expires"),
        ("timeout", -1, "timeout"),
        ("keep", True, "keep"),
        ("group", "main", "group must be a function or None, got str"),
        ("schedule", "* * * * *", "schedule"),
        ("missed", "twice", "missed must be 'once' or 'skip'"),
        ("timezone", "Europe/Atlantis", "timezone must be an IANA name"),
        ("timezone", "../etc/passwd", "timezone"),
        ("retry", 3, "retry must be a RetryPolicy, got int"),
        ("limits", Limits(rate=1), "limits need a group"),
    ],
)
def test_an_impossible_option_is_refused(option: str, value: Any, fault: str) -> None:
    with pytest.raises(ValueError) as caught:
        Job("a.b", print, **{option: value})
    assert str(caught.value).startswith("job 'a.b': ") and fault in str(caught.value)


def test_all_faults_are_told_at_once() -> None:
    wrong: dict[str, Any] = {"priority": 5000, "expires": 0}
    with pytest.raises(ValueError, match=r"name must .*; function must .*; priority must .*; expires must"):
        Job("X", None, **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_attempts": 0},
        {"max_attempts": 2.5},
        {"delay": -1},
        {"delay": float("inf")},
        {"backoff": 0.5},
        {"max_delay": "5"},
        {"jitter": 1.5},
        {"permanent": ValueError},
        {"permanent": ("ValueError",)},
        {"retry_on": [ValueError]},
    ],
)
def test_an_impossible_retry_policy_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        RetryPolicy(**wrong)


def test_the_wait_grows_up_to_its_bound() -> None:
    policy = RetryPolicy(delay=2, backoff=3, max_delay=50, jitter=0)
    assert [policy.wait_after(attempt) for attempt in (1, 2, 3, 4, 100_000)] == [2, 6, 18, 50, 50]


def test_jitter_spreads_the_wait_by_its_fraction() -> None:
    policy = RetryPolicy(delay=10, jitter=0.2)
    assert policy.wait_after(1, spread=lambda low, high: low) == pytest.approx(8)
    assert policy.wait_after(1, spread=lambda low, high: high) == pytest.approx(12)
    assert len({policy.wait_after(1) for _ in range(20)}) > 1


@pytest.mark.parametrize(
    ("policy", "error", "permanent"),
    [
        (RetryPolicy(), OSError(), False),
        (RetryPolicy(), FailJob("no"), True),
        (RetryPolicy(permanent=(LookupError,)), KeyError(), True),
        (RetryPolicy(permanent=(LookupError,)), OSError(), False),
        (RetryPolicy(retry_on=(OSError,)), ConnectionError(), False),
        (RetryPolicy(retry_on=(OSError,)), ValueError(), True),
        (RetryPolicy(retry_on=()), OSError(), True),
    ],
)
def test_what_is_worth_another_attempt(policy: RetryPolicy, error: Exception, permanent: bool) -> None:
    assert policy.is_permanent(error) is permanent


@pytest.mark.parametrize("wrong", [{"rate": 0}, {"concurrency": 1.5}, {"per": 0}, {"concurrency": True}])
def test_impossible_limits_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Limits(**wrong)


@pytest.mark.parametrize("wrong", ["5", float("nan"), float("inf"), [1]])
def test_the_end_of_an_attempt_takes_seconds_only(wrong: Any) -> None:
    with pytest.raises(TypeError, match="delay: expected a number of seconds"):
        RetryJob(delay=wrong)
    with pytest.raises(TypeError, match="retry_after: expected a number of seconds"):
        DestinationDown(retry_after=wrong)


def test_an_error_without_a_message_says_its_docstring() -> None:
    assert str(DeadlinePassed()) == "the deadline of the job has passed"


def context(settings: Settings, deadline: float | None, now: float) -> JobContext:
    return JobContext(
        id="1", name="a.b", attempt=1, deadline=deadline, settings=settings, now=lambda: now,
        count=lambda key, limit, per: 1.5, log=logging.LoggerAdapter(logging.getLogger(), {}),
    )  # fmt: skip


def test_a_job_without_deadline_has_all_the_time(core_settings: Settings) -> None:
    ctx = context(core_settings, None, 1e9)
    ctx.check()
    assert ctx.time_left() == float("inf")


def test_the_deadline_itself_is_too_late(core_settings: Settings) -> None:
    context(core_settings, 100.0, 99.999).check()
    with pytest.raises(DeadlinePassed):
        context(core_settings, 100.0, 100.0).check()
    assert context(core_settings, 100.0, 107.0).time_left() == 0
    assert context(core_settings, 100.0, 97.5).time_left() == 2.5


def test_the_context_counts_over_all_workers(core_settings: Settings) -> None:
    assert context(core_settings, None, 0).count("gateway", 5, 60) == 1.5
