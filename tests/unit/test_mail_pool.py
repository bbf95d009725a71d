"""Warm connections, and mails in as few flights as the server allows."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BufferedRWPair
from typing import Any

import pytest
from listening import Listening
from services import wait_until

from pijobs_mail.engine import pool as pools
from pijobs_mail.engine.delivery import Endpoint, Mail
from pijobs_mail.engine.pool import Pool
from pijobs_mail.engine.replies import Verdict
from pijobs_mail.errors import ConnectionLost, MailError, MaybeSent, ServerTrouble
from pijobs_mail.sink.server import Fault, Sink

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
        wait_until(lambda: sink.steps["QUIT"] == 1, what="the good-bye at the server")
        wait_until(lambda: pool._reaper is None, what="the end of the thread")


def test_a_mail_does_not_wake_who_waits_for_connections_to_grow_old(pool: Pool) -> None:
    with Sink() as sink:
        pool.deliver(endpoint(sink), MAIL)
        wait_until(lambda: len(pool._closed._waiters) == 1, what="the reaper's wait")  # type: ignore[attr-defined]
        [wait] = pool._closed._waiters  # type: ignore[attr-defined]
        pool.deliver(endpoint(sink), MAIL)
        assert [*pool._closed._waiters] == [wait]  # type: ignore[attr-defined]
        pool.close()
        wait_until(lambda: pool._reaper is None, what="the end of the thread")


def test_a_connection_carries_so_many_mails(pool: Pool) -> None:
    with Sink() as sink:
        for _ in range(4):
            pool.deliver(endpoint(sink, mails=2), MAIL)
        assert (sink.connections, sink.steps["QUIT"]) == (2, 2)


@pytest.mark.parametrize(("greeting", "connections"), [("ESMTP Postfix (Debian)", 1), ("ESMTP Exim 4.96", 2)])
def test_a_server_that_is_not_known_to_take_many_gets_ten_mails_over_a_connection(
    pool: Pool, greeting: str, connections: int
) -> None:
    with Sink(faults={"GREETING": f"220 mail.example.com {greeting}"}) as sink:
        for _ in range(11):
            pool.deliver(endpoint(sink), MAIL)
        assert sink.connections == connections


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


# -- whose trouble it is ---------------------------------------------------------------------------------------------


def mail(number: int, to: str | None = None) -> Mail:
    return Mail("from@example.com", (to or f"user{number}@example.com",), b"Subject: %d\r\n\r\nhello\r\n" % number)


@pytest.mark.parametrize(
    ("step", "says"),
    [
        ("MAIL", "452 4.5.3 Too many recipients: Too many messages sent"),
        ("MAIL", "450 come back"),
        ("RCPT", "450 4.7.0 limit of messages for this connection"),
        ("END", "452 Maximum message count per session reached"),
    ],
)
def test_a_used_connection_that_takes_no_more_mails_costs_no_attempt(pool: Pool, step: str, says: str) -> None:
    with OnlySoMany(3, step, says) as sink:
        for number in range(8):
            assert pool.deliver(endpoint(sink), mail(number)).having(Verdict.ACCEPTED)
        assert (len(sink.mails), sink.connections) == (8, 3)


class OnlySoMany(Sink):
    """Takes so many mails over a connection, as OpenSMTPD's ``max-mails`` does."""

    def __init__(self, most: int, step: str, says: str) -> None:
        super().__init__()
        self._most, self._step, self._says, self._at = most, step, says, 0

    def fault_at(self, step: str, argument: str | None = None) -> Fault | None:
        if step == "GREETING":
            self._at = 0
        if step != self._step:
            return None
        self._at += 1
        return Fault(self._says) if self._at > self._most else None


