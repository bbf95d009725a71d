"""Jobs by name, and what their functions want."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pytest

import pijobs
from pijobs import Job, JobContext, RetryPolicy
from pijobs.errors import EncodeError, UnknownJob
from pijobs.plugins.registration import takes_context
from pijobs.plugins.registry import Registry, override

if TYPE_CHECKING:
    from pijobs import JobContext as Context


def by_annotation(ctx: JobContext, text: str) -> None: ...


def by_text(ctx: "JobContext") -> None: ...  # noqa: UP037


def by_dotted_text(ctx: pijobs.JobContext) -> None: ...


def beside_unknown_names(ctx: JobContext, other: Context) -> None: ...


def without(text: str, ctx: JobContext | None = None) -> None: ...


def unannotated(ctx, text):  # type: ignore[no-untyped-def]
    ...


def nothing() -> None: ...


def anything(*args: Any, **kwargs: Any) -> None: ...


class Sender:
    def __call__(self, ctx: JobContext) -> None: ...

    def method(self, ctx: JobContext, text: str) -> None: ...


@functools.wraps(by_annotation)
def wrapped(*args: Any, **kwargs: Any) -> None: ...


@pytest.mark.parametrize(
    "function",
    [
        by_annotation, by_text, by_dotted_text, beside_unknown_names, wrapped, Sender(), Sender().method,
        functools.partial(by_annotation, text="x"),
    ],
    ids=lambda function: getattr(function, "__name__", type(function).__name__),
)  # fmt: skip
def test_a_first_parameter_annotated_as_context_gets_it(function: Any) -> None:
    assert takes_context(function)


@pytest.mark.parametrize("function", [without, unannotated, nothing, anything, print, dict, int])
def test_any_other_function_does_not(function: Any) -> None:
    assert not takes_context(function)


@pytest.fixture
def registry() -> Registry:
    return Registry.of([Job("a.ctx", by_annotation), Job("a.plain", without), Job("a.builtin", dict)])


def test_jobs_are_found_by_name(registry: Registry) -> None:
    assert list(registry) == ["a.ctx", "a.plain", "a.builtin"] and len(registry) == 3
    assert registry["a.ctx"].function is by_annotation
    assert "a.ctx" in registry and "a.other" not in registry
    assert registry.wants_context("a.ctx") and not registry.wants_context("a.plain")


def test_an_unknown_job_is_told_with_a_close_match(registry: Registry) -> None:
    with pytest.raises(UnknownJob, match=r"found 'a\.plan'; did you mean 'a\.plain'\?"):
        registry["a.plan"]


def test_an_unknown_job_far_from_all_gets_other_advice(registry: Registry) -> None:
    with pytest.raises(UnknownJob, match="'pijobs plugins' lists"):
        registry["zzz"]
    with pytest.raises(UnknownJob, match="found 5"):
        registry[5]  # type: ignore[index]


def test_options_of_job_and_retry_policy_are_overridden_by_name() -> None:
    job = Job("a.b", nothing, retry=RetryPolicy(max_attempts=3, delay=7), expires=60, priority=1)
    registry = Registry.of([job], {"a.b": {"max_attempts": 8, "expires": None, "priority": -5, "keep": 10}})
    changed = registry["a.b"]
    assert (changed.retry.max_attempts, changed.retry.delay) == (8, 7)
    assert (changed.expires, changed.priority, changed.keep, changed.timeout) == (None, -5, 10, None)
    assert job.priority == 1 and job.retry.max_attempts == 3


def test_an_override_can_not_replace_the_function() -> None:
    assert override(Job("a.b", nothing), {"function": print, "name": "x.y"}) == Job("a.b", nothing)


@pytest.mark.parametrize(
    ("name", "args", "kwargs"),
    [
        ("a.ctx", (), {"text": "x"}),
        ("a.ctx", ("x",), {}),
        ("a.plain", ("x", None), {}),
        ("a.builtin", (1, 2, 3), {"whatever": 4}),
    ],
)
def test_a_call_that_fits_is_accepted(registry: Registry, name: str, args: Any, kwargs: Any) -> None:
    registry.check_call(name, args, kwargs)


@pytest.mark.parametrize(
    ("name", "args", "kwargs"),
    [
        ("a.ctx", (), {}),
        ("a.ctx", ("s3cr3t", "s3cr3t"), {}),
        ("a.ctx", (), {"text": "s3cr3t", "ctx": None}),
        ("a.ctx", (), {"txt": "s3cr3t"}),
        ("a.plain", (), {"text": "s3cr3t", "delay": 5}),
        ("a.plain", (), {5: "s3cr3t"}),
    ],
)
def test_a_call_that_does_not_fit_is_refused_without_its_values(
    registry: Registry, name: str, args: Any, kwargs: Any
) -> None:
    with pytest.raises(EncodeError) as caught:
        registry.check_call(name, args, kwargs)
    assert name in str(caught.value) and "s3cr3t" not in str(caught.value)
