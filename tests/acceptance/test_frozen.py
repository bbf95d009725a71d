"""Workers and storages that stand still for longer than a lease, with real processes."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest
from integration.redis_server import Server, running
from services import wait_until

from pijobs.jobs import State

from .conftest import MakeSite
from .site import Site

pytestmark = pytest.mark.chaos

LEASE = 2


@pytest.fixture
def redis() -> Iterator[Server]:
    """A server that nobody else uses, so that it can be stopped."""
    with running() as server:
        yield server


@pytest.fixture
def storage_url(redis: Server) -> str:
    return redis.url


@pytest.fixture
def site(make_site: MakeSite) -> Site:
    return make_site(LEASE=LEASE)


def test_a_frozen_worker_begins_nothing_that_is_no_longer_its_own(site: Site) -> None:
    frozen = site.start_worker("-w", "4")
    frozen.send_signal(signal.SIGSTOP)
    ids = [site.queue.enqueue("test.count", (number,)).id for number in range(4)]
    site.start_worker("-w", "4")
    assert {site.wait_for(one).state for one in ids} == {State.DONE}
    frozen.send_signal(signal.SIGCONT)
    after = site.queue.enqueue("test.hold", ("after", 1))
    site.wait_for(after.id)
    time.sleep(LEASE)  # for what must not happen there is nothing to wait for
    assert sorted(site.effects_of("count")) == ["0", "1", "2", "3"]


def test_a_job_that_lost_its_lease_has_no_effect(site: Site) -> None:
    frozen = site.start_worker()
    handle = site.queue.enqueue("test.late", (1.0,))
    site.wait_for(handle.id, State.RUNNING)
    frozen.send_signal(signal.SIGSTOP)
    site.start_worker()
    wait_until(lambda: site.effects_of("late") == ["happened"], what="the effect in another worker")
    frozen.send_signal(signal.SIGCONT)
    wait_until(lambda: "counted as dead" in site.output(), what="the message that it counted as dead")
    time.sleep(1)
    assert site.effects_of("late") == ["happened"]


def test_a_frozen_storage_is_nobodys_death(site: Site, redis: Server) -> None:
    for _ in range(3):
        site.start_worker("-w", "2")
    ids = [site.queue.enqueue("test.hold", (f"job{number}", 3 * LEASE)).id for number in range(4)]
    wait_until(lambda: len(site.effects_of("begin")) == 4, what="the start of all")
    redis.freeze()
    time.sleep(1.5 * LEASE)
    redis.thaw()
    records = [site.wait_for(one) for one in ids]
    assert {(one.state, one.crashes) for one in records} == {(State.DONE, 0)}
    assert len(site.effects_of("begin")) == 4
