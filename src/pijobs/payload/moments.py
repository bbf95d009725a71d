"""Converts datetimes to bytes and back, with the name of the time zone, and the fold that tells the two half past two
of an autumn night apart."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any
from zoneinfo import ZoneInfo

from pijobs.errors import DecodeError


def is_plain(moment: dt.datetime) -> bool:
    """Whether ISO 8601 can represent it: no zone except an unnamed offset, and no fold."""
    zone = moment.tzinfo
    if moment.fold or zone is None:
        return not moment.fold
    if type(zone) is not dt.timezone or _name_of(zone) is not None:
        return False
    # fromisoformat() loses the microseconds of an offset of less than a second.
    return not zone.utcoffset(None).microseconds


def dump(moment: dt.datetime) -> bytes | None:
    """A value from which :func:`load` creates the same moment; None for a time zone of an unknown class."""
    zone = moment.tzinfo
    zone_data: Any = None
    if type(zone) is ZoneInfo and zone.key is not None:
        zone_data = zone.key
    elif type(zone) is dt.timezone:
        offset = zone.utcoffset(None)
        zone_data = [offset.days, offset.seconds, offset.microseconds, _name_of(zone)]
    elif zone is not None:
        return None
    return json.dumps([moment.replace(tzinfo=None, fold=0).isoformat(), moment.fold, zone_data]).encode()


def load(data: bytes) -> dt.datetime:
    """:raises DecodeError: for a time zone that this machine does not know.
    :raises ValueError: for what :func:`dump` did not write; also ``TypeError``.
    """
    text, fold, zone_data = json.loads(data)
    return dt.datetime.fromisoformat(text).replace(fold=fold, tzinfo=_zone(zone_data))


def _zone(zone_data: Any) -> dt.tzinfo | None:
    if isinstance(zone_data, str):
        try:
            return ZoneInfo(zone_data)
        except (LookupError, ValueError, OSError):
            raise DecodeError(f"unknown time zone {zone_data[:40]!r}; install tzdata") from None
    if zone_data is None:
        return None
    days, seconds, micros, name = zone_data
    offset = dt.timedelta(days, seconds, micros)
    return dt.timezone(offset) if name is None else dt.timezone(offset, name)


def _name_of(zone: dt.tzinfo) -> str | None:
    """The name of a fixed offset; None if it has none."""
    name = zone.tzname(None)
    offset = zone.utcoffset(None)
    assert offset is not None
    return None if name == dt.timezone(offset).tzname(None) else name
