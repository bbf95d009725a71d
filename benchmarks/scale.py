"""What a queue in Redis costs: the figures behind docs/explanation/scaling.

    python benchmarks/scale.py [--jobs 10000] [--processes 1 2] [--mails 2000] [--delay 0.02] [--json]

A private Redis is started. Processor time is what counts: jobs per second on one machine tell how many processors were
free for server, worker and Redis at once; processor time tells what each of them needs.

===========  =========================================================================================================
enqueue      of one process: calls per second; microseconds of processor time per call in the server and in Redis
drain        jobs that do nothing, with the arguments of a mail (1.2 kB), for each number of worker processes (four
             threads each): jobs per second; microseconds of processor time per job in the workers and in Redis
mails        the mail job, to an SMTP server in a process of its own that takes --delay seconds for each reply: the same
idle         a worker that has nothing to do: the same per second; what mails cost Redis holds this, too
connections  to Redis: of a server while eight requests call at once, and of a worker of eight threads
memory       MB of Redis for 100,000 instances that wait, have run, or are dead letters with their body
===========  =========================================================================================================
"""

from __future__ import annotations

import sys

sys.path.pop(0)  # this folder: a module "queue" in it would hide the one of the standard library

import argparse
import json
import multiprocessing
import os
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

from acceptance.site import Site, children
from integration.redis_server import LONG, Server, running
from services import wait_until

from pijobs.jobs import State
from pijobs.storage.sessions import SessionInfo
from pijobs.storage.values import End
from pijobs_mail.send import send_mail
from pijobs_mail.servers.definitions import open_store
from pijobs_mail.sink.server import Received, Sink

JOBS = str(Path(__file__).resolve().parent / "jobs")
ARGUMENTS = {
    "config": {"identifier": "main", "server": "mail.example.com", "port": 587, "tls": True, "timeout": 10},
    "recipient": ["alice@example.com"], "subject": "Your OTP", "body": "Your one-time password is 123456. " * 30,
    "sender": "otp@example.com", "reply_to": None, "mimetype": "plain",
}  # fmt: skip
THREADS = 4
Row = dict[str, Any]


@contextmanager
def installed(server: Server) -> Iterator[Site]:
    """A queue of its own, with the jobs of the benchmarks and mails."""
    with tempfile.TemporaryDirectory(prefix="pijobs-bench-") as folder:
        settings = {"URL": server.url, "NAME": f"bench-{uuid.uuid4().hex}", "PLUGINS": ("bench_jobs", "mail")}
        settings |= {"LEASE": 10, "KEEP_FINISHED": (24 * 3600, 1_000_000)}
        site = Site(Path(folder), {f"PI_JOB_QUEUE_{name}": value for name, value in settings.items()})
        site.prefix = ("env",)  # without the processes that a run of the tests has started already
        site.environment["PYTHONPATH"] = os.pathsep.join([site.environment["PYTHONPATH"], JOBS])
        try:
            yield site
        finally:
            site.close()
            server.client.flushdb()  # it is ours alone


def processor_time(pids: list[int]) -> float:
    """Seconds of user and system time."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def enqueue(site: Site, server: Server, jobs: int) -> Row:
    for _ in range(100):  # connections, scripts, caches
        site.queue.enqueue("bench.nothing", kwargs=ARGUMENTS)
    before, start = processor_time([server.process.pid]), time.monotonic()
    mine = time.process_time()
    for _ in range(jobs):
        site.queue.enqueue("bench.nothing", kwargs=ARGUMENTS)
    seconds = time.monotonic() - start
    used = time.process_time() - mine
    return {
        "what": "enqueue, 1 process", "per second": jobs / seconds, "process (us)": used / jobs * 1e6,
        "Redis (us)": (processor_time([server.process.pid]) - before) / jobs * 1e6,
    }  # fmt: skip


def left(site: Site, name: str) -> int:
    counts = site.counts(name)
    return counts.get(State.QUEUED, 0) + counts.get(State.RUNNING, 0)


def drain(site: Site, server: Server, name: str, what: str, processes: int, threads: int = THREADS) -> Row:
    """What waits, from 95 % to 10 % of it."""
    number = left(site, name)
    workers = [site.start("worker", "-w", str(threads), "-l", str(site.log)) for _ in range(processes)]
    wait_until(lambda: left(site, name) < number * 0.95, 120, what="the start of the work")
    family = [pid for worker in workers for pid in (worker.pid, *children(worker.pid))]
    start, first = time.monotonic(), left(site, name)
    before, redis_before = processor_time(family), processor_time([server.process.pid])
    while (now := left(site, name)) > number * 0.1:
        time.sleep(0.3)  # the storage has other work than to be asked
    done, seconds = first - now, time.monotonic() - start
    row = {
        "what": what, "per second": done / seconds, "process (us)": (processor_time(family) - before) / done * 1e6,
        "Redis (us)": (processor_time([server.process.pid]) - redis_before) / done * 1e6,
    }  # fmt: skip
    site.wait_all_ended(name, 120)
    stop(site)
    return row


def idle(site: Site, server: Server, seconds: float = 4.0) -> Row:
    worker = site.start_worker("-w", "20")
    time.sleep(1.0)  # its start is over
    before, redis_before = processor_time([worker.pid]), processor_time([server.process.pid])
    time.sleep(seconds)
    used = processor_time([worker.pid]) - before, processor_time([server.process.pid]) - redis_before
    stop(site)
    what = "idle, 1 process, 20 threads, each second"
    return {
        "what": what,
        "per second": 1,
        "process (us)": used[0] / seconds * 1e6,
        "Redis (us)": used[1] / seconds * 1e6,
    }


def stop(site: Site) -> None:
    for process in site.processes:
        if process.poll() is None:
            process.terminate()
            process.wait(40)


class Forgetful(Sink):
    """Keeps no mail: the server's memory is not what is measured."""

    def keep(self, received: Received) -> None:
        pass


