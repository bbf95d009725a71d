"""The jobs: ``statistics.apply`` writes a batch; two periodic jobs roll up and trim."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pijobs import DestinationDown, Job, JobContext, RetryPolicy, Setting, crontab
from pijobs.base.redact import redact
from pijobs.errors import DatabaseConflict, DatabaseUnavailable

PREFIX = "PI_JOB_QUEUE_STATISTICS_"
#: Seconds for which the ids of batches and ends of jobs are kept, to recognise repetitions.
KEEP_APPLIED = 2 * 86400
_PATIENT = RetryPolicy(max_attempts=20, delay=5, max_delay=600)


def _keep(period: str, default: float, name: str) -> Setting[float]:
    return Setting(
        name=PREFIX + name,
        default=default,
        expected="a number of seconds of at least 7200",
        accepts=lambda value: isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 7200,
        help=f"Seconds to keep statistics by {period}.",
    )


#: How long to keep statistics of each period.
KEEP: dict[Literal["minute", "hour", "day"], Setting[float]] = {
    "minute": _keep("minute", 2 * 86400, "KEEP_MINUTES"),
    "hour": _keep("hour", 90 * 86400, "KEEP_HOURS"),
    "day": _keep("day", 5 * 365 * 86400, "KEEP_DAYS"),
}
JOURNAL: Setting[str | None] = Setting(
    name=PREFIX + "JOURNAL",
    default=None,
    expected="the absolute path of a folder, or None",
    accepts=lambda value: value is None or (isinstance(value, str) and value.startswith("/")),
    help="Folder where workers note the ends of jobs until they are counted, so that a killed one loses none. "
    "None: the folder 'pijobs-statistics' beside pi.cfg.",
    example="/var/lib/pijobs/statistics",
)
SETTINGS: tuple[Setting, ...] = (*KEEP.values(), JOURNAL)


def apply(ctx: JobContext, batch: str, rows: Sequence[Any] = (), once: Sequence[Any] = ()) -> None:
    """Write one batch, unless it was written before."""
    from pijobs_statistics.store import Store  # imports SQLAlchemy only here

    try:
        if not Store.of(ctx.settings).apply(batch, rows, once):
            ctx.note(repeated="the batch was written before")
    except (DatabaseUnavailable, DatabaseConflict) as error:
        raise DestinationDown(redact(str(error))) from None


def hourly(ctx: JobContext) -> None:
    """Roll minutes up to hours."""
    from pijobs_statistics.store import Store

    Store.of(ctx.settings).roll_up("minute", "hour")


def daily(ctx: JobContext) -> None:
    """Roll all up to days, and remove old rows."""
    from pijobs_statistics.store import Store

    store, settings = Store.of(ctx.settings), ctx.settings
    store.roll_up("minute", "hour")
    store.roll_up("hour", "day")
    store.trim({period: settings[keep] for period, keep in KEEP.items()}, KEEP_APPLIED)


def register() -> list[Job]:
    return [
        Job(
            "statistics.apply", apply, retry=_PATIENT, priority=-100, keep=3600, timeout=120,
            group=lambda *_, **__: "statistics",
        ),
        Job("statistics.hourly", hourly, retry=_PATIENT, priority=-100, schedule=crontab(minute="5")),
        Job("statistics.daily", daily, retry=_PATIENT, priority=-100, schedule=crontab(minute="20", hour="0")),
    ]  # fmt: skip
