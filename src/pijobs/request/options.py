"""The options of a call: when, until when, how urgent, under which key."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection

from pijobs.base.clock import to_ms
from pijobs.base.numbers import is_number, is_priority


def delay_of(delay: float | None, eta: dt.datetime | float | None) -> tuple[str, float] | None:
    """``("in", seconds)``, ``("at", seconds since the epoch)``, or None: at once."""
    if delay is not None:
        return ("in", delay)
    if isinstance(eta, dt.datetime):
        return ("at", eta.timestamp())
    return None if eta is None else ("at", eta)


def due_of(delay: tuple[str, float] | None, now: int) -> int | None:
    """The same as a moment (ms)."""
    if delay is None:
        return None
    return now + to_ms(delay[1]) if delay[0] == "in" else to_ms(delay[1])


def refuse_others(name: object, others: Collection[str]) -> None:
    """:raises TypeError: for keywords that are no options; the job's own arguments have a place of their own."""
    for other in others:
        raise TypeError(
            f"job {name!r}: {other!r} is no option of enqueue; the job's own arguments go into kwargs={{{other!r}: …}}"
        )


def check_options(
    *,
    delay: object,
    eta: object,
    expires: object,
    priority: object,
    key: object,
    on_conflict: object,
) -> None:
    """:raises ValueError: for options that can't be meant."""
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
