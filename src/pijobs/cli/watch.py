"""``pijobs status --watch``: the overview in the terminal, drawn by rich."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pijobs.base import clock
from pijobs.errors import ConfigurationError, StorageUnavailable
from pijobs.observe import facts, life, sentences, status
from pijobs.observe.events import events
from pijobs.observe.readiness import readiness
from pijobs.request.queue import Queue

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

#: The most events shown, if the terminal has enough lines.
LINES = 15
_STYLES = {"dead": "red", "expired": "red", "scheduled": "yellow", "done": "green", "running": "blue"}


def watch(queue: Queue, every: float, *, rounds: int | None = None, console: Console | None = None) -> None:
    """Draw and refresh it until Ctrl-C.

    :param every: seconds. :param rounds: how often; None: for ever.
    :raises ConfigurationError: if rich is not installed.
    """
    try:
        from rich.live import Live
    except ImportError:
        raise ConfigurationError("--watch needs rich: pip install 'pijobs[watch]'") from None
    with (
        Live(page(queue), console=console, screen=console is None, auto_refresh=False) as live,
        suppress(KeyboardInterrupt),
    ):
        while rounds is None or (rounds := rounds - 1) > 0:
            clock.sleep(every)
            live.update(page(queue), refresh=True)


def page(queue: Queue) -> RenderableType:
    """One drawing."""
    from rich.console import Group
    from rich.text import Text

    answer = status.overview(queue)
    parts: list[RenderableType] = [Text(line) for line in _head(answer)]
    checks = [(name, check) for name, check in readiness(queue, answer) if check.warning or not check.ok]
    for name, check in checks:
        parts.append(Text(f"{name}: {check.message}; {check.advice}", "yellow" if check.ok else "bold red"))
    if answer["storage"] is not None and "jobs" in answer:
        parts += [Text(""), _jobs(answer["jobs"]), Text(""), _events(queue)]
    return Group(*parts)


def _head(answer: Mapping[str, Any]) -> Iterator[str]:
    """The sentences before those about jobs."""
    for line in sentences.sentences(answer):
        if line.startswith(("  ", "the newest failures")):
            return
        yield line


def _jobs(rows: Mapping[str, Mapping[str, Any]]) -> RenderableType:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("job")
    for state in facts.STATE_ORDER:
        table.add_column(state.value, justify="right")
    table.add_column("oldest", justify="right")
    for name, row in rows.items():
        numbers = [_number(one, row.get(one, 0)) for one in facts.STATE_ORDER]
        table.add_row(name, *numbers, f"{row['oldest_age']:.0f} s" if row.get("oldest_age") else "")
    return table


def _number(state: str, number: int) -> RenderableType:
    from rich.text import Text

    return Text(f"{number:,}", _STYLES.get(state, "") if number else "dim")


def _events(queue: Queue) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    places, _away = queue.places.within_reach()
    table = Table(box=None, pad_edge=False, show_header=False)
    try:
        found: Sequence[Any] = events(queue, limit=LINES, places=places)
    except StorageUnavailable:
        found = []
    for event, row in found:
        words = event["event"] if event["event"] in ("enqueued", "began", "ended") else life.told_event(event)
        style = _STYLES.get(str(event.get("outcome")), "")
        told = Text(words, style, no_wrap=True, overflow="ellipsis")
        table.add_row(str(event["at"])[11:19], row["name"], sentences.short_id(row["id"]), told)
    return table
