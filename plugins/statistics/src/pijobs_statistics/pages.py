"""The page of the statistics: small plots, and the data as CSV."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import flask

from pijobs.base import clock
from pijobs.flask import current_queue
from pijobs.server.pages import PageBlueprint, plots, requires
from pijobs.server.pages.formatting import count, iso
from pijobs.server.pages.languages import _
from pijobs_statistics.output import as_csv
from pijobs_statistics.store import SECONDS, Per, Row, Store
from pijobs_statistics.values import Amount, number

#: The choices: number of steps in a plot, and its title.
SPANS: Mapping[Per, tuple[int, str]] = {
    "minute": (60, "last hour, by minute"), "hour": (48, "last two days, by hour"), "day": (60, "last 60 days, by day"),
}  # fmt: skip
#: The most names, or combinations of tags, on the page; the CSV has all.
MOST = 60


@dataclass(frozen=True)
class Line:
    """The sum of one name, or one combination of its tags. :ivar plot: its steps, oldest first."""

    title: str
    count: int
    plot: plots.Plot


def make_pages() -> PageBlueprint:
    blueprint = PageBlueprint("usage", __name__, url_prefix="/statistics", template_folder="templates")
    blueprint.get("/", endpoint="index")(index)
    blueprint.get("/csv", endpoint="csv")(as_file)
    return blueprint


@requires("viewer")
def index() -> str:
    """Show all names, or the tags of one (``name``), by ``per``."""
    per, name = _chosen()
    since = _since(per)
    rows = _store().read(per, name=name or None, since=since)
    lines = _lines(rows, per, since, (lambda row: _tags(row.tags)) if name else (lambda row: row.name))
    return flask.render_template(
        "pijobs_statistics/statistics.html",
        lines=lines[:MOST], more=len(lines) - MOST, per=per, name=name, spans=SPANS,
    )  # fmt: skip


@requires("viewer")
def as_file() -> flask.Response:
    """Download all data of the page as CSV."""
    per, name = _chosen()
    text = as_csv(_store().read(per, name=name or None, since=_since(per)))
    headers = {"Content-Disposition": f"attachment; filename=statistics-{per}.csv"}
    return flask.Response(text, mimetype="text/csv", headers=headers)


def _chosen() -> tuple[Per, str]:
    asked = flask.request.args.get("per")
    per: Per = next((known for known in SPANS if known == asked), "hour")
    return per, flask.request.args.get("name", "")[:200]


def _since(per: Per) -> int:
    """The start of the first step; the last step is the present one."""
    steps, width = SPANS[per][0], SECONDS[per]
    return (int(clock.time()) // width - steps + 1) * width


def _store() -> Store:
    return Store.of(current_queue().settings)


def _lines(rows: Iterable[Row], per: Per, since: int, title_of: Any) -> list[Line]:
    """The lines of the page, the largest count first."""
    sums: defaultdict[str, defaultdict[int, Amount]] = defaultdict(lambda: defaultdict(lambda: Amount(0, 0)))
    for row in rows:
        sums[title_of(row)][(row.start - since) // SECONDS[per]] += row.amount
    lines = [_line(title, steps, per, since) for title, steps in sums.items()]
    return sorted(lines, key=lambda line: (-line.count, line.title))


def _line(title: str, steps: Mapping[int, Amount], per: Per, since: int) -> Line:
    whole = sum(steps.values(), Amount(0, 0))
    # A negative value has no bar.
    places = range(SPANS[per][0])
    heights = [max(0.0, number(steps[place].total)) if place in steps else 0 for place in places]
    ats = [iso(since + place * SECONDS[per]) for place in places]
    summary = count(number(whole.total))
    if number(whole.total) != whole.count:
        summary = _("{value} in {number} records", value=summary, number=count(whole.count))
    return Line(title, whole.count, plots.of_bins(re.sub(r"\W", "-", title), title, heights, ats, summary))


def _tags(tags: Mapping[str, str]) -> str:
    return ", ".join(f"{tag} {value}" for tag, value in sorted(tags.items())) or "without tags"