@pytest.mark.parametrize("offers", OFFERS)
@pytest.mark.parametrize("warm", [False, True])
def test_too_many_errors_of_a_mail_are_the_mails_and_what_is_decided_stands(
    pool: Pool, offers: tuple[str, ...], warm: bool
) -> None:
    """As Postfix does: so many unknown recipients, then 421."""
    unknown = [f"nobody{number}@example.com" for number in range(3)]
    everyone = ("first@example.com", *unknown, "good@example.com", "last@example.com")
    faults = [Fault("550 5.1.1 unknown", recipient="nobody"), Fault("421 4.7.0 too many errors", recipient="good")]
    with Sink(offers=offers) as sink:
        if warm:
            pool.deliver(endpoint(sink), MAIL)
        sink.fail_at("RCPT", faults)
        delivery = pool.deliver(endpoint(sink), Mail("from@example.com", everyone, b"hello\r\n"))
        assert list(delivery.having(Verdict.REFUSED)) == unknown
        rest = list(delivery.having(Verdict.DEFERRED))
        assert rest == ["first@example.com", "good@example.com", "last@example.com"]
        assert len(sink.mails) == warm
        sink.fail_at("RCPT", [])
        pool.deliver(endpoint(sink), Mail("from@example.com", tuple(rest), b"hello\r\n"))
        assert sink.mails[-1].recipients == tuple(rest)


@pytest.mark.parametrize("reply", ["421 4.3.2 shutting down", "450 4.3.2 Service currently unavailable"])
def test_a_server_that_says_that_it_closes_is_in_trouble_whatever_was_before(pool: Pool, reply: str) -> None:
    faults = [Fault("550 5.1.1 unknown", recipient="a@"), Fault(reply, recipient="b@")]
    with Sink(faults={"RCPT": faults}) as sink, pytest.raises(ServerTrouble):
        pool.deliver(endpoint(sink), MAIL)


def test_trouble_with_one_recipient_stops_neither_the_others_nor_the_next_mails(pool: Pool) -> None:
    lookup = Fault("451 4.3.0 <bad@example.com>: Temporary lookup failure", recipient="bad@")
    with Sink(faults={"RCPT": lookup}) as sink:
        both = Mail("from@example.com", ("bad@example.com", "good@example.com"), b"hello\r\n")
        assert list(pool.deliver(endpoint(sink), both).having(Verdict.ACCEPTED)) == ["good@example.com"]
        for number in range(10):  # in a row, and to the same one
            assert pool.deliver(endpoint(sink), mail(number, "bad@example.com")).having(Verdict.DEFERRED)
        assert pool.deliver(endpoint(sink), mail(1)).having(Verdict.ACCEPTED)


@pytest.mark.parametrize(
    ("step", "reply"),
    [
        ("MAIL", "451 4.7.1 Service unavailable - try again later"),
        ("RCPT", "451 4.7.1 Service unavailable - try again later"),
        ("RCPT", "451 Temporary local problem - please try later"),
        ("RCPT", "530 SMTP authentication is required."),
        ("DATA", "451 4.3.5 Server configuration error"),
        ("END", "451 4.3.0 Error: queue file write error"),
        ("END", "421 4.7.0 Try again later"),
    ],
)
def test_what_several_different_mails_in_a_row_get_is_the_servers_trouble(pool: Pool, step: str, reply: str) -> None:
    with Sink(faults={step: reply}) as sink:
        for number in (0, 0, 0, 1):  # the same mail again says nothing new
            assert pool.deliver(endpoint(sink), mail(number)).having(Verdict.DEFERRED)
        for number in (2, 0):
            with pytest.raises(ServerTrouble, match=reply[:3]) as trouble:
                pool.deliver(endpoint(sink), mail(number))
            assert trouble.value.supposed
        sink.fail_at(step, [])
        assert pool.deliver(endpoint(sink), mail(0)).having(Verdict.ACCEPTED)
        sink.fail_at(step, reply)
        assert pool.deliver(endpoint(sink), mail(3)).having(Verdict.DEFERRED)


@pytest.mark.parametrize(
    "reply", ["450 4.2.0 Greylisted", "451 4.7.1 greylisting", "450 4.2.1 mailbox busy", "452 4.5.3 too many"]
)
def test_what_is_about_recipients_never_becomes_the_servers_trouble(pool: Pool, reply: str) -> None:
    with Sink(faults={"RCPT": reply}) as sink:
        for number in range(6):
            assert pool.deliver(endpoint(sink), mail(number)).having(Verdict.DEFERRED)