def serve(delay: float, pipe: Connection) -> None:
    sink = Forgetful(delay=delay, offers=("PIPELINING", "CHUNKING")).start()
    pipe.send(sink.port)
    threading.Event().wait()


@contextmanager
def smtp_server(delay: float) -> Iterator[int]:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=serve, args=(delay, theirs), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        process.terminate()
        process.join()


def mails(site: Site, server: Server, number: int, delay: float) -> Row:
    with smtp_server(delay) as port:
        definition = {"server": "127.0.0.1", "port": port, "sender": "otp@example.com", "enqueue_job": True}
        open_store(site.queue.settings).save("main", definition)
        for n in range(number):
            send_mail(
                "main", to=f"user{n}@example.com", subject="Your OTP", text="Your one-time password is 739105.",
                expires=3600, queue=site.queue,
            )  # fmt: skip
        return drain(site, server, "mail.send", "mails, 1 process, 20 threads", 1, 20)


def connections(site: Site, server: Server) -> dict[str, int]:
    """Of this process as a server, and of one worker. Those of the benchmark itself are not counted."""

    def count() -> int:
        return len(server.client.client_list())

    def request() -> None:
        for _ in range(200):
            site.queue.enqueue("bench.nothing", kwargs=ARGUMENTS)

    own = count()
    threads = [threading.Thread(target=request) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    of_server = count()
    site.start_worker("-w", "8")
    site.wait_all_ended("bench.nothing")
    of_worker = count() - of_server
    stop(site)
    return {"server, 8 requests at once": of_server - own, "worker, 8 threads": of_worker}


def memory(server: Server, number: int) -> dict[str, float]:
    """MB per 100,000 instances, by what they are."""

    def used() -> int:
        return int(server.client.info("memory")["used_memory"])

    found = {}
    for kind in ("waiting", "done", "dead, with body"):
        with installed(server) as site:
            session, storage = uuid.uuid4().hex, site.storage
            storage.open_session(SessionInfo(session, "bench", 1, storage.now(), "1", workers=64), lease=LONG)
            before, ends = used(), list[End]()
            for _ in range(number):
                site.queue.enqueue("bench.nothing", kwargs=ARGUMENTS, expires=24 * 3600)
            while kind != "waiting":
                leases = storage.step(session, ends, want=50).leases
                state = State.DONE if kind == "done" else State.DEAD
                entry = json.dumps({"at": storage.now(), "event": "attempt", "attempt": 1, "outcome": state.value})
                ends = [End(one.id, one.token, state, reason="550 5.1.1 no such user", entry=entry) for one in leases]
                if not leases:
                    break
            found[kind] = (used() - before) / number * 100_000 / 1e6
    return found


def measure(options: argparse.Namespace) -> dict[str, Any]:
    with ExitStack() as stack:
        server = stack.enter_context(running())
        rows = []
        with installed(server) as site:
            rows.append(enqueue(site, server, options.jobs))
            for processes in options.processes:
                while left(site, "bench.nothing") < options.jobs:
                    site.queue.enqueue("bench.nothing", kwargs=ARGUMENTS)
                what = f"drain, {processes} process{'es' if processes > 1 else ''}"
                rows.append(drain(site, server, "bench.nothing", what, processes))
            found = {"connections": connections(site, server)}
        with installed(server) as site:
            rows.append(mails(site, server, options.mails, options.delay))
            rows.append(idle(site, server))
        return {"rows": rows, **found, "memory": memory(server, options.jobs)}


def show(found: dict[str, Any]) -> None:
    print("| what | per second | processor time: process (µs) | Redis (µs) |\n| --- | ---: | ---: | ---: |")
    for row in found["rows"]:
        print(f"| {row['what']} | {row['per second']:,.0f} | {row['process (us)']:,.0f} | {row['Redis (us)']:,.0f} |")
    print("\n| connections to Redis | number |\n| --- | ---: |")
    for what, number in found["connections"].items():
        print(f"| {what} | {number} |")
    print("\n| 100,000 instances in Redis | MB |\n| --- | ---: |")
    for what, size in found["memory"].items():
        print(f"| {what} | {size:.0f} |")


def main() -> None:
    sys.path.append(JOBS)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2], help="worker processes")
    parser.add_argument("--mails", type=int, default=2_000)
    parser.add_argument("--delay", type=float, default=0.02, help="seconds that the SMTP server takes for each reply")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    found = measure(options)
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        show(found)


if __name__ == "__main__":
    main()
