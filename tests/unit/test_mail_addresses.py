"""A name with several addresses: they are tried in turn, within the deadline."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from dead_ends import black_hole, refusing, silent
from services import free_port

from pijobs_mail.engine.delivery import Deadline, Endpoint, Mail
from pijobs_mail.engine.replies import Verdict
from pijobs_mail.engine.transport import deliver
from pijobs_mail.errors import ServerTrouble
from pijobs_mail.sink.server import Sink

MAIL = Mail("from@example.com", ("a@example.com",), b"Subject: x\r\n\r\nhello\r\n")


class Over(Exception):
    """The time of the mail is over."""


@contextmanager
def turning_away() -> Iterator[int]:
    with Sink(faults={"GREETING": "421 4.3.2 not now"}) as sink:
        yield sink.port


def resolve(monkeypatch: pytest.MonkeyPatch, *ports: int | None) -> None:
    """Each name has these addresses; None: one of a kind that this machine does not have."""
    kind = socket.SOCK_STREAM
    places = [(socket.AF_INET, kind, 6, "", ("127.0.0.1", port)) if port else (250, kind, 0, "", ()) for port in ports]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: places)


@pytest.mark.parametrize("dead", [refusing, black_hole, silent, turning_away])
def test_the_next_address_is_tried_when_one_is_dead(
    monkeypatch: pytest.MonkeyPatch, dead: Callable[[], AbstractContextManager[int]]
) -> None:
    with Sink() as sink, dead() as port:
        resolve(monkeypatch, port, sink.port)
        started = time.monotonic()
        delivery = deliver(Endpoint(host="mail.example.com", port=25, timeout=1), MAIL)
        assert set(delivery.having(Verdict.ACCEPTED)) == set(MAIL.recipients)
        assert time.monotonic() - started < 10
        # Not its connections: another test's client may still try a port that was its sink's.
        assert len(sink.mails) == 1


def test_an_address_of_a_kind_that_this_machine_does_not_have_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with Sink() as sink:
        resolve(monkeypatch, None, sink.port)
        deliver(Endpoint(host="mail.example.com", port=25, timeout=5), MAIL)
        assert len(sink.mails) == 1


@pytest.mark.parametrize("dead", [black_hole, silent])
def test_all_addresses_together_have_the_time_of_the_mail(
    monkeypatch: pytest.MonkeyPatch, dead: Callable[[], AbstractContextManager[int]]
) -> None:
    until = time.monotonic() + 1

    def check() -> None:
        if time.monotonic() >= until:
            raise Over

    with dead() as port, Sink() as sink:
        resolve(monkeypatch, port, port, port)
        deadline = Deadline(lambda: until - time.monotonic(), check)
        with pytest.raises((Over, ServerTrouble)):
            deliver(Endpoint(host="mail.example.com", port=25, timeout=30), MAIL, deadline)
        assert 0.8 < time.monotonic() - until + 1 < 5
        # One that works gets its share.
        until = time.monotonic() + 3
        resolve(monkeypatch, port, port, sink.port)
        deliver(Endpoint(host="mail.example.com", port=25, timeout=30), MAIL, deadline)


def test_the_last_address_tells_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    with turning_away() as port:
        resolve(monkeypatch, free_port(), port)
        with pytest.raises(ServerTrouble, match=r"421 4\.3\.2 not now"):
            deliver(Endpoint(host="mail.example.com", port=25, timeout=5), MAIL)