def test_a_full_disk_that_has_no_room_for_a_big_mail_takes_small_ones(pool: Pool) -> None:
    class NearlyFull(Sink):
        def fault_at(self, step: str, argument: str | None = None) -> Fault | None:
            size = int((argument or "").partition("SIZE=")[2].partition(" ")[0] or 0)
            return Fault("452 4.3.1 Insufficient system storage") if step == "MAIL" and size > 300_000 else None

    big = Mail("from@example.com", ("a@example.com",), b"x" * 70 + b"\r\n" + (b"y" * 70 + b"\r\n") * 6000)
    with NearlyFull() as sink:
        for _ in range(4):
            assert pool.deliver(endpoint(sink), big).having(Verdict.DEFERRED)
        assert pool.deliver(endpoint(sink), MAIL).having(Verdict.ACCEPTED)


def test_a_login_that_ended_on_a_kept_connection_is_made_anew(pool: Pool) -> None:
    with Sink(logins={"user": "hunter2"}) as sink:
        place = endpoint(sink, username="user", password="hunter2")
        pool.deliver(place, MAIL)
        sink.fail_at("MAIL", Fault("530 5.7.57 Client not authenticated to send mail.", times=1))
        assert pool.deliver(place, MAIL).having(Verdict.ACCEPTED)
        assert (sink.connections, sink.steps["AUTH"]) == (2, 2)


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux only")
def test_a_machine_that_is_gone_is_found_out_though_a_filter_may_take_minutes(pool: Pool) -> None:
    with Sink() as sink:
        pool.deliver(endpoint(sink), MAIL)
        [line] = pool._places[endpoint(sink)].idle
        kept = line.conversation._link._socket
        assert kept.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert kept.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) <= 30
        assert kept.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) <= 30_000


# -- ids, and replies that do not fit --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("envelope", "end", "in_one_flight"),
    [
        ("250 2.1.{0} OK a1-b2si{1}e9.{1} - gsmtp", "250 2.0.0 OK  1764000001 a1-b2si{1}e9.{1} - gsmtp", True),
        ("250 OK id={1}A{0}", "250 OK id={1}B{0}", False),
        ("250 recipient ok", "250 OK: queued", False),
        ("250 OK queued", "250 Ok: queued as 4ZxY1b2c3d{1}", True),
    ],
)
def test_words_and_ids_in_each_reply_leave_no_doubt(pool: Pool, envelope: str, end: str, in_one_flight: bool) -> None:
    with Chatty(envelope, end) as relay:
        where = Endpoint(host="127.0.0.1", port=relay.port, timeout=5)
        for number in range(5):
            assert pool.deliver(where, mail(number)).having(Verdict.ACCEPTED)
        assert (relay.chunks > 0) is in_one_flight
    assert relay.taken == 5


class Chatty(Listening):
    """A relay with PIPELINING and CHUNKING whose words are given; it counts what it takes."""

    def __init__(self, envelope: str, end: str) -> None:
        super().__init__()
        self.envelope, self.end = envelope, end
        self.taken = self.chunks = 0

    def talk(self, stream: BufferedRWPair) -> None:
        def say(text: str) -> None:
            stream.write(text.encode() + b"\r\n")
            stream.flush()

        say("220 chatty")
        while words := stream.readline().split():
            verb = words[0].upper()
            if verb == b"EHLO":
                say("250-chatty\r\n250-PIPELINING\r\n250-ENHANCEDSTATUSCODES\r\n250 CHUNKING")
            elif verb == b"DATA":
                say("354 go on")
                while stream.readline() != b".\r\n":
                    pass
                self.taken += 1
                say(self.end.format(0, self.taken))
            elif verb == b"BDAT":
                stream.read(int(words[1]))
                self.taken, self.chunks = self.taken + 1, self.chunks + 1
                say(self.end.format(0, self.taken))
            else:
                say(self.envelope.format(0, self.taken + 10) if verb != b"QUIT" else "221 bye")
