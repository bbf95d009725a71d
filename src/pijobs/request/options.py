"""The options of a call: time, deadline, priority, key."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from typing import Protocol

from pijobs.base.clock import to_ms
from pijobs.base.numbers import is_number, is_priority


def due_of(delay: float | None, eta: dt.datetime | float | None, now: int) -> int | None:
    """The time of the first attempt (ms); None: at once.

    :param now: ms.
    """
    if delay is not None:
        return now + to_ms(delay)
    if isinstance(eta, dt.datetime):
        return to_ms(eta.timestamp())
    return None if eta is None else to_ms(eta)


def refuse_others(name: object, others: Collection[str]) -> None:
    """:raises TypeError: for unknown keywords. The job's arguments are passed separately."""
    for other in others:
        raise TypeError(
            f"job {name!r}: {other!r} is no option of enqueue; the job's own arguments go into kwargs={{{other!r}: …}}"
        )


class Options(Protocol):
    """An object with the options of a call."""

    @property
    def delay(self) -> object: ...
    @property
    def eta(self) -> object: ...
    @property
    def expires(self) -> object: ...
    @property
    def priority(self) -> object: ...
    @property
    def key(self) -> object: ...
    @property
    def on_conflict(self) -> object: ...


def check_options(given: Options) -> None:
    """:raises ValueError: for invalid options."""
    delay, eta, expires, priority, key = given.delay, given.eta, given.expires, given.priority, given.key
    on_conflict = given.on_conflict
    if on_conflict == "replace" and delay is eta is expires is priority is key is None:
        return  # as most calls
    aware = isinstance(eta, dt.datetime) and eta.tzinfo is not None
    for name, value, expected, ok in (
        ("delay", delay, "a number of seconds >= 0", is_number(delay) and delay >= 0),  # type: ignore[operator]
        ("eta", eta, "an aware datetime or seconds since the epoch", aware or is_number(eta)),
        ("expires", expires, "a number of seconds > 0", is_number(expires) and expires > 0),  # type: ignore[operator]
        ("priority", priority, "an integer from -1000 to 1000", is_priority(priority)),
        ("key", key, "a text", isinstance(key, str) and key != ""),
        ("on_conflict", on_conflict, "'replace', 'keep' or 'error'", on_conflict in ("replace", "keep", "error")),
    ):
        if value is not None and not ok:
            raise ValueError(f"option {name}: expected {expected}, found {value!r}")
    if delay is not None and eta is not None:
        raise ValueError("options delay and eta: expected one of them, found both")
