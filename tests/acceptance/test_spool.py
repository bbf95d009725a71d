"""Redis goes away and comes back: what the spool does for those who enqueue meanwhile."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from integration.redis_server import Server, running
from services import wait_until

from pijobs.jobs import State
from pijobs.storage.contract import Storage

from .site import Site

OpenSite = Callable[..., Site]
#: Seconds that no enqueue may take: its time-out of 0.25 s, the first use of the spool, and a slow machine.
BOUND = 4.0


@pytest.fixture
def redis() -> Iterator[Server]:
    with running() as server:
        yield server


@pytest.fixture
def open_site(tmp_path: Path, redis: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenSite]:
    """An installation with a spool on a Redis of its own."""
    opened: list[Site] = []

    def open_one(**settings: Any) -> Site:
        spool = str(tmp_path / "spool.sqlite")
        own = {"URL": redis.url, "NAME": "spooled", "SPOOL": spool, "ENQUEUE_TIMEOUT": 0.25, **settings}
        opened.append(Site(tmp_path, {f"PI_JOB_QUEUE_{name}": value for name, value in own.items()}))
        monkeypatch.setenv("PIJOBS_EFFECTS", str(opened[-1].effects))
        return opened[-1]

    yield open_one
    for site in opened:
        site.close()
        if site.queue.spool is not None:
            site.queue.spool.close()


@pytest.fixture
def site(open_site: OpenSite) -> Site:
    return open_site()


def spool_of(site: Site) -> Storage:
    assert site.queue.spool is not None
    return site.queue.spool


def start_worker(site: Site) -> None:
    """A worker that storage and spool know."""
    worker = site.start_worker("-w", "2")
    wait_until(lambda: worker.pid in {one.info.pid for one in spool_of(site).sessions()}, what="the spool's worker")


def stop(redis: Server) -> None:
    redis.process.terminate()
    redis.process.wait()


def bounded_enqueue(site: Site, number: int, **options: Any) -> str:
    """Enqueue ``test.count``; returns where it went."""
    start = time.monotonic()
    handle = site.queue.enqueue("test.count", (number,), **options)
    assert time.monotonic() - start < BOUND
    return handle.via


def counted(site: Site) -> list[int]:
    return sorted(int(text) for text in site.effects_of("count"))


def enqueue_until_stored(site: Site, number: int) -> None:
    """Enqueue the same thing under new ids until the storage takes it."""
    wait_until(lambda: bounded_enqueue(site, number) == "storage", what="an enqueue after the outage")


def test_with_a_worker_on_this_machine_jobs_go_on_while_redis_is_stopped(site: Site, redis: Server) -> None:
    start_worker(site)
    assert bounded_enqueue(site, 0, expires=60) == "storage"
    wait_until(lambda: counted(site) == [0], what="the first effect")
    stop(redis)
    assert [bounded_enqueue(site, number, expires=60) for number in range(1, 6)] == ["spool"] * 5
    wait_until(lambda: counted(site) == list(range(6)), what="all effects, without Redis")
    with running(port=redis.port):
        enqueue_until_stored(site, 99)
        wait_until(lambda: 99 in counted(site), what="work from Redis after its return")


def test_without_a_worker_a_job_without_deadline_waits_and_moves_when_redis_is_back(site: Site, redis: Server) -> None:
    stop(redis)
    handles = [site.queue.enqueue("test.count", (number,)) for number in range(30)]
    assert {handle.via for handle in handles} == {"spool"} and counted(site) == []
    with running(port=redis.port):
        enqueue_until_stored(site, 99)

        def empty() -> bool:
            bounded_enqueue(site, 99)  # each one lends a moment
            return not spool_of(site).depths().counts

        wait_until(empty, what="an empty spool")
        assert {site.record(handle.id).state for handle in handles} == {State.QUEUED}
        site.start_worker()
        assert set(site.wait_all_ended("test.count", 30)) == {State.DONE}
        assert [number for number in counted(site) if number != 99] == [*range(30)]


def test_a_worker_that_comes_later_takes_from_the_spool_even_without_redis(site: Site, redis: Server) -> None:
    stop(redis)
    assert bounded_enqueue(site, 1) == "spool"
    site.start("worker", "-l", str(site.log))
    wait_until(lambda: counted(site) == [1], what="the effect")
    done = {("test.count", State.DONE): 1}
    wait_until(lambda: spool_of(site).depths().counts == done, what="the end in the spool")


def test_a_job_that_ended_in_the_spool_can_be_looked_up(site: Site, redis: Server) -> None:
    start_worker(site)
    stop(redis)
    handle = site.queue.enqueue("test.count", (1,))
    wait_until(lambda: spool_of(site).get(handle.id).state is State.DONE, what="the end in the spool")
    outage: AbstractContextManager[object] = nullcontext()
    for present in (outage, running(port=redis.port)):
        with present:
            shown = site.run("jobs", "show", handle.id)
            assert shown.returncode == 0 and f"test.count {handle.id}: done" in shown.stdout, shown.stderr
            assert site.run("jobs", "show", "unknown").returncode != 0


def test_a_dead_letter_in_the_spool_is_seen_and_retried(open_site: OpenSite, redis: Server) -> None:
    site = open_site(FALLBACK=("direct",))
    stop(redis)
    handle = site.queue.enqueue("test.flaky", (1,))
    assert (handle.via, handle.state) == ("direct", State.DEAD)
    with running(port=redis.port):
        assert handle.id in site.run("jobs", "list", "--state", "dead").stdout
        assert "test.flaky: 1 dead" in site.run("status").stdout
        retried = site.run("jobs", "retry", handle.id)
        assert retried.returncode == 0, retried.stderr
        # It was never leased, so it moves; attempts count anew.
        wait_until(lambda: bounded_enqueue(site, 1) == "storage" and has(site, handle.id), what="the move")


def has(site: Site, instance_id: str) -> bool:
    assert site.queue.storage is not None
    return any(one.id == instance_id for one in site.queue.storage.page(State.QUEUED, name="test.flaky").records)


def test_a_worker_does_not_spin_while_redis_is_away(site: Site, redis: Server) -> None:
    worker = site.start_worker("-w", "2")
    spool = site.queue.spool
    assert spool is not None
    wait_until(lambda: bool(spool.sessions()), what="the worker's sign of life in the spool")
    stop(redis)
    assert bounded_enqueue(site, 1) == "spool"
    wait_until(lambda: counted(site) == [1], what="the effect, and so the notice of the outage")

    def cpu() -> float:
        fields = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    before = cpu()
    time.sleep(2)  # the time in which it could spin
    assert cpu() - before < 1.0


def test_a_worker_that_is_busy_with_redis_does_not_forget_the_spool(site: Site, redis: Server) -> None:
    stop(redis)
    assert bounded_enqueue(site, 1) == "spool"
    with running(port=redis.port):
        # By the storage itself: a successful enqueue of the queue would move it.
        other = site.queue.storage
        assert other is not None
        busy = Site(site.folder, {"PI_JOB_QUEUE_URL": redis.url, "PI_JOB_QUEUE_NAME": "spooled"})
        for number in range(40):
            busy.queue.enqueue("test.hold", (str(number), 0.2))
        site.config.write_text(
            site.config.read_text() + f"PI_JOB_QUEUE_SPOOL = {str(site.folder / 'spool.sqlite')!r}\n"
        )
        site.start_worker()
        wait_until(lambda: not spool_of(site).depths().counts, what="the move to Redis")
        assert len(site.effects_of("end")) < 40
        busy.close()
