"""A Redis of one test module, with an append-only file; it can be frozen, be away, and be looked into."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis
from services import START_TIMEOUT, free_port, program, wait_until


class Redis:
    """A Redis with an append-only file."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.directory = directory
        self.program = program("redis-server")
        self.start()

    def start(self) -> None:
        place = ["--port", str(self.port), "--dir", str(self.directory), "--bind", "127.0.0.1"]
        self.process = subprocess.Popen(
            [self.program, *place, "--appendonly", "yes", "--appendfsync", "no", "--save", ""],
            stdout=subprocess.DEVNULL,
        )
        wait_until(self.answers, START_TIMEOUT, what="Redis")

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()

    @contextmanager
    def away(self) -> Iterator[None]:
        """Nobody listens on its port."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Connections are taken, and nothing is answered."""
        os.kill(self.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.process.pid, signal.SIGCONT)
            # It does first what it was told meanwhile.
            wait_until(self.answers, START_TIMEOUT, what="Redis")

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url)

    def answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def empty(self) -> None:
        """It belongs to these tests alone."""
        with self.client() as client:
            client.flushdb()

    def held(self) -> bytes:
        """All that is in its memory."""
        with self.client() as client:
            return b"".join(client.dump(key) or b"" for key in client.scan_iter())

    def written(self) -> bytes:
        """All that it wrote to its disk."""
        return b"".join(path.read_bytes() for path in self.directory.rglob("*") if path.is_file())
