"""The database of an installation: where it lies, its transactions, its errors, and forks."""

from __future__ import annotations

import errno
import importlib.util
import os
import re
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from processes import run_at_once

from pijobs.base.files import looking
from pijobs.database import Database
from pijobs.database.engine import parsed_url
from pijobs.errors import ConfigurationError, DatabaseConflict, DatabaseError, DatabaseUnavailable
from pijobs.settings import CORE_SETTINGS, Settings, validate

forks = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


def settings_in(directory: Path, url: str | None = None) -> Settings:
    return validate({"SECRET_KEY": "x" * 32, "SQLALCHEMY_DATABASE_URI": url}, CORE_SETTINGS, directory=directory)


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/pijobs.sqlite"
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def database(url: str, tmp_path: Path) -> Iterator[Database]:
    database = Database(url, tmp_path)
    yield database
    database.close()


@pytest.fixture
def numbers(database: Database) -> Iterator[sa.Table]:
    """A table of one's own, with the number 1."""
    metadata = sa.MetaData()
    table = sa.Table(f"pijobs_test_{uuid.uuid4().hex}", metadata, sa.Column("n", sa.Integer, primary_key=True))
    database.ensure(metadata)
    with database.begin() as connection:
        connection.execute(table.insert().values(n=1))
    yield table
    with database.begin() as connection:
        metadata.drop_all(connection)


def all_of(database: Database, numbers: sa.Table) -> list[int]:
    with database.read() as connection:
        return list(connection.execute(sa.select(numbers.c.n).order_by(numbers.c.n)).scalars())


