"""Real servers for the tests: found by an environment variable, or started on a place of their own and thrown away.

:mod:`programs` has the table of what can be started. A missing program skips the tests that need it, unless
``PIJOBS_REQUIRE_SERVICES=1`` (continuous integration), where it fails them.
"""

from __future__ import annotations

import fcntl
import getpass
import os
import pwd
import random
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn
from uuid import uuid4

import preloaded
import programs
import pytest
import shared

START_TIMEOUT = 120.0
#: Seconds that a program may take on a busy machine, before the test gives it up.
PROGRAM = 300.0
#: What :func:`free_port` gives out.
PORTS = range(11_000, 21_000)
#: The database of this process in a server of the run.
DATABASE = f"pijobs_{os.getpid()}"


def wait_until(predicate: Callable[[], bool], timeout: float = 120.0, *, what: str = "the condition") -> None:
    """Ask ``predicate`` until it says yes; fail after ``timeout`` seconds."""
    began = time.monotonic()
    while not predicate():
        waited = time.monotonic() - began
        if waited > timeout:
            pytest.fail(f"{what} did not come true within {timeout:g} s")
        # To ask takes processor time from what is waited for.
        time.sleep(min(max(0.002, waited / 20), 0.1))


def missing(what: str) -> NoReturn:
    """Skip the test, or fail it where all services are required."""
    if os.environ.get("PIJOBS_REQUIRE_SERVICES") == "1":
        pytest.fail(f"{what} is required by PIJOBS_REQUIRE_SERVICES=1, but was not found")
    pytest.skip(f"{what} was not found")


def program(name: str) -> str:
    """The path of a program of the table; skips the test, or fails it, where it or its user is missing."""
    row = programs.row(name)
    if row is None:
        pytest.fail(f"{name} is not in the table of programs; add a row to tests/programs.py")
    path = programs.find(row) or missing(f"{name} (Debian: {row.packages or 'each system'})")
    if row.user and os.geteuid() == 0 and not _has_user(row.user):
        missing(f"the user {row.user}, which {name} needs when the tests run as root,")
    return path


