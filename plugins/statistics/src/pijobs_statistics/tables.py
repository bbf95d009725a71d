"""The tables of the statistics.

A record is added to the row of its minute. ``rolled_…`` is the part of a row that the next coarser row contains
already. So late records are added later, and nothing is added twice.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.engine import Connection

METADATA = sa.MetaData()

SERIES = sa.Table(
    "pijobs_statistics_series",
    METADATA,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("name", sa.String(100), nullable=False, index=True),
    sa.Column("tags", sa.Text, nullable=False),
)
AMOUNT = sa.Table(
    "pijobs_statistics_amount",
    METADATA,
    sa.Column("per", sa.String(6), primary_key=True),
    sa.Column("start", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("series", sa.String(32), primary_key=True),
    sa.Column("count", sa.BigInteger, nullable=False),
    sa.Column("total", sa.BigInteger, nullable=False),
    sa.Column("rolled_count", sa.BigInteger, nullable=False, default=0),
    sa.Column("rolled_total", sa.BigInteger, nullable=False, default=0),
)
#: Ids of applied batches and of counted ends of jobs.
APPLIED = sa.Table(
    "pijobs_statistics_applied",
    METADATA,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("at", sa.BigInteger, nullable=False, index=True),
)
#: One row. Writers lock it first, so that they write one after the other.
TURN = sa.Table("pijobs_statistics_turn", METADATA, sa.Column("id", sa.Integer, primary_key=True, autoincrement=False))


def take_turn(connection: Connection) -> None:
    """Wait until no other transaction writes statistics."""
    if connection.dialect.name == "sqlite":
        return  # its transactions wait anyway
    if connection.execute(sa.select(TURN.c.id).with_for_update()).first() is None:
        # Of the first two writers, one fails here, and starts again.
        connection.execute(TURN.insert().values(id=1))


def add(connection: Connection, rows: list[dict[str, Any]]) -> None:
    """Add rows (``per``, ``start``, ``series``, ``count``, ``total``) to the stored ones."""
    if not rows:
        return
    name = connection.dialect.name
    if name in ("mysql", "mariadb"):
        theirs = mysql.insert(AMOUNT)
        new = theirs.inserted
        connection.execute(
            theirs.on_duplicate_key_update(count=AMOUNT.c.count + new.count, total=AMOUNT.c.total + new.total), rows
        )
        return
    insert: Any = (postgresql if name == "postgresql" else sqlite).insert(AMOUNT)
    new = insert.excluded
    values = {"count": AMOUNT.c.count + new.count, "total": AMOUNT.c.total + new.total}
    key = [AMOUNT.c.per, AMOUNT.c.start, AMOUNT.c.series]
    connection.execute(insert.on_conflict_do_update(index_elements=key, set_=values), rows)
