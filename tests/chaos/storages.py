"""Storage servers of a run's own, which lose nothing that they acknowledged, and may be killed and started again."""

from __future__ import annotations

import getpass
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import services
from acceptance.site import children
from integration.redis_server import program as redis_program
from services import START_TIMEOUT, free_port, wait_until


@dataclass
class Server:
    """:param target: its TCP port, or the path of its UNIX socket.
    :param proxy_url: the URL of its queue behind a proxy, with ``{}`` for the port of that.
    """

    command: list[str]
    place: Path
    ready: Callable[[], bool]
    target: int | str
    url: str
    proxy_url: str
    user: str | None = None
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Start it and wait until it answers. Right after a kill PostgreSQL may find its own remains: try again."""

        def up() -> bool:
            if self.process is None or self.process.poll() is not None:
                with (self.place / "log").open("ab") as output:
                    self.process = subprocess.Popen(  # type: ignore[call-overload]
                        self.command, cwd=self.place, stdout=output, stderr=output, **services._as_user(self.user)
                    )
            return self.ready()

        wait_until(up, START_TIMEOUT, what=f"the start of {self.command[0]}")

    @property
    def family(self) -> list[int]:
        assert self.process is not None
        return [self.process.pid, *children(self.process.pid)]

    def kill(self) -> None:
        """All of its processes at once, as if the host had failed (but for what the kernel still has to write)."""
        family = self.family
        self._signal(family, signal.SIGKILL)
        assert self.process is not None
        self.process.wait()
        wait_until(lambda: not any(map(_is_alive, family[1:])), what="the end of the storage's processes")

    def kill_child(self, number: int) -> None:
        """One of its processes, if it has several: PostgreSQL then ends all and recovers. Else the whole server."""
        family = self.family
        self._signal([family[number % len(family)]], signal.SIGKILL)

    def freeze(self) -> None:
        self._signal(self.family, signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(self.family, signal.SIGCONT)

    def _signal(self, pids: list[int], signum: signal.Signals) -> None:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signum)


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@contextmanager
def redis_server(*options: str) -> Iterator[Server]:
    """:param options: of the program, such as ``--appendfsync always``."""
    program = redis_program()
    with services._place() as place:
        port = free_port()
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(place), "--save", ""]
        server = Server(
            [*command, "--appendonly", "yes", *options], place, lambda: _answers_redis(port), port,
            f"redis://127.0.0.1:{port}/0", "redis://127.0.0.1:{}/0",
        )  # fmt: skip
        with _running(server):
            yield server


@contextmanager
def postgresql_server() -> Iterator[Server]:
    user = "postgres" if os.geteuid() == 0 else None
    with services._place(user) as place:
        data = place / "data"
        owner = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-sync"]
        services._run([services.program("initdb"), "--pgdata", str(data), *owner], place, user)
        command = [
            services.program("postgres"),
            "-D",
            str(data),
            "-k",
            str(place),
            "-c",
            "listen_addresses=",
            "-c",
            "max_connections=200",
        ]
        server = Server(
            command, place, lambda: services._answers_postgresql(place), f"{place}/.s.PGSQL.5432",
            f"postgresql+psycopg://postgres@/postgres?host={place}",
            "postgresql+psycopg://postgres@127.0.0.1:{}/postgres", user,
        )  # fmt: skip
        with _running(server):
            yield server


@contextmanager
def mariadb_server() -> Iterator[Server]:
    with services._place() as place:
        path = place / "mariadb.sock"
        common = ["--no-defaults", f"--datadir={place}/data", f"--user={getpass.getuser()}"]
        install = [services.program("mariadb-install-db"), *common, "--auth-root-authentication-method=normal"]
        services._run([*install, "--skip-test-db"], place)
        options = [f"--socket={path}", "--skip-networking", "--innodb-flush-log-at-trx-commit=1", "--skip-log-bin"]
        server = Server(
            [services.program("mariadbd"), *common, *options, f"--pid-file={place}/pid"], place,
            lambda: services._answers_mariadb(path), str(path), f"mysql+pymysql://root@localhost/pijobs?unix_socket={path}",
            "mysql+pymysql://root@127.0.0.1:{}/pijobs",
        )  # fmt: skip
        with _running(server):
            yield server


SERVERS: Mapping[str, Callable[[], AbstractContextManager[Server]]] = {
    "redis": partial(redis_server, "--appendfsync", "always"),
    "redis everysec": partial(redis_server, "--appendfsync", "everysec"),
    "postgresql": postgresql_server,
    "mariadb": mariadb_server,
}


@contextmanager
def _running(server: Server) -> Iterator[None]:
    try:
        server.start()
        yield
    finally:
        if server.process is not None and server.process.poll() is None:
            server.kill()


def _answers_redis(port: int) -> bool:
    import redis

    with redis.Redis(port=port) as client:
        try:
            return bool(client.ping())
        except (redis.ConnectionError, redis.exceptions.BusyLoadingError):
            return False
