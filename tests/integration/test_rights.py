"""Servers that are too old, users that lack a right, and replicas are found out before the first job."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg
import pymysql  # type: ignore[import-untyped]
import pytest
import redis
import sqlalchemy as sa
from contract.workers import new_instance
from integration.redis_server import running
from redis_groups import Node

from pijobs.errors import StorageUnavailable, StorageUnfit
from pijobs.storage.redis import RedisStorage, trial
from pijobs.storage.redis.connection import unavailable, was_refused
from pijobs.storage.redis.topology import key_prefix
from pijobs.storage.sql import SqlStorage
from pijobs.storage.sql.dialects import dialect_for
from pijobs.storage.sql.tables import script

QUEUE = "rights"
PREFIX = key_prefix(QUEUE)
SetUser = Callable[..., RedisStorage]


# -- Redis -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def admin(redis_url: str) -> Iterator[Any]:
    with closing(redis.Redis.from_url(redis_url)) as client:
        yield client


@pytest.fixture
def as_user(admin: Any, redis_url: str) -> Iterator[SetUser]:
    """The storage as a user sees it who has the documented rights, but for some rules more."""
    name = f"user-{uuid4().hex}"
    opened = []

    def set_user(*more: str) -> RedisStorage:
        admin.execute_command("ACL", "SETUSER", name, "on", ">secret", *trial.acl_rules(PREFIX).split(), *more)
        parts = urlsplit(redis_url)
        url = urlunsplit(parts._replace(netloc=f"{name}:secret@{parts.netloc}"))
        opened.append(storage := RedisStorage(url, QUEUE))
        return storage

    yield set_user
    for storage in opened:
        storage.close()
    admin.execute_command("ACL", "DELUSER", name)


def test_the_documented_rights_are_enough_for_a_whole_life(as_user: SetUser) -> None:
    as_user().try_out()


def test_the_documentation_has_the_rule() -> None:
    text = Path(__file__).parents[2].joinpath("docs/how-to/configure.md").read_text()
    assert trial.acl_rules(key_prefix("privacyidea")) in " ".join(text.replace("\\\n", " ").split())


def test_a_redis_with_the_acl_file_lets_the_queue_work_and_nobody_else_in() -> None:
    file = Path(__file__).parents[2] / "contrib/redis/users.acl"
    default, user = file.read_text().splitlines()
    assert default == "user default off" and user.endswith(f" {trial.acl_rules(key_prefix('privacyidea'))}")
    with running("--aclfile", str(file), login=("pijobs", "CHANGE-THIS-PASSWORD")) as server:
        url = server.url.replace("//", "//pijobs:CHANGE-THIS-PASSWORD@")
        with closing(RedisStorage(url, "privacyidea")) as ours:
            ours.try_out()
        with (
            pytest.raises(redis.exceptions.AuthenticationError),
            closing(redis.Redis(port=server.port, protocol=2)) as stranger,
        ):
            stranger.ping()
        for command in ("FLUSHALL", "CONFIG GET *", "KEYS *", "GET other"):
            with pytest.raises(redis.exceptions.NoPermissionError):
                server.command(*command.split())


def test_the_table_has_all_commands_of_the_scripts_and_nothing_newer_than_redis_6_0() -> None:
    folder = files("pijobs.storage.redis") / "lua"
    text = "".join(one.read_text() for one in folder.iterdir())
    called = set(re.findall(r"(?:call|collect)\('([A-Z]+)'", text))
    assert called and called <= trial.COMMANDS.keys()
    assert not re.search(r"'(LT|GT|BYSCORE|BYLEX|REV|NX|GETDEL|COPY)'", text)


@pytest.mark.parametrize("command", sorted(trial.COMMANDS))
def test_a_user_who_lacks_one_command_is_told_which(as_user: SetUser, command: str) -> None:
    storage = as_user(f"-{command.lower()}")
    with pytest.raises(StorageUnfit, match=rf"(?i)\b{command}\b.*ACL SETUSER .*\+{command.lower()}\b"):
        storage.try_out()


def test_a_user_without_the_keys_is_told_the_rule(as_user: SetUser) -> None:
    storage = as_user("resetkeys", "~other*")
    with pytest.raises(StorageUnfit, match=r"ACL SETUSER … ~\{pijobs:rights\}:\*"):
        storage.ping()


def test_nothing_is_half_stored_by_a_user_who_lacks_a_command(as_user: SetUser, admin: Any) -> None:
    storage = as_user("-zadd")
    with pytest.raises(StorageUnfit, match="ZADD"):
        storage.enqueue(new_instance(id="half"), timeout=5)
    assert not admin.exists(f"{PREFIX}i:half")


def test_a_trial_leaves_no_key(redis_url: str, admin: Any) -> None:
    with closing(RedisStorage(redis_url, "tidy")) as storage:
        storage.enqueue(new_instance(), timeout=5)
        before = {*admin.scan_iter("{pijobs:tidy}:*")}
        storage.try_out()
        assert {*admin.scan_iter("{pijobs:tidy}:*")} == before


@pytest.mark.parametrize(
    ("options", "told"),
    [(("--min-replicas-to-write", "1"), "NOREPLICAS"), (("--replicaof", "127.0.0.1", "1"), "read-only replica")],
)
def test_a_redis_that_writes_nothing_is_found_out(options: tuple[str, ...], told: str) -> None:
    node = Node(*options)
    node.start()
    try:
        with closing(RedisStorage(f"redis://{node.host}/0", QUEUE)) as storage:
            storage.ping()  # it answers
            with pytest.raises(StorageUnavailable, match=told) as caught:
                storage.try_out()
            assert not isinstance(caught.value, StorageUnfit)  # it may pass
    finally:
        node.close()


@pytest.mark.parametrize(("version", "fits"), [("5.0.14", False), ("6.0.16", True), ("7.2.4", True), ("", True)])
def test_the_version_of_redis_is_looked_at(version: str, fits: bool) -> None:
    wire: Any = SimpleNamespace(ask_if_allowed=lambda *_: f"# Server\r\nredis_version:{version}\r\n".encode())
    if fits:
        trial.require_version(wire, 1)
    else:
        with pytest.raises(StorageUnfit, match=r"expected Redis 6\.0 or later, or Valkey, found Redis 5\.0\.14"):
            trial.require_version(wire, 1)


@pytest.mark.parametrize(
    ("error", "refused"),
    [
        (redis.exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), True),
        (redis.ReadOnlyError("You can't write against a read only replica."), True),
        (redis.BusyLoadingError("Redis is loading the dataset in memory"), True),
        (redis.ResponseError("NOREPLICAS Not enough good replicas to write. script: x"), True),
        (redis.ResponseError("Error running script (call to f_x): @user_script:5: -OOM command not allowed"), True),
        (redis.ResponseError("ERR syntax error script: x, on @user_script:90."), False),
        (redis.exceptions.NoPermissionError("User x has no permissions to run the 'zadd' command"), False),
        (redis.ResponseError("user_script:12: attempt to compare nil with number"), False),
        (redis.ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"), False),
        (redis.TimeoutError("Timeout reading from socket"), False),
        (redis.ConnectionError("Connection closed by server."), False),
    ],
)
def test_only_what_the_server_refuses_before_the_first_write_was_surely_not_done(
    error: Exception, refused: bool
) -> None:
    told = unavailable(error)
    told.__cause__ = error
    assert was_refused(told) is refused


# -- PostgreSQL and MariaDB ------------------------------------------------------------------------------------------


@pytest.fixture
def postgresql_role(postgresql_url: str) -> Iterator[tuple[str, str, Callable[[str], None]]]:
    """A role without the right to create, in a database of its own; its URL, its name, and what the DBA runs there."""
    name = f"role_{uuid4().hex}"
    url = sa.make_url(postgresql_url)
    options = {"host": url.query.get("host") or url.host, "user": url.username}
    with psycopg.connect(**options, dbname=url.database, autocommit=True) as connection:  # type: ignore[arg-type]
        connection.execute(f"CREATE ROLE {name} LOGIN")
        connection.execute(f"CREATE DATABASE {name}")

    def as_dba(sql: str) -> None:
        with psycopg.connect(**options, dbname=name, autocommit=True) as connection:  # type: ignore[arg-type]
            connection.execute(sql.encode())

    as_dba("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    yield url.set(username=name, database=name).render_as_string(hide_password=False), name, as_dba
    with psycopg.connect(**options, dbname=url.database, autocommit=True) as connection:  # type: ignore[arg-type]
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        connection.execute(f"DROP ROLE {name}")


def test_a_role_that_may_not_create_tables_is_told_so_and_works_with_those_of_a_dba(
    postgresql_role: tuple[str, str, Callable[[str], None]],
) -> None:
    url, name, as_dba = postgresql_role
    with closing(SqlStorage(url, QUEUE)) as storage:
        with pytest.raises(StorageUnfit, match=r"denied for schema public.*'pijobs schema' prints the SQL"):
            storage.try_out()
        as_dba(script(url, None))
        storage.try_out()
        assert storage.enqueue(new_instance(), timeout=5).fresh
        as_dba(f"REVOKE DELETE ON pijobs_total FROM {name}")
        storage.try_out()  # totals are never deleted
        as_dba(f"REVOKE UPDATE ON pijobs_session FROM {name}")
        with pytest.raises(StorageUnfit, match="permission denied for table pijobs_session"):
            storage.try_out()


@pytest.fixture
def mariadb_user(mariadb_url: str) -> Iterator[tuple[str, str, Callable[[str], None]]]:
    """A user without any right, in a database of its own; its URL, its name, and what the DBA runs there."""
    name = f"u{uuid4().hex[:20]}"
    url = sa.make_url(mariadb_url)
    options = {"unix_socket": url.query.get("unix_socket"), "user": url.username, "autocommit": True}

    def as_dba(sql: str, database: str | None = name) -> None:
        with pymysql.connect(**options, database=database) as connection, connection.cursor() as cursor:
            for statement in sql.split(";"):
                if statement.strip():
                    cursor.execute(statement)

    as_dba(f"CREATE DATABASE {name}; CREATE USER '{name}'@'%'", None)
    as_dba(f"GRANT SELECT ON {name}.* TO '{name}'@'%'")
    yield url.set(username=name, database=name).render_as_string(hide_password=False), name, as_dba
    as_dba(f"DROP DATABASE {name}; DROP USER '{name}'@'%'", None)


def test_a_user_of_mariadb_who_lacks_a_right_is_told_which(
    mariadb_user: tuple[str, str, Callable[[str], None]],
) -> None:
    url, name, as_dba = mariadb_user
    with closing(SqlStorage(url, QUEUE)) as storage:
        with pytest.raises(StorageUnfit, match="CREATE command denied to user"):
            storage.try_out()
        as_dba(script(url, None))
        storage.try_out()
        as_dba(f"REVOKE UPDATE ON pijobs_session FROM '{name}'@'%'")
    with closing(SqlStorage(url, QUEUE)) as storage, pytest.raises(StorageUnfit, match="UPDATE command denied"):
        storage.try_out()


@pytest.mark.parametrize(
    ("url", "told", "found"),
    [
        (
            "postgresql+psycopg://h/d",
            {"version": 110_022, "encoding": "UTF8"},
            "expected PostgreSQL 12 .*found .*11.22",
        ),
        ("postgresql+psycopg://h/d", {"version": 150_004, "encoding": "SQL_ASCII"}, "UTF8, found SQL_ASCII.*CREATE"),
        ("postgresql+psycopg://h/d", {"version": 150_004, "encoding": "LATIN1"}, "encoding UTF8, found LATIN1"),
        ("mysql+pymysql://h/d", {"server": "5.5.5-10.3.39-MariaDB-log"}, "expected MariaDB 10.6 or MySQL 8.0 or later"),
        ("mysql+pymysql://h/d", {"server": "5.7.44"}, "found version 5.7.44"),
        ("mysql+pymysql://h/d", {"server": "5.5.5-10.11.4-MariaDB"}, ""),
        ("mysql+pymysql://h/d", {"server": "11.4.2-MariaDB"}, ""),
        ("mysql+pymysql://h/d", {"server": "8.4.0"}, ""),
        ("postgresql+psycopg://h/d", {"version": 180_000, "encoding": "UTF8"}, ""),
    ],
)
def test_a_database_server_that_does_not_fit_is_refused_with_the_reason(
    url: str, told: dict[str, Any], found: str
) -> None:
    info = SimpleNamespace(
        server_version=told.get("version"), parameter_status={"server_encoding": told.get("encoding")}.get
    )
    connection = MagicMock(info=info, server_version=told.get("server"))
    dialect = dialect_for(sa.make_url(url))
    if not found:
        dialect.require_fit(connection)
        return
    with pytest.raises(StorageUnfit, match=found):
        dialect.require_fit(connection)


def test_a_database_that_cannot_hold_every_text_is_refused(postgresql_url: str) -> None:
    url = sa.make_url(postgresql_url)
    options = {"host": url.query.get("host") or url.host, "user": url.username}
    name = f"ascii_{uuid4().hex}"
    with psycopg.connect(**options, dbname=url.database, autocommit=True) as connection:  # type: ignore[arg-type]
        encoding = "ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        connection.execute(f"CREATE DATABASE {name} {encoding}")
        try:
            storage = SqlStorage(url.set(database=name).render_as_string(hide_password=False), QUEUE)
            with closing(storage), pytest.raises(StorageUnfit, match="encoding UTF8, found SQL_ASCII"):
                storage.enqueue(new_instance(), timeout=5)
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
