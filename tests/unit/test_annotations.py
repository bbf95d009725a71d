"""Arguments are checked against the annotations when a job is enqueued."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from email.message import EmailMessage
from typing import TYPE_CHECKING, Annotated, Any, Literal, NewType, Protocol

import pytest

from pijobs import Job, JobContext
from pijobs.errors import EncodeError
from pijobs.payload.annotations import check_of
from pijobs.plugins.registry import Registry

if TYPE_CHECKING:
    from somewhere import Unknown  # type: ignore[import-not-found]


def send(ctx: JobContext, phone: str, parts: list[str] | None = None, *, price: float = 0.0) -> None: ...


def collect(values: Mapping[str, Sequence[int]]) -> None: ...


def choose(way: Literal["push", "pull"], at: dt.datetime | None, mail: EmailMessage | None) -> None: ...


def partly(known: int, unknown: Unknown, free, anything: Any) -> None: ...  # type: ignore[no-untyped-def]


def spread(first: str, *more: int, **rest: str) -> None: ...


def check(function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    Registry.of([Job("a.job", function)]).check_call("a.job", args, kwargs)


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (send, {"phone": "1", "parts": ["a"], "price": 1}),
        (send, {"phone": "1", "parts": None, "price": 1.5}),
        (collect, {"values": {"a": (1, 2), "b": []}}),
        (choose, {"way": "push", "at": dt.datetime(2026, 1, 1), "mail": EmailMessage()}),
        (partly, {"known": 1, "unknown": object(), "free": 1, "anything": "x"}),
        (print, {"sep": 5}),
    ],
)
def test_what_fits_passes(function: Callable[..., Any], arguments: dict[str, Any]) -> None:
    check(function, **arguments)


@pytest.mark.parametrize(
    ("function", "arguments", "told"),
    [
        (send, {"phone": 5}, "argument 'phone': expected str, found that it is int$"),
        (
            send,
            {"phone": "1", "parts": ["a", 2]},
            r"argument 'parts': expected list\[str\] \| None, found that item 1 is int$",
        ),
        (send, {"phone": "1", "parts": "abc"}, "argument 'parts'"),
        (send, {"phone": "1", "price": "1"}, "argument 'price': expected float"),
        (collect, {"values": {"a": [1, "2"]}}, "found that item 1 of the value of 'a' is str$"),
        (choose, {"way": "pull it", "at": None, "mail": None}, "expected .*Literal.*, found that it is another str$"),
        (choose, {"way": "pull", "at": "2026-01-01", "mail": None}, "argument 'at'"),
        (partly, {"known": "1", "unknown": 1, "free": 1, "anything": 1}, "argument 'known': expected int"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(
    function: Callable[..., Any], arguments: dict[str, Any], told: str
) -> None:
    with pytest.raises(EncodeError, match=f"^job 'a.job': .*{told}"):
        check(function, **arguments)


Name = NewType("Name", str)


class Open(Protocol):
    def close(self) -> None: ...


@pytest.mark.parametrize(
    ("kind", "fits", "others"),
    [
        (int, [1, True], ["1", 1.5, None]),
        (float, [1, 1.5], ["1"]),
        (str | int | None, ["a", 1, None], [1.5, b""]),
        (list[int] | None, [[1], [], None], [["1"], (1,)]),
        (Sequence[str], [["a"], ("a",), "abc"], [[1], 5]),
        (Iterable[int], [[1], {1}, (1,)], [["1"], 1]),
        (set[str], [{"a"}, set()], [{1}, ["a"]]),
        (frozenset[str], [frozenset("a")], [{"a"}]),
        (tuple[int, str], [(1, "a")], [(1,), ("a", 1), [1, "a"]]),
        (tuple[int, ...], [(), (1, 2)], [(1, "2")]),
        (tuple[()], [()], [(1,)]),
        (dict[str, list[int]], [{"a": [1]}, {}], [{"a": ["1"]}, {1: [1]}, []]),
        (dict, [{1: 2}], [[]]),
        (list, [[1]], [{}]),
        (Literal["a", 1], ["a", 1], ["b", True, []]),
        (Annotated[int, "seconds"], [1], ["1"]),
        (Name, ["a"], [1]),
        (Decimal, [Decimal(1)], [1]),
        (uuid.UUID, [uuid.UUID(int=1)], ["x"]),
        (dt.date, [dt.date(2026, 1, 1), dt.datetime(2026, 1, 1)], ["2026-01-01"]),
        (EmailMessage, [EmailMessage()], ["x"]),
        (Any, [1, None], []),
        (object, [1, None], []),
        (Open, [5], []),
        (Callable[[], int], [len], [5]),
    ],
    # The address of an object would give a test another name in each process.
    ids=lambda value: "" if isinstance(value, list) else str(value),
)
def test_an_annotation_takes_what_its_type_takes(kind: Any, fits: list[Any], others: list[Any]) -> None:
    look = check_of(kind)
    assert [value for value in fits if look(value) is not None] == []
    assert [value for value in others if look(value) is None] == []


def test_positional_arguments_are_checked_too() -> None:
    with pytest.raises(EncodeError, match="argument 'phone': expected str"):
        check(send, 5)


def test_the_rest_of_a_call_is_left_to_the_function() -> None:
    check(spread, "a", 1, 2, more="x")


def test_neither_a_value_nor_an_address_is_told() -> None:
    with pytest.raises(EncodeError) as told:
        check(collect, values={"alice@example.com": ["hunter2"]})
    assert "hunter2" not in str(told.value) and "alice@example.com" not in str(told.value)
