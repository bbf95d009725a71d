"""Writes each batch exactly once, rolls records up, and reads them."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from pijobs.base import clock
from pijobs.database import Database
from pijobs.settings import Settings
from pijobs_statistics.tables import AMOUNT, APPLIED, METADATA, SERIES, add, take_turn
from pijobs_statistics.values import Amount, Series

Per = Literal["minute", "hour", "day"]
SECONDS: Mapping[str, int] = {"minute": 60, "hour": 3600, "day": 86400}
#: Most series of one name, and of all names; further ones are counted as "other".
MOST_SERIES, MOST_OF_ALL = 1000, 20_000
OTHER = '{"tags":"other"}'
_CHUNK = 500  # parameters of one statement


@dataclass(frozen=True)
class Row:
    """The sum of one series in one period (``start``: seconds since the epoch)."""

    start: int
    name: str
    tags: dict[str, str]
    amount: Amount


class Store:
    """The statistics of one installation.

    :raises DatabaseError: each method, if the database fails.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        database.ensure(METADATA)

    @classmethod
    def of(cls, settings: Settings) -> Store:
        return cls(Database.of(settings))

    def apply(self, batch: str, rows: Iterable[Sequence[Any]], once: Iterable[Sequence[Any]] = ()) -> bool:
        """Add a batch, and store its id in the same transaction. Returns False if it was added before.

        :param rows: each is ``(minute, name, tags, count, total)``.
        :param once: each is ``(key, minute, name, tags)``; counts 1, unless the key was counted before.
        """
        rows, once = list(rows), list(once)

        def work(connection: Connection) -> bool:
            take_turn(connection)
            if not _new(connection, [batch]):
                return False
            sums: dict[tuple[int, Series], Amount] = defaultdict(lambda: Amount(0, 0))
            for at, name, tags, count, total in rows:
                sums[at, Series(name, tags)] += Amount(count, total)
            fresh = _new(connection, [key for key, *_ in once])
            for key, at, name, tags in once:
                if key in fresh:
                    fresh.discard(key)
                    sums[at, Series(name, tags)] += Amount(1, 1000)
            _add_sums(connection, sums)
            return True

        return self._database.run(work)

    def roll_up(self, fine: Per, coarse: Per) -> int:
        """Add the new parts of fine rows to coarse rows. Returns the number of fine rows with new parts."""

        def work(connection: Connection) -> int:
            take_turn(connection)
            changed = connection.execute(sa.select(AMOUNT).where(AMOUNT.c.per == fine, _has_more())).all()
            sums: dict[tuple[int, str], Amount] = defaultdict(lambda: Amount(0, 0))
            for row in changed:
                key = (row.start // SECONDS[coarse] * SECONDS[coarse], row.series)
                sums[key] += Amount(row.count - row.rolled_count, row.total - row.rolled_total)
            add(connection, _amounts(coarse, sums))
            rolled = {"rolled_count": AMOUNT.c.count, "rolled_total": AMOUNT.c.total}
            connection.execute(AMOUNT.update().where(AMOUNT.c.per == fine, _has_more()).values(rolled))
            return len(changed)

        return self._database.run(work)

    def trim(self, keep: Mapping[Per, float], keep_applied: float) -> None:
        """Remove rows older than these seconds; rows of minutes and hours only if they are rolled up."""
        now = clock.time()

        def work(connection: Connection) -> None:
            take_turn(connection)
            for per, seconds in keep.items():
                old = sa.and_(AMOUNT.c.per == per, AMOUNT.c.start < int(now - seconds))
                connection.execute(AMOUNT.delete().where(old if per == "day" else sa.and_(old, sa.not_(_has_more()))))
            connection.execute(APPLIED.delete().where(APPLIED.c.at < int(now - keep_applied)))
            used = sa.select(AMOUNT.c.series).distinct()
            connection.execute(SERIES.delete().where(SERIES.c.id.not_in(used)))

        self._database.run(work)

    def read(self, per: Per, *, name: str | None = None, since: int = 0, until: int | None = None) -> list[Row]:
        """The sums by period and series, complete whether they are rolled up or not.

        :param since: begin of the first period. :param until: end, exclusive; both in seconds since the epoch.
        """
        width = SECONDS[per]
        finer = [each for each, seconds in SECONDS.items() if seconds < width]
        counts = (AMOUNT.c.per == per, AMOUNT.c.count, AMOUNT.c.total)
        rest = (AMOUNT.c.count - AMOUNT.c.rolled_count, AMOUNT.c.total - AMOUNT.c.rolled_total)
        parts = [counts, (sa.and_(AMOUNT.c.per.in_(finer), _has_more()), *rest)] if finer else [counts]
        sums: dict[tuple[int, str, str], Amount] = defaultdict(lambda: Amount(0, 0))
        with self._database.read() as connection:
            for condition, count, total in parts:
                query = sa.select(AMOUNT.c.start, SERIES.c.name, SERIES.c.tags, count.label("n"), total.label("total"))
                query = query.join(SERIES, SERIES.c.id == AMOUNT.c.series).where(condition)
                query = query.where(AMOUNT.c.start >= since // width * width)
                if until is not None:
                    query = query.where(AMOUNT.c.start < until)
                if name is not None:
                    query = query.where(SERIES.c.name == name)
                for row in connection.execute(query):
                    sums[row.start // width * width, row.name, row.tags] += Amount(row.n, row.total)
        return [
            Row(start, name, json.loads(tags), amount)
            for (start, name, tags), amount in sorted(sums.items())
            if amount.count
        ]


def _has_more() -> sa.ColumnElement[bool]:
    # Compare counts: a late -5 and +5 do not change the total.
    return AMOUNT.c.count != AMOUNT.c.rolled_count


def _new(connection: Connection, ids: Collection[str]) -> set[str]:
    """The ids that were not applied before. Stores them as applied."""
    found: set[str] = set()
    unique = list(dict.fromkeys(ids))
    for begin in range(0, len(unique), _CHUNK):
        chunk = unique[begin : begin + _CHUNK]
        found |= set(connection.execute(sa.select(APPLIED.c.id).where(APPLIED.c.id.in_(chunk))).scalars())
    fresh = [id for id in unique if id not in found]
    if fresh:
        connection.execute(APPLIED.insert(), [{"id": id, "at": int(clock.time())} for id in fresh])
    return set(fresh)


def _add_sums(connection: Connection, sums: Mapping[tuple[int, Series], Amount]) -> None:
    ids = {line: _series_id(connection, line) for line in sorted({line for _, line in sums})}
    by_id: dict[tuple[int, str], Amount] = defaultdict(lambda: Amount(0, 0))
    for (at, line), amount in sums.items():
        by_id[at, ids[line]] += amount
    add(connection, _amounts("minute", by_id))


def _amounts(per: Per, sums: Mapping[tuple[int, str], Amount]) -> list[dict[str, Any]]:
    return [
        {"per": per, "start": start, "series": series, "count": amount.count, "total": amount.total}
        for (start, series), amount in sorted(sums.items())
    ]


def _series_id(connection: Connection, line: Series) -> str:
    """The id of a series, created if there is room; else the id of the series "other"."""
    id = _digest(line)
    if _known(connection, id):
        return id
    counts = sa.select(sa.func.count()).select_from(SERIES)
    if (connection.scalar(counts) or 0) >= MOST_OF_ALL:
        line = Series("other", "{}")
    elif (connection.scalar(counts.where(SERIES.c.name == line.name)) or 0) >= MOST_SERIES:
        line = Series(line.name, OTHER)
    id = _digest(line)
    if not _known(connection, id):
        connection.execute(SERIES.insert().values(id=id, name=line.name, tags=line.tags))
    return id


def _known(connection: Connection, id: str) -> bool:
    return connection.scalar(sa.select(SERIES.c.id).where(SERIES.c.id == id)) is not None


def _digest(line: Series) -> str:
    return hashlib.sha256(f"{line.name} {line.tags}".encode()).hexdigest()[:32]
