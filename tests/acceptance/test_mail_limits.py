"""What an SMTP server may be given holds over all workers, and a mail that must not arrive twice does not."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from services import free_port, wait_until

from pijobs.execution.groups import Policy
from pijobs.jobs import State
from pijobs_mail.send import send_mail
from pijobs_mail.servers.definitions import open_store
from pijobs_mail.sink.server import Fault, Received, Sink

from .conftest import MakeSite
from .site import Site

DELAY = 0.02
TOO_MANY = "421 4.7.0 too many connections"


class Narrow(Sink):
    """Takes so many connections, and counts the most that it ever had at once."""

    def __init__(self, room: int, **options: Any) -> None:
        super().__init__(**options)
        self.room, self.most, self.turned_away = room, 0, 0

    def connected(self, transport: asyncio.WriteTransport, *, first: bool) -> None:
        super().connected(transport, first=first)
        self.most = max(self.most, len(self._transports))

    def fault_at(self, step: str, argument: str | None = None) -> Fault | None:
        if step == "GREETING" and len(self._transports) > self.room:
            self.turned_away += 1
            return Fault(TOO_MANY)
        return super().fault_at(step, argument)

    def __enter__(self) -> Narrow:
        super().__enter__()
        return self


@pytest.fixture
def mail_site(make_site: MakeSite) -> Site:
    return make_site(PLUGINS=("mail",))


def define(site: Site, sink: Sink, name: str = "main", **values: Any) -> None:
    place = {"server": sink.host, "port": sink.port, "sender": "server@example.com", "enqueue_job": True}
    open_store(site.queue.settings).save(name, {**place, "timeout": 10, **values})


def send(site: Site, number: int = 1, **options: Any) -> list[str]:
    letter = {"subject": "x", "text": "x", "expires": 600, "queue": site.queue, **options}
    return [send_mail("main", to=f"user{n}@example.com", **letter).id for n in range(number)]


def two_workers(site: Site) -> None:
    for _ in range(2):
        site.start_worker("-w", "6")
    wait_until(lambda: len(site.storage.sessions()) == 2, what="two workers")


@pytest.mark.parametrize("connections", [1, 3])
def test_two_workers_together_open_no_more_connections_than_the_definition_allows(
    mail_site: Site, connections: int
) -> None:
    with Narrow(1000, delay=DELAY) as sink:
        define(mail_site, sink, max_connections=connections)
        two_workers(mail_site)
        send(mail_site, 40)
        sink.wait_for(40, timeout=120)
        assert mail_site.wait_all_ended("mail.send") == {State.DONE: 40}
        assert sink.most <= connections


def test_two_workers_together_start_no_more_mails_than_the_rate(mail_site: Site) -> None:
    with Sink() as sink:
        define(mail_site, sink, rate="5/min")
        two_workers(mail_site)
        ids = send(mail_site, 12)
        sink.wait_for(5, timeout=120)
        wait_until(lambda: mail_site.counts("mail.send").get(State.DONE) == 5, what="the end of those that went")
        waiting = [one for one in ids if mail_site.record(one).state is not State.DONE]
        assert len(waiting) == 7

        def told() -> bool:
            return any("smtp:main is at its rate limit" in (mail_site.record(one).reason or "") for one in waiting)

        wait_until(told, what="the reason why the others wait")
        assert len(sink.mails) == 5
        assert all(mail_site.record(one).attempts == 0 for one in waiting)


def test_a_server_that_says_too_many_is_given_fewer_by_two_workers(mail_site: Site) -> None:
    with Narrow(3, delay=DELAY) as sink:
        define(mail_site, sink, max_connections=10)
        two_workers(mail_site)
        send(mail_site, 120)
        sink.wait_for(120, timeout=120)
        assert mail_site.wait_all_ended("mail.send") == {State.DONE: 120}
        group = mail_site.storage.group("smtp:main")
        policy = Policy.loads(group.policy)
        assert sink.turned_away >= 1 and policy.slowed_to is not None and group.limit <= 5
        assert TOO_MANY in (policy.reason or "")
        # Each time that it was given too much, it was given half as much from then on.
        assert sink.turned_away < 60
        told = mail_site.run("groups").stdout
        assert "wants fewer at once" in told


# -- what may have been sent -----------------------------------------------------------------------------------------


@contextmanager
def taken_without_a_word() -> Iterator[Sink]:
    """It keeps the first mail, and never answers it."""
    with Sink(faults={"END": Fault(hang=True, times=1)}) as sink:
        yield sink


class SlowFilter(Sink):
    """Takes its time over each mail, after its end, longer than any time-out of the definition."""

    def keep(self, received: Received) -> None:
        super().keep(received)
        time.sleep(2.5)


def test_a_filter_that_is_slower_than_time_out_and_deadline_gets_the_mail_once(mail_site: Site) -> None:
    mail_site.start_worker("-w", "1")
    with SlowFilter() as sink:
        define(mail_site, sink, timeout=1)
        (sent,) = send(mail_site, expires=2)
        assert mail_site.wait_for(sent).state is State.DONE
        assert len(sink.mails) == 1


def test_a_notice_that_may_have_been_sent_is_dead_and_an_otp_goes_again(mail_site: Site) -> None:
    mail_site.start_worker("-w", "1")
    for policy, ends, mails in (("not", State.DEAD, 1), ("again", State.DONE, 2)):
        with Sink(faults={"END": Fault(drop=True, times=1)}) as sink:
            define(mail_site, sink)
            (sent,) = send(mail_site, if_maybe_sent=policy)
            record = mail_site.wait_for(sent)
            assert (record.state, len(sink.mails)) == (ends, mails)
            shown = mail_site.run("jobs", "show", sent).stdout
            assert "may have been sent: no reply from" in shown
            assert len({mail.message["Message-ID"] for mail in sink.mails}) == 1


def end_by_kill(site: Site, worker: Any) -> None:
    os.killpg(worker.pid, signal.SIGKILL)


def end_by_two_signals(site: Site, worker: Any) -> None:
    worker.send_signal(signal.SIGTERM)
    wait_until(lambda: "the worker stops" in site.output(), what="what the first signal does")
    worker.send_signal(signal.SIGTERM)


@pytest.mark.parametrize("end", [end_by_kill, end_by_two_signals])
@pytest.mark.parametrize("kind", ["thread", "process"])
@pytest.mark.parametrize(("policy", "state", "mails"), [("not", State.DEAD, 1), ("again", State.DONE, 2)])
def test_a_worker_that_is_lost_with_a_mail_doubles_no_notice(
    mail_site: Site, end: Any, kind: str, policy: str, state: State, mails: int
) -> None:
    with taken_without_a_word() as sink:
        define(mail_site, sink)
        worker = mail_site.start_worker("-w", "1", "-k", kind)
        (sent,) = send(mail_site, if_maybe_sent=policy)
        sink.wait_for(1, timeout=120)
        end(mail_site, worker)
        worker.wait(120)
        mail_site.start_worker("-w", "1")
        record = mail_site.wait_for(sent)
        assert (record.state, len(sink.mails)) == (state, mails), record
        if state is State.DEAD:
            assert "may have been sent: a worker was lost" in (record.reason or "")


# -- failover --------------------------------------------------------------------------------------------------------


def test_a_second_server_takes_over_and_people_see_why(mail_site: Site) -> None:
    with Sink() as backup:
        define(mail_site, backup, "backup")
        define(mail_site, backup, port=free_port(), fallback="backup")
        mail_site.start_worker("-w", "2")
        ids = send(mail_site, 10)
        backup.wait_for(10, timeout=30)
        assert {mail_site.wait_for(one).state for one in ids} == {State.DONE}
        wait_until(lambda: mail_site.storage.group("smtp:main").policy, what="a policy")
        told = mail_site.run("status").stdout
        assert "SMTP server 'backup' takes over for 'main': no connection to" in told
        assert "Connection refused" in told
        assert "server: backup" in mail_site.run("jobs", "show", ids[-1]).stdout
        assert "SMTP server 'backup' takes over: no connection to" in mail_site.log.read_text()


def test_a_server_that_is_not_verified_is_told_by_the_command(mail_site: Site) -> None:
    with Sink() as sink:
        define(mail_site, sink, verify=False)
        words = (
            "warning: mail.smtp_servers: SMTP server 'main' is not verified: others on the network can read its mails"
        )
        assert words in mail_site.run("status").stdout
        assert words in mail_site.run("config", "check").stderr
        assert "mail.smtp_servers" in json.loads(mail_site.run("status", "--json").stdout)["checks"]


@pytest.mark.chaos
def test_a_filter_that_is_away_opens_the_breaker_and_the_second_server_is_asked(mail_site: Site) -> None:
    """What a milter that is away lets Postfix say to each mail."""
    away = "451 4.7.1 Service unavailable - try again later"
    with Sink(faults={"RCPT": away}) as sink, Sink() as backup:
        define(mail_site, backup, "backup")
        define(mail_site, sink, fallback="backup")
        mail_site.start_worker("-w", "2")
        send(mail_site, 8, expires=60)
        backup.wait_for(8, timeout=60)
        assert mail_site.wait_all_ended("mail.send") == {State.DONE: 8}
        assert (len(sink.mails), len(backup.mails)) == (0, 8)
        assert "takes over for 'main'" in mail_site.run("groups").stdout


@pytest.mark.chaos
def test_a_filter_that_is_away_opens_the_breaker_where_there_is_no_second_server(mail_site: Site) -> None:
    with Sink(faults={"RCPT": "451 4.7.1 Service unavailable - try again later"}) as sink:
        define(mail_site, sink)
        mail_site.start_worker("-w", "2")
        sent = send(mail_site, 8, expires=60)

        def is_open() -> bool:
            return Policy.loads(mail_site.storage.group("smtp:main").policy).breaker == "open"

        wait_until(is_open, what="the breaker")
        sink.fail_at("RCPT", [])
        assert mail_site.wait_all_ended("mail.send") == {State.DONE: len(sent)}
        assert len(sink.mails) == len(sent)


def test_trouble_with_one_recipient_stops_no_mail_to_others(mail_site: Site) -> None:
    lookup = Fault("451 4.3.0 <user0@example.com>: Temporary lookup failure", recipient="user0@")
    with Sink(faults={"RCPT": lookup}) as sink:
        define(mail_site, sink)
        mail_site.start_worker("-w", "2")
        bad = [send(mail_site, 1, expires=60)[0] for _ in range(4)]
        wait_until(lambda: sink.steps["RCPT"] >= 8, what="attempts at the bad one")
        good = send(mail_site, 5, expires=60)[1:]
        sink.wait_for(len(good), timeout=20)
        assert all(mail_site.wait_for(one).state is State.DONE for one in good)
        assert Policy.loads(mail_site.storage.group("smtp:main").policy).breaker == "closed"
        assert {mail_site.record(one).state for one in bad} <= {State.SCHEDULED, State.QUEUED, State.RUNNING}
