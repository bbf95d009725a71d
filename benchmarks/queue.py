"""pijobs beside plain huey, on the same storage, in one run: look at the ratios.

    python benchmarks/queue.py [redis://… | sqlite | postgresql] [--jobs 5000] [--threads 1 2 4]
        [--waiting 100000] [--many 10000] [--json]

huey is set as privacyIDEA sets it: ``RedisHuey(results=False, store_none=False)``, pickle, no lease. Each runs a job
that does nothing, with the arguments of a mail (about 1.5 kB), in one worker process, logging to a file at level INFO
as it does by default. Without a URL a private Redis is started; beside PostgreSQL, which is a private one, huey has
one, too. Dramatiq is measured, too, where it is installed and the storage is Redis.

=============  ==============================================================================================
enqueue        microseconds of one call at the median, taken in turns
processor      microseconds of the caller's processor time for one enqueue, the least of ten rounds in turns; and of the
               worker's for one job of the drain, the least of the numbers of threads (Linux). On a machine that others
               use these tell more than times do
drain          jobs per second of one worker process, without the first and the last tenth of --jobs, at the best of the
               numbers of threads in --threads
start          milliseconds from the call to the start of the job at 100 jobs per second, one thread: median and 99th
               percentile, taken in turns
quiet drain    the same with the log at WARNING
memory         resident set of the worker process in MB, after the drain
flat           with --waiting N: enqueue of pijobs with N waiting instances beside 100, and the drain of 2,000 of them,
               the median of five in turns
many           with --many N: seconds until N calls are stored, one by one (huey, pijobs) and by enqueue_many (in
               batches of 100), the least of five in turns
=============  ==============================================================================================
"""

from __future__ import annotations

import sys

sys.path.pop(0)  # this folder: a module "queue" in it would hide the one of the standard library

import argparse
import contextlib
import importlib.util
import itertools
import json
import logging
import os
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huey import RedisHuey, SqliteHuey

from pijobs import JobCall
from pijobs.factory import build
from pijobs.jobs import State
from pijobs.settings import read_config

HERE = Path(__file__).resolve()
JOBS = HERE.parent / "jobs"
sys.path.insert(0, str(JOBS))
sys.path.append(str(HERE.parents[1] / "tests"))

from bench_jobs import nothing, stamp  # noqa: E402

MAIL = {
    "config": {
        "id": 7, "identifier": "main", "server": "mail.example.com", "port": 587, "username": "otp",
        "password": "0123456789abcdef" * 4, "sender": "otp@example.com", "tls": True, "timeout": 10,
        "enqueue_job": True, "smime": False, "dont_send_on_error": False, "private_key": "",
        "private_key_password": "", "certificate": "", "description": "the mail server of the company",
    },
    "recipient": ["alice@example.com"], "subject": "Your OTP", "body": "Your one-time password is 123456. " * 22,
    "sender": "otp@example.com", "reply_to": None, "mimetype": "plain",
}  # fmt: skip
#: The Redis of huey where pijobs has another storage.
BESIDE = "BENCH_REDIS"
RATE = 100  # jobs per second for the measurement of starts


def make_huey(url: str, queue: str) -> Any:
    """huey on the same storage."""
    if url.startswith("sqlite"):
        file = url.removeprefix("sqlite:///") + ".huey"
        huey: Any = SqliteHuey(queue, filename=file, results=False, store_none=False, fsync=True)
    else:
        huey = RedisHuey(queue, url=url, results=False, store_none=False)
    huey.task(name="nothing")(nothing)
    huey.task(name="stamp")(stamp)
    return huey


class Huey:
    """Plain huey."""

    name = "huey"

    def __init__(self, url: str, folder: Path, queue: str) -> None:
        self.url, self.folder, self.queue = url, folder, queue
        self.huey = make_huey(url, queue)
        tasks = {name.rsplit(".", 1)[1]: task for name, task in self.huey._registry._registry.items()}
        self._nothing, self._stamp = tasks["nothing"], tasks["stamp"]

    def enqueue(self) -> None:
        self.huey.enqueue(self._nothing(kwargs=MAIL))

    def stamp(self) -> None:
        self.huey.enqueue(self._stamp((time.time(),)))

    def left(self) -> int:
        return int(self.huey.pending_count())

    def command(self, threads: int, *, quiet: bool = False) -> list[str]:
        level, log = logging.getLevelName(logging.WARNING if quiet else logging.INFO), str(self.folder / "huey.log")
        return [sys.executable, str(HERE), "--work", "huey", self.queue, self.url, log, str(threads), level]


