"""Redis servers of a test's own, which it may stop, fill up and reconfigure."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import redis
import services
from services import free_port, wait_until

from pijobs.storage.contract import Storage
from pijobs.storage.redis import RedisStorage
from pijobs.storage.sessions import SessionInfo
from pijobs.storage.values import NewInstance

LONG = 600_000


class Server:
    """One running redis-server."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, place: Path, password: str | None) -> None:
        self.process, self.port, self.place = process, port, place
        self.url = f"redis://127.0.0.1:{port}/0"
        self.client = redis.Redis(port=port, password=password)

    def command(self, *words: str | int) -> Any:
        return self.client.execute_command(*words)  # type: ignore[no-untyped-call]

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def answers(self) -> bool:
        assert self.process.poll() is None, "redis-server has ended"
        try:
            return bool(self.client.ping())
        except redis.exceptions.NoPermissionError:
            return True
        except redis.ConnectionError:
            return False


def program() -> str:
    """The path of the server; skips the test when there is none."""
    return services.program("redis-server")


@contextmanager
def sentinel_of(server: Server) -> Iterator[Server]:
    """A Redis Sentinel that knows ``server`` as ``main``."""
    config = server.place / "sentinel.conf"
    config.write_text(f"sentinel monitor main 127.0.0.1 {server.port} 1\n")
    with running(str(config), "--sentinel") as sentinel:
        yield sentinel


@contextmanager
def running(
    *options: str, port: int | None = None, password: str | None = None, login: tuple[str, str] | None = None
) -> Iterator[Server]:
    """Start a server, and end it whatever state it is in.

    :param login: of a user whom the options name.
    """
    place = Path(tempfile.mkdtemp(prefix="pijobs-redis-"))
    port = port or free_port()
    is_sentinel = "--sentinel" in options
    command = [program(), *(options if is_sentinel else ())]
    command += ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(place)]
    command += [] if is_sentinel else ["--save", "", *options]
    command += ["--requirepass", password] if password else []
    process = subprocess.Popen(command, cwd=place, stdout=subprocess.DEVNULL)
    server = Server(process, port, place, password)
    if login is not None:
        server.client = redis.Redis(port=port, username=login[0], password=login[1])
    try:
        wait_until(server.answers, what="the start of redis-server")
        yield server
    finally:
        server.client.close()
        process.kill()
        process.wait()
        shutil.rmtree(place, ignore_errors=True)


@contextmanager
def opened(url: str, *, password: str | None = None) -> Iterator[RedisStorage]:
    """A storage for a queue of its own."""
    storage = RedisStorage(url, f"test-{uuid4().hex}", password=password)
    try:
        yield storage
    finally:
        storage.close()


def new_instance(**changes: object) -> NewInstance:
    fields: dict[str, object] = {
        "id": uuid4().hex, "name": "test.job", "envelope": b"envelope", "body": b"body", "group": "test.job"
    }  # fmt: skip
    return NewInstance(**{**fields, **changes})  # type: ignore[arg-type]


def open_session(storage: Storage) -> str:
    session = uuid4().hex
    info = SessionInfo(id=session, host="host", pid=1, started=storage.now(), version="1")
    storage.open_session(info, lease=LONG)
    return session
