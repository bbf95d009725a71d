"""The tables of definitions."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from pijobs.database import for_mariadb
from pijobs.definitions.fields import IDENTIFIER, MAX_IDENTIFIER


def _name(length: int) -> sa.types.TypeEngine[str]:
    # MariaDB compares without regard to case unless told.
    exact = mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin")
    return for_mariadb(sa.String(length), exact)


def _json() -> sa.types.TypeEngine[str]:
    return for_mariadb(sa.Text(), mysql.MEDIUMTEXT())


metadata = sa.MetaData()
table = sa.Table(
    "pijobs_definition",
    metadata,
    sa.Column("kind", _name(50), primary_key=True),
    sa.Column(IDENTIFIER, _name(MAX_IDENTIFIER), primary_key=True),
    # A JSON object of the open fields: a field that is added later needs no new table.
    sa.Column("content", _json(), nullable=False),
    # A JSON object of the secret fields: field → [key id, Base64 of what the key made of the value's JSON].
    sa.Column("secrets", _json(), nullable=False),
    mysql_engine="InnoDB",
    mariadb_engine="InnoDB",
)

#: Made by a release after the one that made the definitions, so they are not there in every database that has those.
remembered = sa.MetaData()
deleted = sa.Table(
    "pijobs_definition_deleted",
    remembered,
    sa.Column("kind", _name(50), primary_key=True),
    sa.Column(IDENTIFIER, _name(MAX_IDENTIFIER), primary_key=True),
    # When, in ms on the clock of the host that deleted it; only for the order.
    sa.Column("at", sa.BigInteger(), nullable=False),
    mysql_engine="InnoDB",
    mariadb_engine="InnoDB",
)
identity = sa.Table(
    "pijobs_database",
    remembered,
    # Always 1: there is one row.
    sa.Column("one", sa.Integer(), primary_key=True, autoincrement=False),
    sa.Column("id", _name(32), nullable=False),
    mysql_engine="InnoDB",
    mariadb_engine="InnoDB",
)
