"""The tables of definitions."""

from __future__ import annotations

import sqlalchemy as sa

from pijobs.database import exact_text, long_text
from pijobs.definitions.fields import IDENTIFIER, MAX_IDENTIFIER

metadata = sa.MetaData()
table = sa.Table(
    "pijobs_definition",
    metadata,
    sa.Column("kind", exact_text(50), primary_key=True),
    sa.Column(IDENTIFIER, exact_text(MAX_IDENTIFIER), primary_key=True),
    # A JSON object of the fields that are not secret: a new field needs no new table.
    sa.Column("content", long_text(), nullable=False),
    # A JSON object of the secret fields: field → [key id, Base64 of what the key made of the value's JSON].
    sa.Column("secrets", long_text(), nullable=False),
    mysql_engine="InnoDB",
    mariadb_engine="InnoDB",
)

#: These tables are newer than the definitions, so not every database has them.
remembered = sa.MetaData()
deleted = sa.Table(
    "pijobs_definition_deleted",
    remembered,
    sa.Column("kind", exact_text(50), primary_key=True),
    sa.Column(IDENTIFIER, exact_text(MAX_IDENTIFIER), primary_key=True),
    # The time in ms, by the clock of the host that deleted it; only for the order.
    sa.Column("at", sa.BigInteger(), nullable=False),
    mysql_engine="InnoDB",
    mariadb_engine="InnoDB",
)
identity = sa.Table(
    "pijobs_database",
    remembered,
    # Always 1: there is one row.
    sa.Column("one", sa.Integer(), primary_key=True, autoincrement=False),
    sa.Column("id", exact_text(32), nullable=False),
    mysql_engine="InnoDB",
    mariadb_engine="InnoDB",
)