class Pijobs:
    """pijobs."""

    name = "pijobs"

    def __init__(self, url: str, folder: Path, queue: str) -> None:
        self.folder = folder
        self.config = folder / "pi.cfg"
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

    def enqueue_many(self, number: int) -> None:
        self.made.enqueue_many(JobCall("bench.nothing", kwargs=MAIL) for _ in range(number))

    def stamp(self) -> None:
        self.made.enqueue("bench.stamp", kwargs={"sent": time.time()})

    def left(self) -> int:
        counts = self.storage.depths().counts
        return sum(number for (_, state), number in counts.items() if state in (State.QUEUED, State.RUNNING))

    def command(self, threads: int, *, quiet: bool = False) -> list[str]:
        log = str(self.folder / "pijobs.log")
        command = [
            sys.executable,
            "-m",
            "pijobs",
            "--config",
            str(self.config),
            "worker",
            "-w",
            str(threads),
            "-l",
            log,
        ]
        return [*command, "-q"] if quiet else command


def make_actors(url: str, queue: str) -> tuple[Any, Any, Any]:
    """A broker of Dramatiq's, and the two jobs."""
    import dramatiq
    from dramatiq.brokers.redis import RedisBroker

    broker: Any = RedisBroker(url=url, namespace=queue)
    dramatiq.set_broker(broker)
    return broker, dramatiq.actor(nothing, broker=broker), dramatiq.actor(stamp, broker=broker)


class Dramatiq:
    """Dramatiq."""

    name = "dramatiq"

    def __init__(self, url: str, folder: Path, queue: str) -> None:
        self.url, self.folder, self.queue = url, folder, f"{queue}-dramatiq"
        self._broker, self._nothing, self._stamp = make_actors(url, self.queue)

    def enqueue(self) -> None:
        self._nothing.send(**MAIL)

    def stamp(self) -> None:
        self._stamp.send(time.time())

    def left(self) -> int:
        return int(self._broker.client.hlen(f"{self.queue}:default.msgs"))

    def command(self, threads: int, *, quiet: bool = False) -> list[str]:
        level, log = logging.getLevelName(logging.WARNING if quiet else logging.INFO), str(self.folder / "dramatiq.log")
        return [sys.executable, str(HERE), "--work", "dramatiq", self.queue, self.url, log, str(threads), level]


Kind = Huey | Pijobs | Dramatiq


@contextmanager
def worker(kind: Kind, threads: int = 1, *, quiet: bool = False) -> Iterator[subprocess.Popen[bytes]]:
    """One worker process."""
    environment = {**os.environ, "PYTHONPATH": str(JOBS), "BENCH_STAMPS": str(kind.folder / f"{kind.name}.stamps")}
    process = subprocess.Popen(kind.command(threads, quiet=quiet), env=environment, cwd=kind.folder)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(40)


def wait_for(done: Callable[[], bool], what: str, timeout: float = 300) -> None:
    end = time.monotonic() + timeout
    while not done():
        if time.monotonic() > end:
            raise SystemExit(f"{what} did not happen within {timeout:g} s")
        time.sleep(0.005)