def in_child(action: Callable[[], object]) -> str:
    """What it returned or raised in a forked process, as text."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            result = repr(action())
        except BaseException as error:
            result = f"{type(error).__name__}: {error}"
        os.write(writing, result.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        result = pipe.read()
    os.waitpid(child, 0)
    return result


# -- where it lies -------------------------------------------------------------------------------------------------


def test_without_a_setting_it_lies_beside_pi_cfg_for_its_owner_only(tmp_path: Path) -> None:
    with Database.of(settings_in(tmp_path)).begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (n INTEGER)")
        modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes.pop("pijobs.sqlite") == 0o600
    assert set(modes.values()) <= {0o600}


def test_nothing_is_made_before_the_first_transaction(tmp_path: Path) -> None:
    Database.of(settings_in(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_an_installation_has_one_database(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    assert Database.of(settings) is Database.of(settings)


def test_a_relative_file_lies_in_the_instance_folder_as_with_flask_sqlalchemy(tmp_path: Path) -> None:
    database = Database.of(settings_in(tmp_path, "sqlite:///mine.sqlite"))
    assert database.place == str(tmp_path / "instance" / "mine.sqlite")
    with database.begin():
        assert (tmp_path / "instance" / "mine.sqlite").exists()


def test_a_relative_file_where_releases_before_0_2_0_put_it_is_used_on(tmp_path: Path) -> None:
    (tmp_path / "mine.sqlite").touch()
    assert Database.of(settings_in(tmp_path, "sqlite:///mine.sqlite")).place == str(tmp_path / "mine.sqlite")


def test_a_look_makes_no_file(tmp_path: Path) -> None:
    metadata = sa.MetaData()
    sa.Table("t", metadata, sa.Column("n", sa.Integer))
    assert not Database.of(settings_in(tmp_path)).has(metadata)
    assert list(tmp_path.iterdir()) == []


def test_a_password_is_not_shown_with_the_place(tmp_path: Path) -> None:
    place = Database("postgresql+psycopg://pij:hunter2@db.example.com/x", tmp_path).place
    assert place == "postgresql+psycopg://pij:***@db.example.com/x"


def test_a_file_is_in_wal_mode(tmp_path: Path) -> None:
    with Database.of(settings_in(tmp_path)).begin() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


def test_a_database_in_memory_stays_from_one_transaction_to_the_next(tmp_path: Path) -> None:
    database = Database("sqlite://", tmp_path)
    with database.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t AS SELECT 7 AS n")
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT n FROM t").scalar() == 7
    database.close()


@pytest.mark.parametrize("url", ["nonsense", "nodatabase://host/x", "postgresql://u:hunter2@host:port/x"])
def test_a_url_that_can_not_be_read_is_refused_without_its_password(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="SQLALCHEMY_DATABASE_URI: expected") as caught:
        Database(url, tmp_path)
    assert "hunter2" not in str(caught.value)


@pytest.mark.skipif(importlib.util.find_spec("cx_Oracle") is not None, reason="the driver is installed")
def test_a_driver_that_is_not_installed_is_told_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"driver is installed, found .*; install pijobs\[postgresql\]"):
        Database("oracle+cx_oracle://u:hunter2@host/x", tmp_path).ensure(sa.MetaData())


# -- what is wrong with it -----------------------------------------------------------------------------------------


def test_a_folder_that_is_missing_is_told(tmp_path: Path) -> None:
    database = Database.of(settings_in(tmp_path / "nowhere"))
    expected = f"{tmp_path}/nowhere/pijobs.sqlite: expected a folder where .* found: No such file"
    with pytest.raises(DatabaseUnavailable, match=expected), database.begin():
        pass


@forks
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_folder_that_is_not_ours_is_told(tmp_path: Path) -> None:
    def ask() -> None:
        os.setuid(65534)
        Database(f"sqlite:///{tmp_path}/pijobs.sqlite", tmp_path).ensure(sa.MetaData())

    assert re.search(r"DatabaseUnavailable: .*pijobs.sqlite: expected a folder .* Permission denied", in_child(ask))


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "pijobs.sqlite").write_text("something else, and long enough to be read as one" * 100)
    with pytest.raises(DatabaseError, match=r"pijobs\.sqlite: .*not a database"):
        Database.of(settings_in(tmp_path)).ensure(sa.MetaData())


@pytest.mark.parametrize(
    "url", ["postgresql+psycopg://me:hunter2@127.0.0.1:1/x", "mysql+pymysql://me:hunter2@127.0.0.1:1/x"]
)
def test_a_server_that_is_away_is_told_without_the_password(url: str, tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailable, match=r"expected a database that answers, found: .*refused") as caught:
        Database(url, tmp_path).ensure(sa.MetaData())
    assert "hunter2" not in str(caught.value)


def test_a_refused_statement_is_told_without_its_values(database: Database, numbers: sa.Table) -> None:
    with pytest.raises(DatabaseError) as caught, database.begin() as connection:
        connection.execute(sa.text(f"INSERT INTO {numbers.name} (nothing) VALUES (:v)"), {"v": "hunter2"})
    assert "hunter2" not in f"{caught.value} {caught.value.__cause__}"


# -- transactions --------------------------------------------------------------------------------------------------


def test_an_exception_undoes_a_transaction(database: Database, numbers: sa.Table) -> None:
    with pytest.raises(ZeroDivisionError), database.begin() as connection:
        connection.execute(numbers.insert().values(n=2))
        _ = 1 / 0
    assert all_of(database, numbers) == [1]


def test_a_row_that_is_there_already_is_a_conflict(database: Database, numbers: sa.Table) -> None:
    with pytest.raises(DatabaseConflict), database.begin() as connection:
        connection.execute(numbers.insert().values(n=1))


def test_a_transaction_that_met_another_one_is_begun_anew(database: Database, numbers: sa.Table) -> None:
    tried = iter([1, 1, 2])

    def work(connection: sa.Connection) -> int:
        n = next(tried)
        connection.execute(numbers.insert().values(n=n))
        return n

    assert database.run(work) == 2
    assert all_of(database, numbers) == [1, 2]


def test_a_conflict_that_stays_is_told(database: Database, numbers: sa.Table) -> None:
    with pytest.raises(DatabaseConflict):
        database.run(lambda connection: connection.execute(numbers.insert().values(n=1)))


def test_a_reader_does_not_wait_for_a_writer(database: Database, numbers: sa.Table) -> None:
    with database.begin() as connection:
        connection.execute(numbers.insert().values(n=2))
        assert all_of(database, numbers) == [1]
    assert all_of(database, numbers) == [1, 2]


def test_threads_that_read_and_write_do_not_lose_anything(database: Database, numbers: sa.Table) -> None:
    def add_one(connection: sa.Connection) -> None:
        number = connection.execute(sa.select(numbers.c.n).with_for_update()).scalar_one()
        connection.execute(numbers.update().values(n=number + 1))

    def count_up() -> None:
        for _ in range(5):
            database.run(add_one)

    threads = [threading.Thread(target=count_up) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all_of(database, numbers) == [21]


# -- tables --------------------------------------------------------------------------------------------------------

CREATE = """
import sys, pathlib, sqlalchemy as sa
from pijobs.database import Database
from pijobs.database.engine import parsed_url
url, name = sys.argv[1:]
metadata = sa.MetaData()
for number in range(5):
    sa.Table(f"{name}_{number}", metadata, sa.Column("n", sa.Integer, primary_key=True))
