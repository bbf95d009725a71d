"""A queue and definitions behind a PgBouncer that lends sessions for one transaction each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
import sqlalchemy as sa
from contract.workers import Worker, new_instance
from services import _place, _running, free_port, program

from pijobs.database import Database
from pijobs.jobs import State
from pijobs.storage.sql import SqlStorage

CONFIG = """
[databases]
* = {server}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 3
ignore_startup_parameters = extra_float_digits
"""


@pytest.fixture(scope="module")
def pooled_url(postgresql_url: str) -> Iterator[str]:
    """The database by way of a PgBouncer with three sessions."""
    binary = program("pgbouncer")
    url = sa.make_url(postgresql_url)
    host, port = url.query.get("host") or url.host, free_port()
    # It refuses to run as root.
    user = "postgres" if os.geteuid() == 0 else None
    with _place(user) as place:
        config = place / "pgbouncer.ini"
        config.write_text(CONFIG.format(server=f"host={host} user={url.username}", port=port))
        config.chmod(0o644)
        pooled = url.set(host="127.0.0.1", port=port, query={})

        def answers() -> bool:
            try:
                psycopg.connect(host="127.0.0.1", port=port, user=url.username, dbname=url.database).close()
            except psycopg.OperationalError:
                return False
            return True

        with _running([binary, str(config)], place, answers, user):
            yield pooled.render_as_string(hide_password=False)


@pytest.fixture
def storage(pooled_url: str) -> Iterator[SqlStorage]:
    with closing(SqlStorage(pooled_url, f"pooled-{uuid4().hex}")) as one:
        one.ping()
        yield one


def test_every_enqueue_is_stored(storage: SqlStorage) -> None:
    with ThreadPoolExecutor(8) as threads:
        stored = list(threads.map(lambda _: storage.enqueue(new_instance(), timeout=20), range(200)))
    assert all(one.fresh for one in stored)
    assert storage.depths().counts == {("test.job", State.QUEUED): 200}


def test_a_whole_life_is_lived(storage: SqlStorage) -> None:
    for _ in range(8):  # psycopg would prepare what it runs for the sixth time
        storage.try_out()


def test_workers_run_each_instance_once(storage: SqlStorage) -> None:
    ids = {storage.enqueue(new_instance(), timeout=20).id for _ in range(60)}

    def work(_: int) -> list[str]:
        worker, ran = Worker(storage, lambda ms: None), []
        while leases := worker.step(want=3).leases:
            for lease in leases:
                assert worker.end(lease, State.DONE).lost == []
                ran.append(lease.id)
            assert worker.beat().alive
        return ran

    with ThreadPoolExecutor(4) as threads:
        ran = [one for part in threads.map(work, range(4)) for one in part]
    assert sorted(ran) == sorted(ids)


def test_sessions_are_left_as_they_were(storage: SqlStorage, pooled_url: str) -> None:
    for _ in range(10):
        storage.enqueue(new_instance(), timeout=20)
    url = sa.make_url(pooled_url)
    with psycopg.connect(
        host=url.host, port=url.port or 0, user=url.username, dbname=url.database, prepare_threshold=None
    ) as other:
        row = other.execute(
            "SELECT current_setting('statement_timeout'), current_setting('idle_in_transaction_session_timeout'), "
            "(SELECT count(*) FROM pg_prepared_statements)"
        ).fetchone()
    assert row == ("0", "0", 0)


def test_definitions_are_read_and_written(pooled_url: str, tmp_path: Path) -> None:
    database = Database(pooled_url, tmp_path)
    metadata = sa.MetaData()
    table = sa.Table(f"pijobs_test_{uuid4().hex}", metadata, sa.Column("n", sa.Integer, primary_key=True))
    database.ensure(metadata)

    def add(number: int) -> int:
        with database.begin() as connection:
            connection.execute(table.insert().values(n=number))
        with database.read() as connection:
            return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())

    with ThreadPoolExecutor(4) as threads:
        assert max(threads.map(add, range(40))) == 40
    with database.begin() as connection:
        metadata.drop_all(connection)
    database.close()
