"""One bad neighbour: what hangs, and what is many, takes neither the workers nor the time of the others."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack

import pytest
from dead_ends import black_hole, refusing, silent
from services import wait_until

from pijobs.jobs import State
from pijobs_mail.send import send_mail
from pijobs_mail.servers.definitions import open_store
from pijobs_mail.sink.server import Fault, Sink

from .conftest import MakeSite
from .site import Site

WORKERS = 20
#: Seconds that the healthy server takes for each reply: its mails wait for it, and not for a processor.
DELAY = 0.05


def define(site: Site, name: str, sink: Sink, timeout: float) -> None:
    open_store(site.queue.settings).save(
        name,
        {
            "server": sink.host, "port": sink.port, "sender": "server@example.com", "timeout": timeout,
            "enqueue_job": True,
        },
    )  # fmt: skip


def send(site: Site, server: str, number: int) -> None:
    for n in range(number):
        send_mail(server, to=f"user{n}@example.com", subject="x", text="x", expires=3600, queue=site.queue)


def in_group(site: Site, server: str, state: State) -> int:
    """Instances of a server's group in a state, as far as a page shows them."""
    return len(site.storage.page(state, group=f"smtp:{server}", limit=2000).records)


def test_mails_of_a_healthy_server_arrive_while_those_of_a_hanging_one_wait(make_site: MakeSite) -> None:
    site = make_site(PLUGINS=("mail",))
    with Sink() as healthy, Sink(faults={"GREETING": Fault(hang=True)}) as hanging:
        define(site, "healthy", healthy, 10)
        # Longer than the test takes: whoever talks to it is gone.
        define(site, "hanging", hanging, 600)
        for _ in range(6):
            send(site, "hanging", 10)
            send(site, "healthy", 10)
        site.start_worker("-w", str(WORKERS))
        healthy.wait_for(60, timeout=120)
        wait_until(lambda: in_group(site, "healthy", State.DONE) == 60, what="the end of the healthy ones")
        assert not hanging.mails
        assert in_group(site, "hanging", State.RUNNING) + in_group(site, "hanging", State.QUEUED) == 60
        # An unproven destination holds no more than it began with.
        assert 1 <= in_group(site, "hanging", State.RUNNING) <= 2


def test_a_destination_that_begins_to_hang_leaves_workers_to_the_others(make_site: MakeSite) -> None:
    site = make_site(PLUGINS=("mail", "jobs_under_test"))
    with Sink() as sink:
        define(site, "main", sink, 600)
        site.start_worker("-w", "10")
        send(site, "main", 60)
        sink.wait_for(60, timeout=120)
        sink.fail_at("MAIL", Fault(hang=True))  # a greeting would be asked for by new connections only
        send(site, "main", 60)
        wait_until(lambda: in_group(site, "main", State.RUNNING) > 2, what="several that hang")
        assert site.wait_for(site.queue.enqueue("test.count", (1,)).id).state is State.DONE
        assert in_group(site, "main", State.RUNNING) <= 8


@pytest.mark.chaos
@pytest.mark.timeout(600)
@pytest.mark.parametrize("storage_url", ["redis"], indirect=True)
@pytest.mark.parametrize(
    ("dead", "healthy"), [(silent, ["one"]), *((dead, ["one", "other"]) for dead in (refusing, black_hole, silent))]
)
def test_beside_a_dead_server_the_healthy_ones_keep_four_fifths_of_their_rate(
    make_site: MakeSite, dead: Callable[[], AbstractContextManager[int]], healthy: list[str]
) -> None:
    mails = 1000
    site = make_site(PLUGINS=("mail",))
    with ExitStack() as stack:
        port = stack.enter_context(dead())
        sinks = {name: stack.enter_context(Sink(delay=DELAY)) for name in healthy}
        for name, sink in sinks.items():
            define(site, name, sink, 10)
        place = {"server": "127.0.0.1", "port": port, "sender": "server@example.com", "enqueue_job": True}
        open_store(site.queue.settings).save("dead", {**place, "timeout": 10})
        site.start_worker("-w", str(WORKERS))

        def rates_of(first: int, *servers: str) -> list[float]:
            """Mails per second of each healthy server, without the time in which the groups find their limits."""
            for _ in range(mails // 10):
                for server in servers:
                    send(site, server, 10)
            rates = []
            for sink in sinks.values():
                at = sorted(mail.at for mail in sink.wait_for(first + mails, timeout=300)[first:])
                rates.append((mails - mails // 5) / (at[-1] - at[mails // 5]))
            return rates

        alone = rates_of(0, *healthy)
        beside = rates_of(mails, "dead", *healthy)
        shares = [after / before for before, after in zip(alone, beside, strict=True)]
        told = ", ".join(f"{rate:.1f}" for rate in alone), ", ".join(f"{rate:.1f}" for rate in beside)
        print(f"alone {told[0]} mails/s, beside a {dead.__name__} server {told[1]}: {min(shares):.0%}")
        assert in_group(site, "dead", State.DONE) == 0
        waiting = sum(in_group(site, "dead", state) for state in (State.QUEUED, State.RUNNING, State.SCHEDULED))
        assert waiting == mails
        assert min(shares) >= 0.8


@pytest.mark.chaos
@pytest.mark.timeout(1800)
def test_a_hundred_thousand_that_wait_do_not_delay_what_is_urgent(site: Site) -> None:
    waiting, urgent = 100_000, 300
    for n in range(waiting):
        site.queue.enqueue("test.hold", (str(n), 0.05), priority=-10)
    site.start_worker("-w", "2", "-r", "1:10")
    wait_until(lambda: site.counts("test.hold").get(State.DONE, 0) > 20, what="work on those that wait")
    ids = []
    for n in range(urgent):
        ids.append(site.queue.enqueue("test.count", (n,), priority=10, expires=120).id)
        time.sleep(0.03)  # logins come one after the other
    records = [site.wait_for(instance_id) for instance_id in ids]
    assert {record.state for record in records} == {State.DONE}
    assert site.counts("test.hold")[State.QUEUED] > waiting * 0.9
    delays = sorted((record.started or 0) - record.created for record in records)
    median, p99 = delays[urgent // 2], delays[math.ceil(urgent * 0.99) - 1]
    print(
        f"{waiting} waiting: start of an urgent job after {median} ms (median), {p99} ms (99 %), {delays[-1]} ms (all)"
    )
    assert p99 <= 100
