"""Nothing stays open of a mail, however its connection ends: no socket, no place in the pool."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority, self_signed
from services import wait_until

from pijobs_mail.engine.delivery import Deadline, Endpoint, Mail
from pijobs_mail.engine.pool import Pool
from pijobs_mail.engine.replies import Verdict
from pijobs_mail.engine.transport import deliver
from pijobs_mail.errors import MailError, TlsRefused
from pijobs_mail.sink.server import Fault, Sink

MAIL = Mail("from@example.com", ("a@example.com",), b"Subject: x\r\n\r\nhello\r\n")
STEPS = ("GREETING", "EHLO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", "END", "QUIT")
FAULTS = (Fault(drop=True), Fault(hang=True), Fault("421 4.3.2 no"), Fault("554 5.3.2 no"), Fault(raw=b"what\r\n"))
FAST = ("PIPELINING", "CHUNKING")


def connections_to(port: int) -> int:
    """Sockets of this process that lead there, also those that the server closed."""
    own = set()
    for file in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            own.add(os.readlink(file))
    lines = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
    return sum(int(line[2].partition(":")[2], 16) == port and f"socket:[{line[9]}]" in own for line in lines)


def busy(pool: Pool) -> int:
    return sum(place.busy for place in pool._places.values())


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(autouse=True)
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pijobs_mail.engine.delivery.FINAL_TIMEOUT", 0.2)
    monkeypatch.setattr("pijobs_mail.engine.connection.QUIT_TIMEOUT", 0.2)


@pytest.fixture
def pool() -> Iterator[Pool]:
    made = Pool()
    yield made
    made.close()


@pytest.mark.parametrize("offers", [(), FAST])
@pytest.mark.parametrize("security", ["plain", "starttls", "tls"])
@pytest.mark.parametrize("step", STEPS)
def test_a_failure_at_any_step_leaves_nothing_open(
    authority: Authority, pool: Pool, step: str, security: Any, offers: tuple[str, ...]
) -> None:
    tls = None if security == "plain" else authority.context()
    with Sink(tls=tls, implicit_tls=security == "tls", logins={"user": "hunter2"}, offers=offers) as sink:
        place = Endpoint(
            host=sink.host, port=sink.port, security=security, username="user", password="hunter2",
            ca_file=authority.file, timeout=0.2,
        )  # fmt: skip
        for warm in (False, True):
            for fault in FAULTS:
                sink.fail_at(step, [])
                if warm:
                    with suppress(MailError):
                        pool.deliver(place, MAIL)
                sink.fail_at(step, fault)
                for send in (pool.deliver, deliver):
                    with suppress(MailError):
                        send(place, MAIL)
                assert busy(pool) == 0, fault
                pool.close()
                assert connections_to(sink.port) == 0, fault


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_certificate_that_is_refused_leaves_nothing_open(
    authority: Authority, pool: Pool, tmp_path: Path, security: Any
) -> None:
    with Sink(tls=self_signed(tmp_path, "127.0.0.1"), implicit_tls=security == "tls") as sink:
        place = Endpoint(host=sink.host, port=sink.port, security=security, ca_file=authority.file, timeout=5)
        with pytest.raises(TlsRefused):
            pool.deliver(place, MAIL)
        assert (busy(pool), connections_to(sink.port)) == (0, 0)


@pytest.mark.parametrize("fault", [Fault(hang=True), Fault(drop=True), Fault(raw=b"what\r\n")])
def test_servers_that_hang_at_the_good_bye_hold_up_a_shutdown_once_and_no_other_good_bye(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    monkeypatch.setattr("pijobs_mail.engine.connection.QUIT_TIMEOUT", 2.0)
    with Sink(faults={"QUIT": fault}, delay=0.05) as bad, Sink() as good:
        places = [Endpoint(host=sink.host, port=sink.port, timeout=5) for sink in (bad, good)]
        with ThreadPoolExecutor(6) as threads:
            list(threads.map(lambda _: pool.deliver(places[0], MAIL), range(6)))
        pool.deliver(places[1], MAIL)
        assert bad.connections > 2
        started = time.monotonic()
        pool.close()
        assert time.monotonic() - started < 5.5
        wait_until(lambda: good.steps["QUIT"] == 1, what="the good-bye")
        assert [connections_to(sink.port) for sink in (bad, good)] == [0, 0]


class Over(Exception):
    """The time of the mail is over."""


def test_a_deadline_that_passes_while_an_idle_connection_is_tried_leaves_nothing_open(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pijobs_mail.engine.pool.CHECK_AFTER", 0.0)

    def check() -> None:
        raise Over

    with Sink() as sink:
        place = Endpoint(host=sink.host, port=sink.port, timeout=5)
        pool.deliver(place, MAIL)
        sink.fail_at("RSET", Fault(hang=True))
        with pytest.raises(Over):
            pool.deliver(place, MAIL, Deadline(lambda: 0.2, check))
        assert (busy(pool), connections_to(sink.port)) == (0, 0)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("security", ["plain", "tls"])
def test_a_fork_in_the_middle_of_a_mail_leaves_the_child_nothing_of_it(
    authority: Authority, pool: Pool, security: Any
) -> None:
    tls = authority.context() if security == "tls" else None
    with Sink(delay=0.2, tls=tls, implicit_tls=security == "tls") as sink:
        place = Endpoint(host=sink.host, port=sink.port, security=security, ca_file=authority.file, timeout=30)
        taken: list[str] = []
        sending = threading.Thread(target=lambda: taken.extend(pool.deliver(place, MAIL).having(Verdict.ACCEPTED)))
        sending.start()
        wait_until(lambda: sink.steps["MAIL"] > 0, what="the begin of a mail")
        child = os.fork()
        if child == 0:
            os._exit(connections_to(sink.port) + busy(pool))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        sending.join(120)
        assert taken == list(MAIL.recipients)
        assert len(sink.mails) == 1


def test_a_socket_that_can_not_be_made_leaves_room_for_the_next(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    with Sink() as sink:
        place = Endpoint(host=sink.host, port=sink.port, timeout=5)
        with monkeypatch.context() as patched:
            patched.setattr(socket.socket, "connect", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                pool.deliver(place, MAIL, share=1)
        assert (busy(pool), connections_to(sink.port)) == (0, 0)
        pool.deliver(place, MAIL, share=1)
