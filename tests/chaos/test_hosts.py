"""Servers and workers on hosts of their own: hosts lose their network or their power, and no job is lost."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import redis
from integration.redis_server import program
from services import wait_until

from .conftest import MakeSite, runs
from .crowd import Crowd
from .hosts import Host, hosts
from .report import row, tell


@contextmanager
def redis_on(host: Host, place: Path) -> Iterator[str]:
    options = ["--bind", "0.0.0.0", "--protected-mode", "no", "--save", "", "--appendonly", "yes"]
    process = subprocess.Popen(
        [*host.prefix, program(), *options, "--appendfsync", "always", "--dir", str(place)], stdout=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: answers(host.address), what="the start of Redis")
        yield f"redis://{host.address}:6379/0"
    finally:
        process.kill()
        process.wait()


def answers(address: str) -> bool:
    with redis.Redis(address, socket_timeout=1.0, socket_connect_timeout=1.0) as client:
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False


class Trouble:
    """What befalls the hosts of servers and workers."""

    def __init__(self, crowd: Crowd, hosts: list[Host]) -> None:
        self._crowd, self._hosts = crowd, hosts

    def strike(self) -> None:
        host, chance = self._crowd.chance.choice(self._hosts), self._crowd.chance
        if chance.random() < 0.7:
            host.unplug()
            # The second is longer than a lease.
            time.sleep(chance.choice([0.3, 2.0]))
            host.plug()
            self._crowd.toll.network += 1
            return
        processes = [one for one in self._crowd.site.processes if one.poll() is None and is_on(host, one.pid)]
        for process in processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        is_server = host.name.startswith("server")
        self._crowd.toll.servers += is_server
        self._crowd.toll.workers += not is_server


def is_on(host: Host, pid: int) -> bool:
    """Whether a process is in the network namespace of a host."""
    with suppress(FileNotFoundError, PermissionError):
        return os.stat(f"/proc/{pid}/ns/net").st_ino == os.stat(host.space).st_ino
    return False


@runs(["redis"], {"jobs": 60, "faults": 3}, {"jobs": 3_000, "faults": 60})
def test_hosts_that_lose_network_or_power_lose_no_job(
    make_site: MakeSite, stopwatch: Callable[[], float], tmp_path: Path, kind: str, jobs: int, faults: int
) -> None:
    names = ("store", "worker1", "worker2", "server1", "server2")
    with hosts(*names) as (store, *others), redis_on(store, tmp_path) as url:
        crowd = Crowd(make_site(url), random.Random(f"hosts {jobs}"), places=tuple(host.prefix for host in others))
        crowd.go_through(jobs, faults, Trouble(crowd, others).strike)
        wait_until(lambda: seen(crowd) == {"worker1", "worker2"}, what="workers of both hosts")
        books = crowd.finish(timeout=jobs / 10 + 30)
        toll = crowd.toll
        fault = f"four hosts: network away {toll.network} ×, power {toll.kills - toll.network} ×"
        tell(row(kind, fault, books, toll, stopwatch()))
        books.check()


def seen(crowd: Crowd) -> set[str]:
    crowd.tend()
    return {session.info.host for session in crowd.site.storage.sessions()}