def enqueue_medians(kinds: list[Kind], number: int) -> dict[str, float]:
    """Seconds of one enqueue, taken in turns so that all see the same machine."""
    times: dict[str, list[float]] = {kind.name: [] for kind in kinds}
    for _ in range(number):
        for kind in kinds:
            start = time.perf_counter()
            kind.enqueue()
            times[kind.name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def enqueue_processor(kinds: list[Kind], number: int) -> dict[str, float]:
    """Seconds of this process's processor time for one enqueue: the least of ten rounds, in turns."""
    least = {kind.name: float("inf") for kind in kinds}
    for _ in range(10):
        for kind in kinds:
            begun = time.process_time()
            for _ in range(number // 10):
                kind.enqueue()
            least[kind.name] = min(least[kind.name], (time.process_time() - begun) / (number // 10))
    return least


def processor_time(pid: int) -> float:
    """Seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def drain(kind: Kind, number: int, threads: int = 1, *, quiet: bool = False) -> tuple[float, float, float]:
    """Jobs per second of the next ``number`` jobs, without the first and the last tenth, the worker's memory in MB, and
    seconds of its processor time for each."""
    waiting = kind.left()
    with worker(kind, threads, quiet=quiet) as process:
        wait_for(lambda: kind.left() < waiting - number * 0.1, f"the start of {kind.name}")
        begun, first, used = time.monotonic(), kind.left(), processor_time(process.pid)
        wait_for(lambda: kind.left() < waiting - number * 0.9, f"the work of {kind.name}")
        done = first - kind.left()
        used = processor_time(process.pid) - used
        return done / (time.monotonic() - begun), resident(process.pid), used / done


def resident(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1000


def starts(kinds: list[Kind], number: int) -> dict[str, tuple[float, float]]:
    """Seconds from the call to the start: median and 99th percentile, at :data:`RATE` calls per second of each kind,
    in turns."""
    stamps = {kind: kind.folder / f"{kind.name}.stamps" for kind in kinds}
    with contextlib.ExitStack() as workers:
        for kind, file in stamps.items():
            file.touch()
            workers.enter_context(worker(kind))
            kind.stamp()
            wait_for(lambda file=file: bool(file.read_text()), f"the start of {kind.name}")
            file.write_text("")
        begun = time.monotonic()
        for count in range(number * len(kinds)):
            time.sleep(max(0.0, begun + count / RATE / len(kinds) - time.monotonic()))
            kinds[count % len(kinds)].stamp()
        for kind, file in stamps.items():
            wait_for(lambda file=file: len(file.read_text().splitlines()) >= number, f"the end of {kind.name}")
    waited = {kind.name: sorted(map(float, file.read_text().splitlines())) for kind, file in stamps.items()}
    return {name: (statistics.median(values), values[int(len(values) * 0.99)]) for name, values in waited.items()}


def compare(url: str, number: int, threads: list[int]) -> dict[str, dict[str, float]]:
    """All rows, for all."""
    rows: dict[str, dict[str, float]] = {}
    with prepared(url) as kinds:
        enqueue_medians(kinds, 50)  # connections, scripts, caches
        rows["enqueue (us)"] = {name: value * 1e6 for name, value in enqueue_medians(kinds, number).items()}
        used = enqueue_processor(kinds, 1000)
        rows["enqueue, processor (us)"] = {name: value * 1e6 for name, value in used.items()}
        for tried, quiet, kind in itertools.product(threads, (False, True), kinds):
            while kind.left() < number:
                kind.enqueue()
            rate, memory, seconds = drain(kind, number, tried, quiet=quiet)
            what = "quiet drain" if quiet else "drain"
            best = rows.setdefault(f"{what} (jobs/s)", {})
            best[kind.name] = max(rate, best.get(kind.name, 0))
            least = rows.setdefault(f"{what}, processor (us)", {})
            least[kind.name] = min(seconds * 1e6, least.get(kind.name, float("inf")))
            if tried == 1:
                rows.setdefault("memory (MB)", {})[kind.name] = memory
    with prepared(url) as kinds:
        waited = starts(kinds, 10 * RATE)
        rows["start, median (ms)"] = {name: median * 1e3 for name, (median, _) in waited.items()}
        rows["start, p99 (ms)"] = {name: late * 1e3 for name, (_, late) in waited.items()}
    return rows


def flat(url: str, waiting: int) -> dict[str, dict[str, float]]:
    """pijobs with few and with many waiting instances, in turns."""
    with prepared(url) as (_, few, *_others), prepared(url) as (_, many, *_more):
        few.name, many.name = "100", str(waiting)
        for kind, depth in ((few, 100), (many, waiting)):
            for _ in range(depth):
                kind.enqueue()
        medians = enqueue_medians([few, many], 1000)
        rates: dict[str, list[float]] = {few.name: [], many.name: []}
        for _ in range(5):
            for kind in (few, many):
                for _ in range(2000):
                    kind.enqueue()
                rates[kind.name].append(drain(kind, 2000)[0])
    return {
        "enqueue (us)": {name: value * 1e6 for name, value in medians.items()},
        "drain (jobs/s)": {name: statistics.median(rounds) for name, rounds in rates.items()},
    }


def many(url: str, number: int) -> dict[str, dict[str, float]]:
    """Seconds until so many calls are stored."""
    least: dict[str, float] = {}
    for _ in range(5):
        with prepared(url) as (huey, ours, *_others):
            assert isinstance(ours, Pijobs)
            ways: dict[str, Callable[[], object]] = {
                "huey": lambda huey=huey: [huey.enqueue() for _ in range(number)],
                "pijobs": lambda ours=ours: [ours.enqueue() for _ in range(number)],
                "many": lambda ours=ours: ours.enqueue_many(number),
            }
            for name, way in ways.items():
                begun = time.perf_counter()
                way()
                least[name] = min(time.perf_counter() - begun, least.get(name, float("inf")))
    return {f"{number} calls (s)": least}


@contextmanager
def prepared(url: str) -> Iterator[list[Kind]]:
    """All, on an empty queue of their own."""
    with tempfile.TemporaryDirectory() as place:
        queue = f"bench-{uuid.uuid4().hex[:8]}"
        kinds: list[Kind] = [Huey(os.environ.get(BESIDE, url), Path(place), queue), Pijobs(url, Path(place), queue)]
        if url.startswith("redis") and importlib.util.find_spec("dramatiq"):
            kinds.append(Dramatiq(url, Path(place), queue))
        yield kinds
        if url.startswith("redis"):
            import redis

            client = redis.Redis.from_url(url)
            for key in client.scan_iter(f"*{queue}*"):
                client.unlink(key)


@contextmanager
def private_redis() -> Iterator[str]:
    """A Redis on a port of its own."""
    program = shutil.which("redis-server")
    if program is None:
        raise SystemExit("no redis-server on the PATH; name the URL of one")
    with tempfile.TemporaryDirectory() as place:
        path = f"{place}/redis.sock"
        options = ["--port", "6397", "--unixsocket", path, "--save", "", "--dir", place, "--loglevel", "warning"]
        server = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
        try:
            wait_for(lambda: os.path.exists(path), "the start of Redis")
            yield "redis://127.0.0.1:6397/0"
        finally:
            server.terminate()
            server.wait()


@contextmanager
def private(kind: str | None) -> Iterator[str]:
    """A storage of its own."""
    with contextlib.ExitStack() as stack:
        if kind == "sqlite":
            yield f"sqlite:///{stack.enter_context(tempfile.TemporaryDirectory())}/queue.sqlite"
        elif kind == "postgresql":
            import psycopg
            import services  # of the tests

            host = stack.enter_context(services._postgresql())
            with psycopg.connect(host=host, user="postgres", dbname="postgres", autocommit=True) as connection:
                connection.execute("CREATE DATABASE bench")
            yield f"postgresql+psycopg://postgres@/bench?host={host}"
        else:
            yield stack.enter_context(private_redis())


def work(kind: str, queue: str, url: str, log: str, threads: str, level: str) -> None:
    """A worker of another queue, with the Flask app that privacyIDEA's worker has."""
    import flask

    app = flask.Flask("bench")
    handler = logging.FileHandler(log)
    handler.setFormatter(logging.Formatter("[%(asctime)s] %(levelname)s:%(name)s:%(threadName)s:%(message)s"))
    logging.getLogger(kind).addHandler(handler)
    logging.getLogger(kind).setLevel(level)
    with app.app_context():
        if kind == "huey":
            make_huey(url, queue).create_consumer(workers=int(threads), graceful_signal="TERM").run()
        else:
            work_for_dramatiq(url, queue, int(threads))


def work_for_dramatiq(url: str, queue: str, threads: int) -> None:
    """A worker as ``dramatiq`` runs it, in one process."""
    import dramatiq

    dramatiq_worker = dramatiq.Worker(make_actors(url, queue)[0], worker_threads=threads)
    dramatiq_worker.start()
    signal.sigwait({signal.SIGTERM})
    dramatiq_worker.stop()


def show(rows: dict[str, dict[str, float]]) -> None:
    """A table; the ratios are to its first column."""
    first, *others = next(iter(rows.values()))
    heads = "".join(f" {name:>9} | ratio |" for name in others)
    print(f"| {'':23} | {first:>9} |{heads}\n| --- | ---: |" + " ---: | ---: |" * len(others))
    for name, values in rows.items():
        a, *rest = values.values()
        print(f"| {name:23} | {a:9.1f} |" + "".join(f" {b:9.1f} | {b / a:5.2f} |" for b in rest))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", nargs="?", help="redis://… (it is left clean), sqlite or postgresql")
    parser.add_argument("--jobs", type=int, default=5000, help="instances to enqueue and drain (default 5000)")
    parser.add_argument("--waiting", type=int, help="measure with so many waiting instances, too")
    parser.add_argument("--many", type=int, help="measure so many calls at once, too")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--work", nargs=6, help=argparse.SUPPRESS)
    parser.add_argument(
        "--threads", type=int, nargs="+", default=[1, 2, 4], help="threads to drain with (default 1 2 4)"
    )
    options = parser.parse_args()
    if options.work:
        work(*options.work)
        return
    with contextlib.ExitStack() as stack:
        url = options.url if options.url and ":" in options.url else stack.enter_context(private(options.url))
        if url.startswith("postgresql"):
            os.environ[BESIDE] = stack.enter_context(private_redis())
        results = [compare(url, options.jobs, options.threads)]
        if options.waiting:
            results.append(flat(url, options.waiting))
        if options.many:
            results.append(many(url, options.many))
    if options.json:
        print(json.dumps(results, indent=2))
        return
    for rows in results:
        show(rows)


if __name__ == "__main__":
    main()
