"""What can be seen of a job at its registration is seen there."""

from __future__ import annotations

import datetime as dt
import enum
import functools
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from email.message import EmailMessage
from email.mime.multipart import MIMEMultipart
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NewType, Protocol, TypedDict

import pytest

from pijobs import Job, JobContext, Limits, crontab
from pijobs.payload.codec import Call
from pijobs.plugins.loading import Plugins
from pijobs.plugins.registration import faults, is_storable
from pijobs.plugins.registry import Registry
from pijobs.settings import Settings

from .conftest import AddModule

if TYPE_CHECKING:
    from somewhere import Unknown  # type: ignore[import-not-found]


def send(ctx: JobContext, server: str, text: str, *, note: str = "") -> None: ...


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


@functools.wraps(generator)
def decorated() -> Any:
    return generator()


class Callee:
    def __call__(self) -> Iterator[int]:
        yield 1


@pytest.mark.parametrize(
    "function",
    [generator, async_generator, functools.partial(functools.partial(generator)), decorated, Callee(),
     Callee().__call__, functools.partial(decorated), functools.lru_cache(generator)],
)  # fmt: skip
def test_a_generator_function_is_refused(function: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="generator function"):
        Job("a.b", function)


def context_second(server: str, ctx: JobContext) -> None: ...


def context_by_name(*, ctx: JobContext) -> None: ...


def context_or_none(ctx: JobContext | None = None) -> None: ...


def unresolved(value: Unknown) -> None: ...


def unresolved_inside(value: list[Unknown]) -> None: ...


def path(value: Path) -> None: ...


def paths(value: Sequence[Path]) -> None: ...


def with_default(value: Path = Path()) -> None: ...


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (context_second, "expected the JobContext as first parameter, found it as 'ctx'"),
        (context_by_name, "expected the JobContext as first parameter, found it as 'ctx'"),
        (context_or_none, "expected 'ctx' to be annotated JobContext alone"),
        (unresolved, "the annotation of 'value' can't be resolved (name 'Unknown' is not defined)"),
        (unresolved_inside, "the annotation of 'value' can't be resolved"),
        (path, "parameter 'value' is a pathlib.Path, which can't be stored"),
        (paths, "which can't be stored"),
    ],
)
def test_a_parameter_that_no_call_can_give_is_told(function: Callable[..., Any], told: str) -> None:
    (fault,) = faults(Job("a.b", function))
    assert told in fault


class Color(enum.Enum):
    RED = 1


class Options(TypedDict):
    size: int


class Named(Protocol):
    name: str


@pytest.mark.parametrize(
    ("kind", "storable"),
    [
        (str, True), (Any, True), (object, True), (None, True), (list[int], True), (dict[str, Any], True),
        (Mapping[str, Sequence[int]], True), (tuple[int, ...], True), (dt.datetime, True), (dt.date | None, True),
        (EmailMessage, True), (MIMEMultipart, True), (Literal["a", "b"], True), (Options, True),
        (NewType("UserId", int), True), (Annotated[str, "note"], True), (Named, True), (str | Path, True),
        (Path, False), (dt.timedelta, False), (Color, False), (list[Path], False), (dict[str, Color], False),
        (Callable[[], int], False), (Literal[Color.RED], False), (Path | Color, False), (range, False),
    ],
)  # fmt: skip
def test_what_can_be_stored(kind: Any, storable: bool) -> None:
    assert is_storable(kind) is storable


@pytest.mark.parametrize("function", [send, print, with_default, lambda *args, **kwargs: None, len])
def test_nothing_is_found_in_what_fits(function: Callable[..., Any]) -> None:
    assert list(faults(Job("a.b", function))) == []


@pytest.mark.parametrize("option", ["group", "label", "subject"])
@pytest.mark.parametrize(
    "function",
    [lambda server: server, lambda gateway, **rest: gateway, lambda server, text, note, more: server, lambda: "x"],
)
def test_a_function_about_the_arguments_must_take_them(option: str, function: Callable[..., str]) -> None:
    options: dict[str, Any] = {option: function}
    (fault,) = faults(Job("sms.send", send, **options))
    assert fault.startswith(f"{option} is called with the job's own arguments") and "(server, text, note='')" in fault


@pytest.mark.parametrize(
    "group",
    [
        lambda server, **_: server,
        lambda server, text: server,
        lambda **every: every["server"],
        lambda first, *rest: first,
        lambda *every, **named: named.get("server") or every[0],
    ],
)
def test_a_function_about_the_arguments_gets_them_however_the_caller_passed_them(group: Callable[..., str]) -> None:
    job = Job("sms.send", send, group=group, limits=Limits(concurrency=1))
    assert list(faults(job)) == []
    registry = Registry.of([job])
    for call in (Call(("main", "x"), {}), Call((), {"text": "x", "server": "main"}), Call(("main",), {"text": "x"})):
        assert registry.named(job, "group", call) == "main"


def test_a_periodic_job_needs_no_argument() -> None:
    assert [*faults(Job("a.b", send, schedule=crontab()))] == [
        "a periodic job is called without arguments, found that it needs server, text"
    ]


# -- plugins ---------------------------------------------------------------------------------------------------------


def reasons(*modules: str) -> list[str]:
    return [plugin.error or "" for plugin in Plugins(modules).failed]


def test_all_faults_of_a_plugin_are_told_at_once_and_the_others_go_on(
    add_module: AddModule, core_settings: Settings
) -> None:
    head = "from pijobs import Job, hookimpl\nfrom pathlib import Path\n@hookimpl\ndef register_jobs():\n"
    bad = add_module(
        "bad", f"{head}    return [Job('a.b', one), Job('a.c', two)]\ndef one(p: Path): ...\ndef two(p: 'X'): ..."
    )
    good = add_module("good", f"{head}    return [Job('b.b', print)]\n")
    plugins = Plugins([bad, good])
    assert [job.name for job in plugins.register_jobs(core_settings)] == ["b.b"]
    (failed,) = plugins.failed
    assert "job 'a.b': parameter 'p'" in (failed.error or "") and "job 'a.c': the annotation" in (failed.error or "")
