"""Warm connections, and mails in as few flights as the server allows."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from services import wait_until

from pijobs_mail import pool as pools
from pijobs_mail.delivery import Endpoint, Mail
from pijobs_mail.errors import ConnectionLost, MailError, MaybeSent, ServerTrouble
from pijobs_mail.pool import Pool
from pijobs_mail.replies import Verdict
from pijobs_mail.sink import Fault, Sink

FAST = ("PIPELINING", "CHUNKING", "ENHANCEDSTATUSCODES")
OFFERS: list[tuple[str, ...]] = [(), ("PIPELINING",), ("CHUNKING",), FAST]
MAIL = Mail("from@example.com", ("a@example.com", "b@example.com"), b"Subject: x\r\n\r\nhello\r\n.\r\n")


@pytest.fixture
def pool() -> Iterator[Pool]:
    made = Pool()
    yield made
    made.close()


def endpoint(sink: Sink, **values: Any) -> Endpoint:
    return Endpoint(host=sink.host, port=sink.port, **{"timeout": 5.0, **values})


@pytest.mark.parametrize("offers", OFFERS)
def test_mails_share_a_connection_and_arrive_unchanged(pool: Pool, offers: tuple[str, ...]) -> None:
    with Sink(offers=offers) as sink:
        for _ in range(3):
            assert set(pool.deliver(endpoint(sink), MAIL).having(Verdict.ACCEPTED)) == set(MAIL.recipients)
        assert [(mail.recipients, mail.content) for mail in sink.mails] == [(MAIL.recipients, MAIL.content)] * 3
        assert sink.connections == 1
        # The first mail of a connection goes by DATA, whose 354 can't be mistaken.
        assert sink.steps["BDAT"] == (2 if offers == FAST else 0)


@pytest.mark.parametrize("offers", OFFERS)
@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("step", ["MAIL", "RCPT", "DATA", "END"])
@pytest.mark.parametrize(
    ("reply", "verdict"), [("451 4.7.1 later", Verdict.DEFERRED), ("550 5.7.1 never", Verdict.REFUSED)]
)
def test_a_refusal_is_one_of_each_recipient_and_the_next_mail_goes(
    pool: Pool, offers: tuple[str, ...], warm: bool, step: str, reply: str, verdict: Verdict
) -> None:
    with Sink(offers=offers) as sink:
        if warm:
            pool.deliver(endpoint(sink), MAIL)
        at = "BDAT" if step == "DATA" and "CHUNKING" in offers else step
        times = 2 if step == "RCPT" else 1
        if at == "BDAT":
            at = "END"  # a server that refuses a chunk reads it first (RFC 3030 2)
        if warm and at == "MAIL" and verdict is Verdict.DEFERRED:
            times = 2  # the first one is taken for the connection's
        sink.fail_at(at, Fault(reply, times=times))
        assert set(pool.deliver(endpoint(sink), MAIL).having(verdict)) == set(MAIL.recipients)
        assert len(sink.mails) == warm
        assert set(pool.deliver(endpoint(sink), MAIL).having(Verdict.ACCEPTED)) == set(MAIL.recipients)
        assert len(sink.mails) == warm + 1


@pytest.mark.parametrize("offers", OFFERS)
@pytest.mark.parametrize("warm", [False, True])
def test_one_refused_recipient_does_not_stop_the_other(pool: Pool, offers: tuple[str, ...], warm: bool) -> None:
    with Sink(offers=offers) as sink:
        if warm:
            pool.deliver(endpoint(sink), MAIL)
        sink.fail_at("RCPT", Fault("550 5.1.1 unknown", recipient="a@"))
        delivery = pool.deliver(endpoint(sink), MAIL)
        assert list(delivery.having(Verdict.REFUSED)) == ["a@example.com"]
        assert sink.mails[-1].recipients == ("b@example.com",)


@pytest.mark.parametrize("offers", OFFERS)
def test_a_kept_connection_that_was_closed_costs_no_attempt(pool: Pool, offers: tuple[str, ...]) -> None:
    with Sink(offers=offers) as sink:
        pool.deliver(endpoint(sink), MAIL)
        sink.fail_at("MAIL", Fault("421 4.4.2 too many mails", times=1))
        pool.deliver(endpoint(sink), MAIL)
        assert (sink.connections, len(sink.mails)) == (2, 2)


def test_a_connection_that_was_idle_is_tried_before_it_gets_a_mail(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "CHECK_AFTER", 0.0)
    with Sink(offers=FAST) as sink:
        pool.deliver(endpoint(sink), MAIL)
        sink.fail_at("RSET", Fault(drop=True, times=1))
        pool.deliver(endpoint(sink), MAIL)
        assert (sink.connections, sink.steps["RSET"], len(sink.mails)) == (2, 1, 2)


def test_an_idle_connection_is_closed_with_a_good_bye(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "IDLE", 0.05)
    with Sink() as sink:
        pool.deliver(endpoint(sink), MAIL)
        reaper = next(thread for thread in threading.enumerate() if thread.name == "smtp-idle")
        reaper.join(30)
        assert not reaper.is_alive()
        wait_until(lambda: sink.steps["QUIT"] == 1, what="the good-bye at the server")


def test_a_connection_carries_so_many_mails(pool: Pool) -> None:
    with Sink() as sink:
        for _ in range(4):
            pool.deliver(endpoint(sink, mails=2), MAIL)
        assert (sink.connections, sink.steps["QUIT"]) == (2, 2)


def test_connections_to_one_server_are_bounded(pool: Pool) -> None:
    with Sink(delay=0.02) as sink, ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: pool.deliver(endpoint(sink, timeout=30), MAIL, share=2), range(16)))
        assert len(sink.mails) == 16
        assert sink.connections <= 2


def test_a_failed_connection_leaves_room_for_the_next(pool: Pool) -> None:
    with Sink(faults={"GREETING": Fault("421 4.3.2 not now", times=3)}) as sink:
        for _ in range(3):
            with pytest.raises(ServerTrouble):
                pool.deliver(endpoint(sink), MAIL, share=1)
        pool.deliver(endpoint(sink), MAIL, share=1)


@pytest.mark.parametrize("fault", [Fault(drop=True), Fault(raw=b"503 5.5.1 one at a time\r\n"), Fault(raw=b"what\r\n")])
def test_a_server_that_can_not_take_a_flight_is_met_step_by_step_and_remembered(pool: Pool, fault: Fault) -> None:
    once = Fault(raw=fault.raw, drop=fault.drop, times=1)
    with Sink(offers=["PIPELINING"], faults={"RCPT": once}) as sink:
        pool.deliver(endpoint(sink), MAIL)
        assert pool._distrusted(endpoint(sink)) >= {"PIPELINING"}
        pool.deliver(endpoint(sink), MAIL)
        assert (sink.connections, len(sink.mails)) == (2, 2)


@pytest.mark.parametrize("offers", OFFERS)
@pytest.mark.parametrize("reply", ["555 5.5.4 unsupported option", "501 what"])
@pytest.mark.parametrize(("content", "doubted"), [(b"hello\r\n", {"SIZE"}), ("Grüße\r\n".encode(), {"8BITMIME"})])
def test_a_parameter_of_mail_that_is_offered_and_refused_is_left_out_and_remembered(
    pool: Pool, offers: tuple[str, ...], reply: str, content: bytes, doubted: set[str]
) -> None:
    mail = Mail(MAIL.sender, MAIL.recipients, b"Subject: x\r\n\r\n" + content)
    with Sink(offers=offers, faults={"MAIL": Fault(reply, times=1)}) as sink:
        for _ in range(3):
            assert set(pool.deliver(endpoint(sink), mail).having(Verdict.ACCEPTED)) == set(MAIL.recipients)
        assert pool._distrusted(endpoint(sink)) == doubted
        assert (sink.connections, len(sink.mails)) == (2, 3)
        assert all(each.content.isascii() == (doubted == {"8BITMIME"} or content.isascii()) for each in sink.mails)


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize(("reply", "connections"), [("501 5.1.7 bad sender", 1), ("501 what", 2), ("555 what", 2)])
def test_a_sender_that_is_refused_is_no_parameter_that_is(pool: Pool, warm: bool, reply: str, connections: int) -> None:
    with Sink(offers=FAST) as sink:
        if warm:
            pool.deliver(endpoint(sink), MAIL)
        before = sink.connections
        sink.fail_at("MAIL", reply)
        assert set(pool.deliver(endpoint(sink), MAIL).having(Verdict.REFUSED)) == set(MAIL.recipients)
        assert before + connections - 1 <= max(1, sink.connections) <= before + connections
        assert pool._distrusted(endpoint(sink)) == frozenset()


def test_a_connection_lives_so_long(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "MAX_AGE", 0.0)
    with Sink() as sink:
        for _ in range(2):
            pool.deliver(endpoint(sink), MAIL)
        assert (sink.connections, sink.steps["QUIT"]) == (2, 2)


def test_a_server_that_does_not_know_a_chunk_is_given_data(pool: Pool) -> None:
    with Sink(offers=FAST, faults={"BDAT": "502 5.5.2 what"}) as sink:
        pool.deliver(endpoint(sink), MAIL)
        pool.deliver(endpoint(sink), MAIL)
        assert (sink.steps["BDAT"], len(sink.mails)) == (1, 2)


def test_a_text_that_could_be_commands_is_sent_as_data(pool: Pool) -> None:
    text = b"x\r\nMAIL FROM:<e@example.com>\r\nRCPT TO:<v@example.com>\r\n"
    with Sink(offers=FAST) as sink:
        pool.deliver(endpoint(sink), Mail("f@example.com", ("a@example.com",), text))
        assert (sink.steps["BDAT"], sink.mails[0].content) == (0, text)


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("fault", [Fault(drop=True), Fault(raw=b"what\r\n")])
def test_a_connection_lost_after_the_whole_mail_may_have_sent_it(pool: Pool, warm: bool, fault: Fault) -> None:
    with Sink(offers=FAST) as sink:
        if warm:
            pool.deliver(endpoint(sink), MAIL)
        sink.fail_at("END", fault)
        with pytest.raises(MaybeSent):
            pool.deliver(endpoint(sink), MAIL)


@pytest.mark.parametrize("step", ["MAIL", "RCPT"])
def test_a_reply_too_many_is_never_taken_for_the_mail(pool: Pool, step: str) -> None:
    with Sink(offers=FAST) as sink:
        pool.deliver(endpoint(sink), MAIL)
        sink.fail_at(step, Fault(raw=b"250 2.1.0 ok\r\n250 2.1.0 ok\r\n", times=1))
        with suppress(MaybeSent, ConnectionLost):
            pool.deliver(endpoint(sink), MAIL)
            assert len(sink.mails) == 2


def test_an_address_that_is_more_than_one_goes_nowhere(pool: Pool) -> None:
    with Sink() as sink:
        for address in ("a@example.com> SIZE=1", "a@example.com\r\nRSET", "a b@example.com"):
            with pytest.raises((ValueError, MailError)):
                pool.deliver(endpoint(sink), Mail("f@example.com", (address,), b"x"))
        assert sink.steps["MAIL"] == 0


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_leaves_the_parent_its_connections(pool: Pool) -> None:
    with Sink(offers=FAST) as sink:
        pool.deliver(endpoint(sink), MAIL)
        child = os.fork()
        if child == 0:
            os._exit(len(pool._places))
        assert os.waitpid(child, 0)[1] == 0
        pool.deliver(endpoint(sink), MAIL)
        assert (sink.connections, len(sink.mails)) == (1, 2)
