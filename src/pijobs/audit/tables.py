"""The tables of the audit log."""

from __future__ import annotations

import sqlalchemy as sa

from pijobs.database import long_text

metadata = sa.MetaData()
entries = sa.Table(
    "pijobs_audit",
    metadata,
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("at", sa.BigInteger, nullable=False),  # ms since the epoch
    sa.Column("key", sa.String(8), nullable=False),
    # Keyed hashes of the persons.
    sa.Column("who", sa.String(32), nullable=False, index=True),
    sa.Column("about", sa.String(32), nullable=False, index=True),
    sa.Column("body", long_text(), nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("seal", sa.String(32), nullable=False),
    # The personal texts as JSON; NULL: erased.
    sa.Column("plain", long_text(), nullable=True),
    mysql_engine="InnoDB",
    mariadb_engine="InnoDB",
)
#: The end of the chain. Writers lock its one row, so that they append one after the other.
head = sa.Table(
    "pijobs_audit_head",
    metadata,
    sa.Column("one", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    mysql_engine="InnoDB",
    mariadb_engine="InnoDB",
)
