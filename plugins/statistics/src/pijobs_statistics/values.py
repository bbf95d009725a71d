"""Checks names, values and tags of records, and adds them up."""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from pijobs.base import clock
from pijobs.base.redact import redact

log = logging.getLogger(__name__)

#: Values are stored as whole thousandths, since sums of floats depend on their order.
SCALE = 1000
MOST_TAGS = 5
LONGEST = 80  # characters of the value of a tag
LARGEST = 10**12
MINUTE = 60  # seconds
#: Replaces a value that looks like an address or a number of a person.
REFUSED = "refused"
NAME = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)*")
_TAG = re.compile(r"[a-z][a-z0-9_]{0,39}")
#: Names of tags that would identify a person, or contain a secret.
FORBIDDEN_TAGS = frozenset(
    {
        *("user", "username", "login", "uid", "name", "email", "mail", "address", "recipient", "phone", "number"),
        *("ip", "client", "serial", "token", "otp", "pin", "password", "secret"),
    }
)


class Series(NamedTuple):
    """One line of a statistic: a name, and tags as canonical JSON."""

    name: str
    tags: str


@dataclass(frozen=True, slots=True)
class Amount:
    """The number of records, and their sum in thousandths."""

    count: int
    total: int

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.count + other.count, self.total + other.total)


def series(name: str, tags: Mapping[str, object]) -> Series:
    """Make a series. :raises ValueError: for an invalid name of the record or a tag, which is a programmer's mistake.

    Values of tags raise no error, since they may come from strangers. A value that looks like an address or a number of
    a person is counted as ``"refused"``.
    """
    if not NAME.fullmatch(name) or len(name) > LONGEST:
        raise ValueError(f"name: expected lower case, digits and underscores such as 'login.ok', found {name!r}")
    if len(tags) > MOST_TAGS:
        raise ValueError(f"tags: expected at most {MOST_TAGS}, found {len(tags)}")
    for tag in tags:
        if tag in FORBIDDEN_TAGS or not _TAG.fullmatch(tag):
            raise ValueError(f"tag {tag!r}: expected the name of a short list of values, never of a person's")
    shown = {tag: _shown(name, tag, value) for tag, value in tags.items()}
    return Series(name, json.dumps(shown, sort_keys=True, separators=(",", ":")))


def amount(value: float) -> Amount:
    """One record of this value, rounded to three decimal places.

    :raises ValueError: if it is no number, or beyond 10**12.
    """
    ok = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not ok or abs(value) > LARGEST:
        raise ValueError(f"value: expected a number up to {LARGEST}, found {type(value).__name__}")
    return Amount(1, round(value * SCALE))


def number(total: int) -> float:
    """The sum as a number, an int if it is whole."""
    return total // SCALE if total % SCALE == 0 else total / SCALE


def minute(now: float | None = None) -> int:
    """The begin of the minute, in seconds since the epoch."""
    return int(clock.time() if now is None else now) // MINUTE * MINUTE


def _shown(name: str, tag: str, value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if len(text) > LONGEST or not text.isprintable() or redact(text) != " ".join(text.split()):
        log.warning("statistic %s: the value of tag %s is refused; expected one of a short list", name, tag)
        return REFUSED
    return text
