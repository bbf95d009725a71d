"""A Redis of one test module, with an append-only file; it can be frozen and looked into."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import redis
from services import START_TIMEOUT, free_port, missing, wait_until


class Redis:
    """A Redis with an append-only file, which can be frozen."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.directory = directory
        program = shutil.which("redis-server") or missing("redis-server")
        place = ["--port", str(self.port), "--dir", str(directory)]
        self.process = subprocess.Popen(
            [program, *place, "--bind", "127.0.0.1", "--appendonly", "yes", "--appendfsync", "no", "--save", ""],
            stdout=subprocess.DEVNULL,
        )
        wait_until(self.answers, START_TIMEOUT, what="Redis")

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def written(self) -> bytes:
        """All that Redis wrote to its disk."""
        return b"".join(path.read_bytes() for path in self.directory.rglob("*") if path.is_file())