database = Database(url, pathlib.Path())
print("ready", flush=True)
sys.stdin.read()
database.ensure(metadata)
"""


def test_tables_may_be_created_by_several_processes_at_once(url: str, database: Database) -> None:
    name = f"pijobs_test_{uuid.uuid4().hex}"
    run_at_once(*([CREATE, url, name] for _ in range(3)))
    with database.begin() as connection:
        created = [table for table in sa.inspect(connection).get_table_names() if table.startswith(name)]
        for table in created:
            connection.execute(sa.text(f"DROP TABLE {table}"))
    assert len(created) == 5


def test_tables_that_vanished_are_created_again_after_the_error(tmp_path: Path) -> None:
    metadata = sa.MetaData()
    table = sa.Table("t", metadata, sa.Column("n", sa.Integer, primary_key=True))
    database = Database.of(settings_in(tmp_path))
    database.ensure(metadata)
    for path in tmp_path.iterdir():
        path.unlink()
    with pytest.raises(DatabaseError, match="no such table"):
        all_of(database, table)
    database.ensure(metadata)
    assert all_of(database, table) == []


# -- forks ---------------------------------------------------------------------------------------------------------


@forks
def test_a_database_used_before_a_fork_works_in_parent_and_child(database: Database, numbers: sa.Table) -> None:
    def add() -> list[int]:
        with database.begin() as connection:
            connection.execute(numbers.insert().values(n=2))
        return all_of(database, numbers)

    assert in_child(add) == "[1, 2]"
    assert all_of(database, numbers) == [1, 2]


@forks
@pytest.mark.parametrize("url", ["postgresql", "mariadb"], indirect=True)
def test_a_child_has_connections_of_its_own(database: Database, numbers: sa.Table) -> None:
    def connection_id() -> int:
        function = sa.func.pg_backend_pid() if "postgresql" in repr(database) else sa.func.connection_id()
        with database.read() as connection:
            return int(connection.execute(sa.select(function)).scalar_one())

    before = connection_id()
    assert in_child(connection_id) != str(before)
    assert connection_id() == before


def test_a_folder_that_may_not_be_looked_into_is_no_older_place(tmp_path: Path) -> None:
    """A command that another user starts in the folder of root."""
    closed = tmp_path / ("x" * 300)  # it can't be looked into, by root neither
    assert parsed_url("sqlite:///file", tmp_path, closed).database == f"{tmp_path}/file"
    assert parsed_url("sqlite:///file", closed, tmp_path).database == f"{closed}/file"
    assert not Database("sqlite:///file", closed).has(sa.MetaData())


def test_a_database_that_may_not_be_looked_at_is_not_taken_for_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """'pijobs keys retire' by another user would say that nothing needs the old key."""
    database = Database("sqlite:///file", tmp_path / "closed")

    def refuse(*_: object, **__: object) -> os.stat_result:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(DatabaseUnavailable, match="expected a folder that this user may look into"):
        database.has(sa.MetaData())
    with looking(), pytest.raises(DatabaseUnavailable, match="may look into"), database.read():
        pass
