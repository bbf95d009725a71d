"""Parses queries for statistics, and formats the result as JSON and CSV."""

from __future__ import annotations

import csv
import datetime as dt
import io
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pijobs.base import clock
from pijobs_statistics.values import number

if TYPE_CHECKING:
    from pijobs_statistics.store import Row

_DAY = 86400
_PERIODS = ("minute", "hour", "day")
#: First characters of cells that spreadsheets treat as formulas.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def query(
    name: str | None = None, per: str = "hour", since: str | None = None, until: str | None = None, **unknown: str
) -> dict[str, Any]:
    """Parse texts to the arguments of :meth:`Store.read`.

    :raises ValueError: with the expected and the found value.
    """
    if unknown:
        raise ValueError(f"expected name, per, since, until and format, found {', '.join(sorted(unknown))[:60]!r}")
    if per not in _PERIODS:
        raise ValueError(f"per: expected one of {', '.join(_PERIODS)}, found {per[:20]!r}")
    begin = int(clock.time()) - _DAY if since is None else moment("since", since)
    return {"name": name, "per": per, "since": begin, "until": None if until is None else moment("until", until)}


def moment(name: str, text: str) -> int:
    """Seconds since the epoch. A time without a zone is UTC."""
    if re.fullmatch(r"[0-9]{1,11}", text):
        return int(text)
    try:
        at = dt.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise ValueError(f"{name}: expected ISO 8601 or seconds since the epoch, found {text[:40]!r}") from None
    return int((at if at.tzinfo else at.replace(tzinfo=dt.timezone.utc)).timestamp())


def as_json(rows: Iterable[Row]) -> list[dict[str, Any]]:
    return [
        {
            "start": _iso(row.start),
            "name": row.name,
            "tags": row.tags,
            "count": row.amount.count,
            "value": number(row.amount.total),
        }
        for row in rows
    ]


def as_csv(rows: Iterable[Row]) -> str:
    """CSV with a line for each row, and a column for each tag."""
    rows = list(rows)
    tags = sorted({tag for row in rows for tag in row.tags})
    output = io.StringIO()
    writer = csv.writer(output)
    writer.writerow(["start", "name", *(f"tag_{tag}" for tag in tags), "count", "value"])
    for row in rows:
        cells = [_cell(row.tags.get(tag, "")) for tag in tags]
        writer.writerow([_iso(row.start), row.name, *cells, row.amount.count, number(row.amount.total)])
    return output.getvalue()


def _cell(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def _iso(start: int) -> str:
    return dt.datetime.fromtimestamp(start, dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
