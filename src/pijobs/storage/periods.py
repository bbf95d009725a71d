"""Totals of minutes and hours, beside those of the queue's whole life. The plots use them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pijobs.errors import StorageUnavailable

if TYPE_CHECKING:
    from pijobs.storage.contract import Storage

#: The totals that are kept by period, by the begin of their names. Sums of times are not, because no plot shows them.
KEPT = (
    "pijobs_time_to_start_seconds\x1f", "pijobs_enqueue_to_done_seconds\x1f", "pijobs_failed_total\x1f",
    "pijobs_run_seconds_sum\x1f",
)  # fmt: skip
#: Names that one period takes: those of the first destinations.
MOST = 300


@dataclass(frozen=True, slots=True)
class Step:
    """A length of periods. :ivar size: in ms. :ivar kept: how many of them are kept."""

    letter: str
    size: int
    kept: int


MINUTE = Step("m", 60_000, 150)
HOUR = Step("h", 3_600_000, 8 * 24)


@dataclass(frozen=True, slots=True)
class Period:
    """One minute or hour. :ivar number: those since the epoch."""

    step: Step
    number: int

    @classmethod
    def at(cls, step: Step, ms: int) -> Period:
        return cls(step, ms // step.size)

    @property
    def name(self) -> str:
        """``m29812345``; those of one step are in the order of time."""
        return f"{self.step.letter}{self.number:09d}"

    @property
    def begin(self) -> int:
        """In ms."""
        return self.number * self.step.size

    @property
    def keep(self) -> int:
        """How long it is kept, in ms."""
        return self.step.size * self.step.kept

    @property
    def oldest(self) -> Period:
        """The oldest one that is kept beside it."""
        return Period(self.step, self.number - self.step.kept)

    def back(self, number: int) -> Iterator[Period]:
        """That many periods up to this one, the oldest first."""
        return (Period(self.step, self.number - ago) for ago in range(number - 1, -1, -1))


def add(storage: Storage, added: Mapping[str, float], *, timeout: float | None = None) -> None:
    """Add to the queue's totals, and to those of the present minute and hour.

    If the storage goes away in between, only the queue's totals have it: they must not be counted twice, while a plot
    may lack a few seconds.
    """
    storage.add_totals(added, timeout=timeout)
    kept = {name: value for name, value in added.items() if name.startswith(KEPT)}
    if kept:
        with suppress(StorageUnavailable):
            for step in (MINUTE, HOUR):
                storage.add_totals(kept, period=Period.at(step, storage.now()), most=MOST, timeout=timeout)