def free_port() -> int:
    """A port on the loopback interface that nobody listens on, and that no other test of this machine gets.

    Not one of those that the kernel gives to outgoing connections. While a server is down, such a connection could
    take its port: even one to that port itself, which then is connected to itself. The bus of a Redis Cluster uses the
    port 10,000 above, so that is not given out, either.
    """
    with (Path(tempfile.gettempdir()) / f"pijobs-test-port-{os.getuid()}").open("a+") as last:
        fcntl.flock(last, fcntl.LOCK_EX)
        last.seek(0)
        begin = int(last.read() or random.choice(PORTS)) + 1 - PORTS.start
        port = next(port for port in (PORTS[(begin + n) % len(PORTS)] for n in range(len(PORTS))) if _is_free(port))
        last.truncate(0)
        last.write(str(port))
    return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A Redis: ``PIJOBS_TEST_REDIS_URL``, or a private one."""
    if url := os.environ.get("PIJOBS_TEST_REDIS_URL"):
        yield url
        return
    with _place() as place:
        port = free_port()
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(place)]
        with _running([program("redis-server"), *options], place, lambda: _listens(port)):
            yield f"redis://127.0.0.1:{port}/0"


@pytest.fixture(scope="session")
def postgresql_url() -> str:
    """A PostgreSQL database: ``PIJOBS_TEST_POSTGRESQL_URL``, or one of this process in the server of the run."""
    import psycopg

    if url := os.environ.get("PIJOBS_TEST_POSTGRESQL_URL"):
        return url
    host = shared.server("postgresql")
    with psycopg.connect(host=host, user="postgres", dbname="postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {DATABASE}")
    return f"postgresql+psycopg://postgres@/{DATABASE}?host={host}"


@pytest.fixture(scope="session")
def mariadb_url() -> str:
    """A MariaDB database: ``PIJOBS_TEST_MARIADB_URL``, or one of this process in the server of the run."""
    import pymysql  # type: ignore[import-untyped]

    if url := os.environ.get("PIJOBS_TEST_MARIADB_URL"):
        return url
    path = shared.server("mariadb")
    with pymysql.connect(unix_socket=path, user="root") as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {DATABASE} CHARACTER SET utf8mb4")
    # Without TLS: PyMySQL would read all certificates of the system for each connection, which takes 20 ms.
    return f"mysql+pymysql://root@localhost/{DATABASE}?unix_socket={path}&ssl_disabled=true"


@contextmanager
def _postgresql() -> Iterator[str]:
    """Start a private one. It is reached by the folder of its UNIX socket."""
    # PostgreSQL refuses to run as root.
    user = "postgres" if os.geteuid() == 0 else None
    with _place(user) as place:
        data = place / "data"
        owner = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-sync"]
        _run([program("initdb"), "--pgdata", str(data), *owner], place, user)
        options = ["-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=500"]
        server = [program("postgres"), "-D", str(data), "-k", str(place), *options]
        with _running(server, place, lambda: _answers_postgresql(place), user):
            yield str(place)


@contextmanager
def _mariadb() -> Iterator[str]:
    """Start a private one. It is reached by its UNIX socket."""
    with _place() as place:
        path = place / "mariadb.sock"
        # In a folder for all, a server that starts removes the temporary tables of another one.
        common = ["--no-defaults", f"--datadir={place}/data", f"--tmpdir={place}", f"--user={getpass.getuser()}"]
        install = [program("mariadb-install-db"), *common, "--auth-root-authentication-method=normal"]
        _run([*install, "--skip-test-db"], place)
        options = [f"--socket={path}", "--skip-networking", "--innodb-flush-log-at-trx-commit=0", "--skip-log-bin"]
        server = [program("mariadbd"), *common, *options, "--max-connections=500", f"--pid-file={place}/pid"]
        with _running(server, place, lambda: _answers_mariadb(path)):
            yield str(path)


@contextmanager
def _programs() -> Iterator[str]:
    """What starts ``pijobs …`` quickly; see :mod:`preloaded`."""
    with _place() as place, preloaded.importing(place, preloaded.PIJOBS) as socket_path:
        yield str(socket_path)


STARTERS: shared.Starters = {"postgresql": _postgresql, "mariadb": _mariadb, "programs": _programs}


def _has_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


@contextmanager
def _place(user: str | None = None) -> Iterator[Path]:
    # Not below pytest's own directory: that is closed to other users, and too long for the path of a socket.
    place = Path(tempfile.mkdtemp(prefix="pijobs-"))
    try:
        if user:
            shutil.chown(place, user)
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _as_user(user: str | None) -> dict[str, object]:
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []} if user else {}


def _run(command: list[str], place: Path, user: str | None = None) -> None:
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, **_as_user(user))  # type: ignore[call-overload]
    if done.returncode:
        pytest.fail(f"{command[0]} failed: {done.stdout}{done.stderr}")


@contextmanager
def _running(command: list[str], place: Path, ready: Callable[[], bool], user: str | None = None) -> Iterator[None]:
    log = place / "log"
    with log.open("wb") as output:
        server = subprocess.Popen(  # type: ignore[call-overload]
            command, cwd=place, stdout=output, stderr=subprocess.STDOUT, **_as_user(user)
        )
    try:

        def up() -> bool:
            if server.poll() is not None:
                pytest.fail(f"{command[0]} ended with {server.returncode}: {log.read_text(errors='replace')[-2000:]}")
            return ready()

        wait_until(up, START_TIMEOUT, what=f"the start of {command[0]}")
        yield
    finally:
        # SIGINT: PostgreSQL would wait for its clients after SIGTERM.
        server.send_signal(2 if user or "postgres" in command[0] else 15)
        try:
            server.wait(120)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _answers_postgresql(place: Path) -> bool:
    import psycopg

    try:
        psycopg.connect(host=str(place), user="postgres", dbname="postgres").close()
    except psycopg.OperationalError:
        return False
    return True


def _answers_mariadb(path: Path) -> bool:
    import pymysql

    # A refused connection would be left unclosed by pymysql.
    with socket.socket(socket.AF_UNIX) as probe:
        if probe.connect_ex(str(path)):
            return False
    try:
        connection = pymysql.connect(unix_socket=str(path), user="root")
    except pymysql.err.OperationalError:
        return False
    with connection, connection.cursor() as cursor:
        cursor.execute("CREATE DATABASE IF NOT EXISTS pijobs CHARACTER SET utf8mb4")
    return True


def own_database(url: str) -> str:
    """The URL of a new database of this server, for what holds for a whole database, which other tests use, too."""
    import sqlalchemy as sa

    name = f"own_{uuid4().hex}"
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    engine.dispose()
    return sa.make_url(url).set(database=name).render_as_string(hide_password=False)
