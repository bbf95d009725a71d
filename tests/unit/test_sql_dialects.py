"""What queues in one database share, and what they ask of a driver."""

from __future__ import annotations

import pytest
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


@pytest.mark.parametrize(
    ("query", "disabled"),
    [
        ({}, None),
        ({"unix_socket": "/run/mysqld/mysqld.sock"}, True),
        ({"unix_socket": "/run/mysqld/mysqld.sock", "ssl_ca": "/etc/ssl/db.pem"}, None),
    ],
)
def test_a_connection_by_a_unix_socket_reads_no_certificates(query: dict[str, str], disabled: bool | None) -> None:
    assert Mariadb(MARIADB.set(query=query)).connect_args().get("ssl_disabled") is disabled
