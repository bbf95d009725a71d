"""When a schedule is due: huey's ``crontab(…)``, or any function that returns whether it is due at a minute of the wall
clock.

A wall clock has minutes that come twice and minutes that never come. A schedule treats them as systemd's timers do: at
a minute that comes twice, it runs the first time; instead of a minute that is skipped, it runs as much later as the
clock was put forward. A schedule without an hour runs in each hour that passes.
"""

from __future__ import annotations

import calendar
import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from zoneinfo import ZoneInfo

Schedule = Callable[[dt.datetime], bool]

MINUTE = 60_000  # ms
_DAY = 24 * 60 * MINUTE
#: A clock is put forward by less than this.
_MOST_FORWARD = 3 * 60 * MINUTE
#: A function that is not huey's crontab is called for each minute, no further back than this.
FUNCTION_LOOK_BACK = 7 * _DAY


def newest(schedule: Schedule, timezone: str, oldest: int, latest: int) -> int | None:
    """The last minute of ``oldest`` to ``latest`` (ms since the epoch, whole minutes) at which a schedule is due."""
    # Hosts without a time zone database have UTC only in this way.
    zone = dt.timezone.utc if timezone == "UTC" else ZoneInfo(timezone)
    days = _days(schedule)
    for first, last in _parts(oldest, latest) if days else [(max(oldest, latest - FUNCTION_LOOK_BACK), latest)]:
        if days and not any(days(_local(moment, zone)) for moment in (first, last, first - _MOST_FORWARD)):
            continue
        for moment in range(last, first - 1, -MINUTE):
            if _comes(schedule, zone, moment):
                return moment
    return None


def first(schedule: Schedule, timezone: str, oldest: int, latest: int) -> int | None:
    """The first minute of ``oldest`` to ``latest`` (ms since the epoch, whole minutes) at which a schedule is due."""
    for day in range(oldest, latest + 1, _DAY):
        moment, found = newest(schedule, timezone, day, min(day + _DAY - MINUTE, latest)), None
        while moment is not None:
            found, moment = moment, newest(schedule, timezone, day, moment - MINUTE)
        if found is not None:
            return found
    return None


def never_comes(schedule: Schedule) -> bool:
    """Whether a crontab names days that no calendar has, such as 30 February."""
    fields = _fields(schedule)
    if fields is None:
        return False
    months, days = fields[0], fields[1]
    # For a leap year; each of its days can be any day of the week.
    return not any(day <= calendar.monthrange(2000, month)[1] for month in months for day in days)


def _parts(oldest: int, latest: int) -> Iterator[tuple[int, int]]:
    """The time in parts that touch no more than two days, the last first."""
    while latest >= oldest:
        first = max(oldest, latest - _DAY + MINUTE)
        yield first, latest
        latest = first - MINUTE


def _local(moment: int, zone: dt.tzinfo) -> dt.datetime:
    return dt.datetime.fromtimestamp(moment / 1000, zone)


def _comes(schedule: Schedule, zone: dt.tzinfo, moment: int) -> bool:
    local = _local(moment, zone)
    wall = local.replace(tzinfo=None, fold=0)
    if schedule(wall):
        return not local.fold or all(schedule(wall.replace(hour=hour)) for hour in range(24))
    before = _local(moment - _MOST_FORWARD, zone).utcoffset()
    forward = (local.utcoffset() or dt.timedelta()) - (before or dt.timedelta())
    if forward <= dt.timedelta():
        return False
    # The name of this minute if the clock had not been put forward. If the schedule names it, it was skipped.
    left_out = wall - forward
    return left_out.replace(tzinfo=zone).timestamp() * 1000 == moment and schedule(left_out)


def _days(schedule: Schedule) -> Callable[[dt.datetime], bool] | None:
    """Whether a crontab comes on a day at all; None for other functions."""
    fields = _fields(schedule)
    if fields is None:
        return None
    months, days, weekdays = fields[:3]
    return lambda day: day.month in months and day.day in days and (day.weekday() + 1) % 7 in weekdays


def _fields(schedule: Schedule) -> Sequence[Sequence[int]] | None:
    """The months, days, weekdays, hours and minutes of huey's ``crontab``, which keeps them in its closure."""
    code, closure = getattr(schedule, "__code__", None), getattr(schedule, "__closure__", None)
    if code is None or closure is None or "cron_settings" not in code.co_freevars:
        return None
    fields = closure[code.co_freevars.index("cron_settings")].cell_contents
    return fields if isinstance(fields, list) and len(fields) == 5 else None
