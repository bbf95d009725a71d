"""What queues in one database share."""

from __future__ import annotations

from sqlalchemy import make_url

from pijobs.storage.sql.dialects.dialect import Dialect
from pijobs.storage.sql.dialects.mariadb import Mariadb
from pijobs.storage.sql.dialects.sqlite import Sqlite
from pijobs.storage.sql.statements import statements_of

POSTGRESQL, MARIADB = make_url("postgresql+psycopg://db.example.com/pi"), make_url("mysql+pymysql://db.example.com/pi")


def test_the_queues_of_one_database_share_their_statements() -> None:
    assert statements_of(Dialect(POSTGRESQL)) is statements_of(Dialect(POSTGRESQL))
    assert statements_of(Sqlite(make_url("sqlite:////a"))) is statements_of(Sqlite(make_url("sqlite:////b")))


def test_databases_that_may_differ_in_their_release_share_none() -> None:
    others = [Dialect(POSTGRESQL.set(host="other.example.com")), Mariadb(MARIADB), Sqlite(make_url("sqlite:////a"))]
    assert len({id(statements_of(dialect)) for dialect in (Dialect(POSTGRESQL), *others)}) == 4
