"""Options that select instances."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from pijobs.jobs import State
from pijobs.observe.selection import Selection

Command = TypeVar("Command", bound=Callable[..., Any])
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
FILTERS = ("name", "group", "subject", "because", "since", "older_than")


class Duration(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.2 on
    """``90``, ``90s``, ``10m``, ``2h`` or ``7d``, as seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)([smhd]?)", str(value))
        if match is None:
            self.fail(f"expected a duration such as 90s, 10m, 2h or 7d, found {value!r}", param, ctx)
        return float(match[1]) * _UNITS[match[2]]


_OPTIONS = (
    click.option("--name", help="Only this job."),
    click.option("--group", help="Only this group (the destination of the job), such as smtp:main."),
    click.option("--subject", help="Only this subject, if the job has one; for mail the recipient."),
    click.option("--because", metavar="TEXT", help="Only those whose reason contains this."),
    click.option("--since", type=Duration(), help="Only those that ended (or were enqueued) within 90s, 10m, 2h, 7d."),
    click.option("--older-than", type=Duration(), help="Only those that ended (or were enqueued) longer ago."),
)  # fmt: skip


def filter_options(command: Command) -> Command:
    """``--name``, ``--group``, ``--subject``, ``--because``, ``--since`` and ``--older-than``."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def selection(states: tuple[State, ...], filters: dict[str, Any]) -> Selection:
    """The selection of the options of :func:`filter_options`, which are removed from ``filters``."""
    return Selection(states=states, **{name: filters.pop(name) for name in FILTERS})
