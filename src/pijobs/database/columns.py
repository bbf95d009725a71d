"""Types of columns that mean the same in each database."""

from __future__ import annotations

from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

T = TypeVar("T")


def exact_text(length: int) -> sa.types.TypeEngine[str]:
    """A column of texts that differ by case; MariaDB compares without regard to it unless told.

    :param length: characters.
    """
    return _for_mariadb(sa.String(length), mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin"))


def long_text() -> sa.types.TypeEngine[str]:
    """A column of texts of any length; MariaDB's own TEXT ends at 64 kB."""
    return _for_mariadb(sa.Text(), mysql.MEDIUMTEXT())


def _for_mariadb(general: sa.types.TypeEngine[T], special: sa.types.TypeEngine[T]) -> sa.types.TypeEngine[T]:
    """A type of column that MariaDB and MySQL spell in their own way."""
    # One by one: SQLAlchemy 1.4, which comes with older hosts, takes no two names.
    return general.with_variant(special, "mysql").with_variant(special, "mariadb")
