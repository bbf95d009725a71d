"""Formats numbers and times for people; the templates' filters, with the prefix ``pijobs_``."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from markupsafe import Markup

from pijobs.base import clock
from pijobs.base.told import Moment, Told
from pijobs.observe import sentences
from pijobs.server.pages.languages import _

_STEPS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"))
_ABBREVIATIONS = {"ca": "CA", "id": "id", "oauth": "OAuth", "smime": "S/MIME", "tls": "TLS", "url": "URL"}


def duration(seconds: float | None) -> str:
    """``12 ms``, ``0.84 s``, ``12 s``, ``3 min``, ``2 h``, ``5 d``."""
    if seconds is None:
        return "–"
    if seconds < 0.1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{decimal(seconds, 2 if seconds < 1 else 1)} s"
    for size, unit in _STEPS:
        if seconds >= 2 * size or (seconds >= size and size > 60):
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def decimal(number: float, places: int) -> str:
    """``0.5``, with so many places, with the separators of the language."""
    return f"{number:.{places}f}".replace(".", _signs()[1])


def time_of_day(moment: str | None) -> str:
    """The time of day of an ISO 8601 moment, with its date unless that is today (UTC)."""
    if not moment:
        return "–"
    day, _sign, time = moment.partition("T")
    today = dt.datetime.fromtimestamp(clock.time(), dt.timezone.utc).date().isoformat()
    return time[:8] if day == today else f"{day} {time[:8]}"


def iso(seconds: float) -> str:
    """Seconds since the epoch as an ISO 8601 moment."""
    return dt.datetime.fromtimestamp(int(seconds), dt.timezone.utc).isoformat().replace("+00:00", "Z")


def after(moment: str, begin: str) -> str:
    """The time from ``begin`` to ``moment``, such as ``+12 s``."""
    return "+" + duration(max(0.0, (_parsed(moment) - _parsed(begin)).total_seconds()))


def count(number: float) -> str:
    """``12,345``; ``12,345.678``; with the separators of the language."""
    thousands, point = _signs()
    return f"{number:,}".translate({ord(","): thousands, ord("."): point})


def _signs() -> tuple[str, str]:
    signs = _("1,000.5")
    return (signs[1], signs[-2]) if len(signs) == 7 else (",", ".")  # else an invalid translation


def percent(part: float) -> str:
    """``41 %``."""
    return f"{part:.0%}".replace("%", " %")


def begin(text: str) -> str:
    """The text with its first letter capitalised."""
    return text[:1].upper() + text[1:]


def subject(label: str | None) -> str:
    """The translated label of a message; the storage has it in English: ``mail to a***@example.com``."""
    kind, to, who = (label or "").partition(" to ")
    return _(f"{kind} to {{who}}", who=who) if to and re.fullmatch(r"\w+", kind) else label or ""


def moment(iso: str) -> Markup:
    """A time in UTC, with its date on hover; a script converts both to the reader's time zone."""
    return Markup('<time datetime="{0}" title="{0}">{1}</time>').format(iso, time_of_day(iso))


def told(text: str) -> str:
    """A text of the queue in the language of the reader, with times in the reader's time zone."""
    if not isinstance(text, Told):
        return _(text)
    return _(text, **{name: _value(value) for name, value in text.values.items()})


def _value(value: object) -> object:
    return moment(value) if isinstance(value, Moment) else told(value) if isinstance(value, Told) else value


def told_pause(pause: Mapping[str, Any]) -> str:
    """Who paused or bypassed something, when and why."""
    return told(sentences.told_pause(pause))


def label(field: Any) -> str:
    """The label of a definition's field."""
    words = str(field.name).split("_")
    return field.label or " ".join(
        _ABBREVIATIONS.get(word) or (word if place else word.capitalize()) for place, word in enumerate(words)
    )


def as_json(value: Any) -> str:
    """JSON for people who edit it; the template escapes it."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def _parsed(moment: Any) -> dt.datetime:
    # Python 3.10 does not know the Z.
    return dt.datetime.fromisoformat(str(moment).replace("Z", "+00:00"))


FILTERS: Mapping[str, Callable[..., Any]] = {
    "duration": duration, "clock": time_of_day, "after": after, "iso": iso, "count": count, "percent": percent,
    "label": label, "json": as_json, "begin": begin, "short": sentences.short_id, "subject": subject,
    "pause": told_pause, "moment": moment, "told": told,
}  # fmt: skip
