"""pijobs beside plain huey, as privacyIDEA configures it, on the same Redis, in one run: look at the ratios.

    python benchmarks/queue.py redis://127.0.0.1:6379/15 [--jobs 5000] [--json]

huey: ``RedisHuey(results=False, store_none=False)``, pickle, no lease. Both run a job that does nothing, with the
arguments of a mail (about 1.5 kB), in one worker process with one thread, logging to a file at level INFO as they do by
default.
"""

from __future__ import annotations

import sys

sys.path.pop(0)  # this folder: a module "queue" in it would hide the one of the standard library

import argparse
import json
import logging
import os
import statistics
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
from huey import RedisHuey

from pijobs.factory import build
from pijobs.jobs import State
from pijobs.settings import read_config

HERE = Path(__file__).resolve()
JOBS = HERE.parent / "jobs"
sys.path.insert(0, str(JOBS))

from bench_jobs import nothing  # noqa: E402

MAIL = {
    "config": {"id": 7, "identifier": "main", "server": "mail.example.com", "port": 587, "username": "otp",
               "password": "0123456789abcdef" * 4, "sender": "otp@example.com", "tls": True, "timeout": 10,
               "enqueue_job": True, "smime": False, "dont_send_on_error": False, "private_key": "",
               "private_key_password": "", "certificate": "", "description": "the mail server of the company"},
    "recipient": ["alice@example.com"], "subject": "Your OTP", "body": "Your one-time password is 123456. " * 22,
    "sender": "otp@example.com", "reply_to": None, "mimetype": "plain",
}  # fmt: skip


class Huey:
    """Plain huey."""

    name = "huey"

    def __init__(self, url: str, folder: Path, queue: str) -> None:
        self.url, self.folder, self.queue = url, folder, queue
        self.huey = RedisHuey(queue, url=url, results=False, store_none=False)
        self.task = self.huey.task(name="bench")(nothing)

    def enqueue(self) -> None:
        self.task(**MAIL)

    def left(self) -> int:
        return int(self.huey.pending_count())

    def command(self) -> list[str]:
        return [sys.executable, str(HERE), "--work", self.queue, self.url, str(self.folder / "huey.log")]


class Pijobs:
    """pijobs."""

    name = "pijobs"

    def __init__(self, url: str, folder: Path, queue: str) -> None:
        self.config = folder / "pi.cfg"
        self.folder = folder
        self.config.write_text(
            f"SECRET_KEY = 'benchmark'\nPI_JOB_QUEUE_CLASS = 'pijobs.HueyQueue'\nPI_JOB_QUEUE_URL = {url!r}\n"
            f"PI_JOB_QUEUE_NAME = {queue!r}\nPI_JOB_QUEUE_PLUGINS = ('bench_jobs',)\n"
        )
        self.config.chmod(0o600)
        self.made = build(read_config(self.config), directory=folder).queue
        assert self.made.storage is not None
        self.storage = self.made.storage

    def enqueue(self) -> None:
        self.made.enqueue("bench.nothing", kwargs=MAIL)

    def left(self) -> int:
        counts = self.storage.depths().counts
        return sum(number for (_, state), number in counts.items() if state in (State.QUEUED, State.RUNNING))

    def command(self) -> list[str]:
        return [sys.executable, "-m", "pijobs", "--config", str(self.config), "worker", "-w", "1",
                "-l", str(self.folder / "pijobs.log")]  # fmt: skip


@contextmanager
def worker(kind: Huey | Pijobs) -> Iterator[subprocess.Popen[bytes]]:
    """One worker process."""
    environment = {**os.environ, "PYTHONPATH": str(JOBS)}
    process = subprocess.Popen(kind.command(), env=environment, cwd=kind.folder)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(40)


def wait_for(done: Callable[[], bool], what: str, timeout: float = 120) -> None:
    end = time.monotonic() + timeout
    while not done():
        if time.monotonic() > end:
            raise SystemExit(f"{what} did not happen within {timeout:g} s")
        time.sleep(0.005)


def enqueue_times(kinds: list[Any], number: int) -> dict[str, float]:
    """Median seconds of one enqueue, taken in turns so that both see the same machine."""
    times: dict[str, list[float]] = {kind.name: [] for kind in kinds}
    for _ in range(number):
        for kind in kinds:
            start = time.perf_counter()
            kind.enqueue()
            times[kind.name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def drain_rate(kind: Any, number: int) -> tuple[float, int]:
    """Jobs per second between 90 % and 10 % of what waits, and the worker's memory (bytes of resident set)."""
    with worker(kind) as process:
        wait_for(lambda: kind.left() < number * 0.9, f"the start of {kind.name}")
        begun, first = time.monotonic(), kind.left()
        wait_for(lambda: kind.left() < number * 0.1, f"the work of {kind.name}")
        rate = (first - kind.left()) / (time.monotonic() - begun)
        return rate, resident(process.pid)


def resident(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


def run(url: str, number: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as place:
        queue = f"bench-{uuid.uuid4().hex[:8]}"
        kinds: list[Any] = [kind(url, Path(place), queue) for kind in (Huey, Pijobs)]
        enqueue_times(kinds, 50)  # connections, scripts, caches
        medians = enqueue_times(kinds, number)
        drains = {kind.name: drain_rate(kind, kind.left()) for kind in kinds}
        client = redis.Redis.from_url(url)
        for key in client.scan_iter(f"*{queue}*"):
            client.delete(key)
    return {
        "jobs": number,
        "enqueue_us": {name: round(value * 1e6) for name, value in medians.items()},
        "drain_per_s": {name: round(rate) for name, (rate, _) in drains.items()},
        "worker_mb": {name: round(memory / 1e6, 1) for name, (_, memory) in drains.items()},
        "ratios": {
            "enqueue": round(medians["pijobs"] / medians["huey"], 2),
            "drain": round(drains["pijobs"][0] / drains["huey"][0], 2),
            "memory": round(drains["pijobs"][1] / drains["huey"][1], 2),
        },
    }


def work(queue: str, url: str, log: str) -> None:
    """huey's consumer, as ``huey_consumer`` runs it, with the Flask app that privacyIDEA's worker has."""
    import flask

    app = flask.Flask("bench")
    handler = logging.FileHandler(log)
    handler.setFormatter(logging.Formatter("[%(asctime)s] %(levelname)s:%(name)s:%(threadName)s:%(message)s"))
    logging.getLogger("huey").addHandler(handler)
    logging.getLogger("huey").setLevel(logging.INFO)
    huey = RedisHuey(queue, url=url, results=False, store_none=False)
    huey.task(name="bench")(nothing)
    with app.app_context():
        huey.create_consumer(workers=1, graceful_signal="TERM").run()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", nargs="?", default="redis://127.0.0.1:6379/15")
    parser.add_argument("--jobs", type=int, default=5000)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--work", nargs=3, metavar=("QUEUE", "URL", "LOG"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(*options.work)
        return
    result = run(options.url, options.jobs)
    if options.json:
        print(json.dumps(result, indent=2))
        return
    print(f"{'':20}{'huey':>10}{'pijobs':>10}{'ratio':>8}")
    for row, ratio in (("enqueue_us", "enqueue"), ("drain_per_s", "drain"), ("worker_mb", "memory")):
        values = result[row]
        print(f"{row:20}{values['huey']:>10}{values['pijobs']:>10}{result['ratios'][ratio]:>8}")


if __name__ == "__main__":
    main()
