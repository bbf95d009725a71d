"""Replies that are right and come in a strange form, and replies that nothing was asked for, at each step."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from pijobs_mail.engine.delivery import Endpoint, Mail
from pijobs_mail.engine.pool import Pool
from pijobs_mail.engine.replies import Verdict
from pijobs_mail.errors import ConnectionLost, MailError, MaybeSent, ServerTrouble
from pijobs_mail.sink.server import Fault, Sink

FAST = ("PIPELINING", "CHUNKING", "ENHANCEDSTATUSCODES")
OFFERS: list[tuple[str, ...]] = [(), ("PIPELINING",), FAST]
MAIL = Mail("from@example.com", ("a@example.com", "b@example.com"), b"Subject: x\r\n\r\nhello\r\n.\r\n")
NEXT = Mail("from@example.com", ("c@example.com", "d@example.com"), b"Subject: y\r\n\r\nnext\r\n")
LOGIN = ("user", "hunter2")

#: Takes what the server says, and gives the pieces that the client gets.
Strange = Callable[[bytes], list[bytes]]


def split(said: bytes) -> list[bytes]:
    """Each byte in a packet of its own."""
    return [said[n : n + 1] for n in range(len(said))]


def long_lines(said: bytes) -> list[bytes]:
    """Each line 100 kB long, in pieces that end anywhere."""
    lines = b"".join(line + b" " + b"- " * 50_000 + b"\r\n" for line in said.split(b"\r\n") if line)
    return [lines[n : n + 33_333] for n in range(0, len(lines), 33_333)]


def bare_feeds(said: bytes) -> list[bytes]:
    """Lines that end with LF alone, as old servers send them."""
    return [said.replace(b"\r\n", b"\n")]


@contextmanager
def between(sink: Sink, strange: Strange) -> Iterator[int]:
    """A port that leads to the sink, whose words come out strangely."""
    listening = socket.create_server(("127.0.0.1", 0))
    pairs: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            server = socket.create_connection((sink.host, sink.port))
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pairs.extend((client, server))
            threading.Thread(target=carry, args=(client, server, strange), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listening.getsockname()[1]
    finally:
        listening.close()
        for one in pairs:
            one.close()


def carry(client: socket.socket, server: socket.socket, strange: Strange) -> None:
    try:
        while True:
            for ready in select.select([client, server], [], [])[0]:
                content = ready.recv(65536)
                if not content:
                    client.close()
                    server.close()
                    return
                if ready is client:
                    server.sendall(content)
                else:
                    for piece in strange(content):
                        client.sendall(piece)
    except (OSError, ValueError):  # one of them has hung up
        return


@pytest.fixture
def pool() -> Iterator[Pool]:
    made = Pool()
    yield made
    made.close()


@pytest.mark.parametrize("offers", OFFERS)
@pytest.mark.parametrize("strange", [split, long_lines, bare_feeds])
def test_replies_in_a_strange_form_are_understood_at_each_step(
    pool: Pool, offers: tuple[str, ...], strange: Strange
) -> None:
    with Sink(offers=offers, logins=dict([LOGIN])) as sink, between(sink, strange) as port:
        place = Endpoint(host="127.0.0.1", port=port, username=LOGIN[0], password=LOGIN[1], timeout=20)
        for _ in range(3):
            assert set(pool.deliver(place, MAIL).having(Verdict.ACCEPTED)) == set(MAIL.recipients)
        assert [(mail.recipients, mail.content) for mail in sink.mails] == [(MAIL.recipients, MAIL.content)] * 3
        assert sink.connections == 1


@pytest.mark.parametrize("offers", OFFERS)
@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("step", ["GREETING", "EHLO", "AUTH", "MAIL", "RCPT", "DATA", "END"])
def test_a_reply_too_many_never_makes_a_mail_look_sent(
    pool: Pool, offers: tuple[str, ...], warm: bool, step: str
) -> None:
    right = {"GREETING": "220 hello", "AUTH": "235 2.7.0 ok", "DATA": "354 go on", "END": "250 2.0.0 queued as ABCDEF"}
    twice = f"{right.get(step, '250 2.1.0 ok')}\r\n250 2.0.0 ok\r\n".encode()
    with Sink(offers=offers, logins=dict([LOGIN])) as sink:
        place = Endpoint(host=sink.host, port=sink.port, username=LOGIN[0], password=LOGIN[1], timeout=5)
        if warm:
            pool.deliver(place, MAIL)
        sink.fail_at(step, Fault(raw=twice, times=1))
        before = len(sink.mails)
        try:
            taken = pool.deliver(place, MAIL).having(Verdict.ACCEPTED)
        except MaybeSent:
            pass  # said as it is: nobody knows
        except (ConnectionLost, ServerTrouble):
            assert len(sink.mails) == before
        else:
            assert not taken or len(sink.mails) == before + 1
        # Whatever it was, the next mail is not judged by what was left over.
        sink.fail_at(step, [])
        assert set(pool.deliver(place, NEXT).having(Verdict.ACCEPTED)) == set(NEXT.recipients)
        assert [mail.content for mail in sink.mails].count(NEXT.content) == 1


@pytest.mark.parametrize("ends", [False, True])
def test_a_reply_too_many_beside_a_refused_recipient_hides_no_mail_that_was_taken(pool: Pool, ends: bool) -> None:
    extra: list[bytes] = []

    def one_too_many(said: bytes) -> list[bytes]:
        return [extra.pop() + said] if extra else [said]

    unknown = Fault("550 5.1.1 unknown", recipient="b@")
    with Sink(offers=FAST, faults={"RCPT": unknown}) as sink, between(sink, one_too_many) as port:
        place = Endpoint(host="127.0.0.1", port=port, timeout=5)
        assert set(pool.deliver(place, MAIL).having(Verdict.REFUSED)) == {"b@example.com"}
        if ends:
            sink.fail_at("END", Fault("554 5.7.1 spam"))
        extra.append(b"250 2.1.0 ok\r\n")
        if ends:
            assert set(pool.deliver(place, MAIL).having(Verdict.REFUSED)) == set(MAIL.recipients)
        else:
            # MAIL, both recipients and the text seem to be answered by 250, 250, 250 and 550.
            with pytest.raises(MaybeSent, match="took the mail"):
                pool.deliver(place, MAIL)
        assert len(sink.mails) == (1 if ends else 2)
        sink.fail_at("END", [])
        assert set(pool.deliver(place, NEXT).having(Verdict.ACCEPTED)) == set(NEXT.recipients)


@pytest.mark.parametrize("offers", OFFERS)
@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("step", ["GREETING", "EHLO", "AUTH", "MAIL", "RCPT", "DATA", "END"])
@pytest.mark.parametrize("fault", [Fault(drop=True, times=1), Fault(hang=True, times=1)])
def test_closed_or_silent_at_any_step_a_mail_is_sent_or_told_as_open(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, offers: tuple[str, ...], warm: bool, step: str, fault: Fault
) -> None:
    monkeypatch.setattr("pijobs_mail.engine.delivery.FINAL_TIMEOUT", 0.8)
    monkeypatch.setattr("pijobs_mail.engine.connection.QUIT_TIMEOUT", 0.1)
    with Sink(offers=offers, logins=dict([LOGIN])) as sink:
        place = Endpoint(host=sink.host, port=sink.port, username=LOGIN[0], password=LOGIN[1], timeout=0.8)
        if warm:
            pool.deliver(place, MAIL)
        sink.fail_at(step, fault)
        before = len(sink.mails)
        try:
            taken = pool.deliver(place, MAIL).having(Verdict.ACCEPTED)
        except MaybeSent:
            pass
        except (ConnectionLost, ServerTrouble):
            assert len(sink.mails) == before
        else:
            assert taken and len(sink.mails) == before + 1


def test_more_than_a_reply_can_be_is_no_smtp() -> None:
    with Sink(faults={"GREETING": Fault(raw=b"220 " + b"x" * 3_000_000)}) as sink:
        place = Endpoint(host=sink.host, port=sink.port, timeout=5)
        with pytest.raises(MailError, match="expected a reply of at most"):
            Pool().deliver(place, MAIL)


@pytest.mark.parametrize("careful", [False, True])
def test_a_mail_that_must_not_be_doubled_is_in_doubt_after_its_end_only(pool: Pool, careful: bool) -> None:
    mail = Mail(MAIL.sender, MAIL.recipients, MAIL.content, careful=careful)
    with Sink(offers=FAST) as sink:
        place = Endpoint(host=sink.host, port=sink.port, timeout=5)
        for _ in range(2):
            pool.deliver(place, mail)
        sink.fail_at("RCPT", Fault(drop=True))
        with pytest.raises(ConnectionLost if careful else MaybeSent):
            pool.deliver(place, mail)
