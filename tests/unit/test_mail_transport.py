"""The engine against a server that does everything wrong, one thing at a time."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from pijobs_mail.compose.content import on_the_wire
from pijobs_mail.engine import connection
from pijobs_mail.engine import delivery as deliveries
from pijobs_mail.engine.delivery import NO_DEADLINE, Deadline, Delivery, Endpoint, Mail
from pijobs_mail.engine.replies import Verdict
from pijobs_mail.engine.transport import Conversation, deliver
from pijobs_mail.errors import (
    ConnectionLost,
    LoginRefused,
    MailError,
    MaybeSent,
    MessageError,
    ServerTrouble,
    TlsRefused,
)
from pijobs_mail.sink.server import Fault, Sink

CONTENT = b"Subject: x\r\n\r\nhello\r\n"
MAIL = Mail("from@example.com", ("a@example.com", "b@example.com", "c@example.com"), CONTENT)
BEFORE_MAIL = ["GREETING", "EHLO", "AUTH"]
IN_MAIL = ["MAIL", "RCPT", "DATA"]


def endpoint(sink: Sink, **values: Any) -> Endpoint:
    login = {"username": "user", "password": "hunter2"} if sink.logins is not None else {}
    return Endpoint(host=sink.host, port=sink.port, **{"timeout": 5.0, **login, **values})


def send(sink: Sink, mail: Mail = MAIL, deadline: Deadline = NO_DEADLINE, **values: Any) -> Delivery:
    return deliver(endpoint(sink, **values), mail, deadline)


@contextmanager
def faulty(step: str, fault: str | Fault | list[Fault]) -> Iterator[Sink]:
    with Sink(faults={step: fault}, logins={"user": "hunter2"}) as sink:
        yield sink


class Expired(Exception):
    """Raised by the deadlines of these tests."""


def deadline_in(seconds: float) -> Deadline:
    until = time.monotonic() + seconds

    def check() -> None:
        if time.monotonic() >= until:
            raise Expired

    return Deadline(lambda: max(0.0, until - time.monotonic()), check)


def test_a_mail_arrives_with_its_envelope_and_content() -> None:
    with Sink() as sink:
        delivery = send(sink)
        mail = sink.wait_for(1, 5)[0]
    assert (mail.sender, mail.recipients, mail.content) == (MAIL.sender, MAIL.recipients, CONTENT)
    assert set(delivery.having(Verdict.ACCEPTED)) == set(MAIL.recipients)
    assert delivery.queue_id == "S000001"


def test_lines_that_begin_with_a_dot_arrive_unchanged() -> None:
    content = b"Subject: x\r\n\r\n.\r\n..\r\n.hidden\r\n"
    with Sink() as sink:
        send(sink, Mail("f@example.com", ("a@example.com",), content))
        assert sink.wait_for(1, 5)[0].content == content


@pytest.mark.parametrize("end", [b"\n.\n", b"\r.\r", b"\n.\r\n", b"\r\n.\n", b"\r\n.\r", b"\r\n.\r\n"])
def test_no_mail_can_smuggle_in_a_second_one(end: bytes) -> None:
    smuggled = on_the_wire(b"hello" + end + b"MAIL FROM:<eve@example.com>\r\n")
    assert smuggled.count(b"\r\n.\r\n") == 1
    assert smuggled.endswith(b"\r\n.\r\n")
    assert b"\n" not in smuggled.replace(b"\r\n", b"")
    assert b"\r" not in smuggled.replace(b"\r\n", b"")


def test_one_connection_takes_several_mails() -> None:
    with Sink(faults={"MAIL": Fault("550 5.7.1 not you", times=1)}) as sink:
        conversation = Conversation(endpoint(sink))
        conversation.open()
        assert set(conversation.send(MAIL).having(Verdict.REFUSED)) == set(MAIL.recipients)
        conversation.send(MAIL)
        conversation.send(MAIL)
        conversation.close()
        assert (sink.connections, len(sink.mails), sink.steps["RSET"]) == (1, 2, 1)


def test_a_login_is_used() -> None:
    with Sink(logins={"user": "hunter2"}) as sink:
        send(sink)
        assert sink.wait_for(1, 5)[0].login == "user"


def test_a_wrong_login_is_no_fault_of_the_mail() -> None:
    with Sink(logins={"user": "hunter2"}) as sink, pytest.raises(LoginRefused, match="535"):
        send(sink, password="wrong")


@pytest.mark.parametrize(("mechanism", "questions"), [("PLAIN", 0), ("LOGIN", 2), ("CRAM-MD5", 1)])
def test_a_password_that_the_server_repeats_is_in_no_error(mechanism: str, questions: int) -> None:
    heard = []

    def repeat(ask: Callable[[str], str]) -> None:
        heard.append(ask(f"250-x\r\n250 AUTH {mechanism}"))
        heard.extend(ask("334 aGVsbG8=") for _ in range(questions))
        secret = heard[-1].split()[-1]
        ask(f"535 5.7.8 wrong: {secret}, that is hunter2")

    with scripted(repeat) as port, pytest.raises(LoginRefused) as refusal:
        deliver(Endpoint(host="127.0.0.1", port=port, username="user", password="hunter2", timeout=2), MAIL)
    assert heard[0].startswith(f"AUTH {mechanism}")
    assert "5.7.8 wrong: ***, that is ***" in str(refusal.value)


def test_a_login_goes_to_no_other_machine_in_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pijobs_mail.engine.wire.Wire.loopback", False)
    with Sink(logins={"user": "hunter2"}) as sink:
        with pytest.raises(LoginRefused, match="in clear"):
            send(sink)
        assert sink.steps["AUTH"] == 0
        send(sink, login_without_tls=True)
        assert len(sink.mails) == 1


def test_a_server_without_starttls_gets_no_mail_when_it_is_asked_for() -> None:
    with Sink(logins={"user": "hunter2"}) as sink:
        with pytest.raises(TlsRefused, match="does not offer it"):
            send(sink, security="starttls")
        assert (sink.steps["AUTH"], sink.steps["MAIL"]) == (0, 0)


def test_an_old_server_is_greeted_with_helo() -> None:
    with Sink(faults={"EHLO": "502 5.5.1 what"}) as sink:
        send(sink)
        assert (sink.steps["HELO"], len(sink.mails)) == (1, 1)


@pytest.mark.parametrize("step", BEFORE_MAIL)
@pytest.mark.parametrize("reply", ["421 4.3.2 bye", "451 4.3.0 not now", "554 5.3.2 never"])
def test_a_refusal_before_the_mail_is_trouble_of_the_server(step: str, reply: str) -> None:
    faults = {"EHLO": reply, "HELO": reply} if step == "EHLO" else {step: reply}
    with Sink(faults=faults, logins={"user": "hunter2"}) as sink, pytest.raises(ServerTrouble, match=reply[:3]):
        send(sink)


@pytest.mark.parametrize("step", [*BEFORE_MAIL, *IN_MAIL])
def test_a_server_that_never_answers_is_trouble(step: str) -> None:
    with faulty(step, Fault(hang=True)) as sink, pytest.raises(ServerTrouble, match="no reply"):
        send(sink, timeout=0.2)


@pytest.mark.parametrize(
    ("step", "kind"), [*((step, ServerTrouble) for step in BEFORE_MAIL), *((step, ConnectionLost) for step in IN_MAIL)]
)
@pytest.mark.parametrize("fault", [Fault(drop=True), Fault(raw=b"\x16\x03\x01 nonsense\r\n"), Fault(raw=b"250")])
def test_a_broken_connection_before_the_final_dot_sends_nothing(step: str, kind: type[Exception], fault: Fault) -> None:
    broken = Fault(raw=fault.raw, drop=True)
    with faulty(step, broken) as sink:
        with pytest.raises(kind):
            send(sink)
        assert sink.mails == []


@pytest.mark.parametrize("step", IN_MAIL)
def test_421_in_the_middle_of_a_mail_is_trouble_of_the_server(step: str) -> None:
    with faulty(step, "421 4.7.0 too many mails, try again in 90 seconds") as sink:
        with pytest.raises(ServerTrouble) as trouble:
            send(sink)
        assert trouble.value.retry_after == 90
        assert sink.mails == []


@pytest.mark.parametrize("step", [*IN_MAIL, "END"])
@pytest.mark.parametrize(
    ("reply", "verdict"), [("451 4.7.1 later", Verdict.DEFERRED), ("550 5.7.1 never", Verdict.REFUSED)]
)
def test_a_refusal_in_the_mail_is_one_of_each_recipient(step: str, reply: str, verdict: Verdict) -> None:
    with faulty(step, reply) as sink:
        assert set(send(sink).having(verdict)) == set(MAIL.recipients)
        assert sink.mails == []


def test_a_refused_recipient_does_not_stop_the_others() -> None:
    faults = [Fault("550 5.1.1 unknown", recipient="a@"), Fault("451 4.7.1 greylisted", recipient="b@")]
    with faulty("RCPT", faults) as sink:
        delivery = send(sink)
        assert sink.wait_for(1, 5)[0].recipients == ("c@example.com",)
    assert {who: outcome.verdict for who, outcome in delivery.outcomes.items()} == {
        "a@example.com": Verdict.REFUSED,
        "b@example.com": Verdict.DEFERRED,
        "c@example.com": Verdict.ACCEPTED,
    }


@pytest.mark.parametrize("end", ["250 2.0.0 nobody gets it", "554 5.5.1 no valid recipients"])
def test_a_server_that_wants_a_text_for_nobody_is_given_none(end: str) -> None:
    """RFC 2920 3.1: DATA left with the recipients; after 354 a single dot ends what nobody is to get."""
    heard: list[str] = []

    def for_nobody(ask: Callable[[str], str]) -> None:
        heard.append(ask("250-x\r\n250 PIPELINING"))
        heard.extend(ask(reply) for reply in ("250 ok", "550 no", "550 no", "550 no", "354 go on", end))

    with scripted(for_nobody) as port:
        delivery = deliver(Endpoint(host="127.0.0.1", port=port, timeout=5), MAIL)
    assert set(delivery.having(Verdict.REFUSED)) == set(MAIL.recipients)
    assert [line.split()[0] for line in heard] == ["MAIL", "RCPT", "RCPT", "RCPT", "DATA", ".", "QUIT"]


@pytest.mark.parametrize("fault", [Fault(drop=True), Fault(raw=b"what\r\n"), Fault(raw=b"354 go on\r\n")])
def test_a_connection_lost_after_the_final_dot_may_have_sent_the_mail(fault: Fault) -> None:
    with faulty("END", fault) as sink, pytest.raises(MaybeSent):
        send(sink)


def test_silence_after_the_final_dot_may_have_sent_the_mail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries, "FINAL_TIMEOUT", 0.3)
    with faulty("END", Fault(hang=True)) as sink, pytest.raises(MaybeSent, match="timed out"):
        send(sink, timeout=0.3)


@pytest.mark.parametrize("fault", [Fault(drop=True), Fault(hang=True), Fault("421 4.0.0 no"), Fault(raw=b"?\r\n")])
def test_a_failing_good_bye_does_not_undo_the_mail(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "QUIT_TIMEOUT", 0.2)
    with faulty("QUIT", fault) as sink:
        assert set(send(sink).having(Verdict.ACCEPTED)) == set(MAIL.recipients)
        assert len(sink.mails) == 1


def test_a_reply_that_nothing_was_asked_for_ends_the_conversation() -> None:
    with faulty("MAIL", Fault(raw=b"250 ok\r\n250 ok again\r\n")) as sink:
        with pytest.raises(ConnectionLost):
            send(sink)
        assert sink.mails == []


#: ISO-8859-1: no UTF-8, and kept as it is.
LATIN = b"Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGr\xfc\xdfe\r\n.\r\n"


@pytest.mark.parametrize("offers", [(), ("PIPELINING", "CHUNKING")])
def test_eight_bit_text_is_encoded_for_a_server_of_seven_bits(offers: tuple[str, ...]) -> None:
    mail = Mail("f@example.com", ("a@example.com",), b"Subject: x\r\n" + LATIN)
    with Sink(offers=offers, without=["8BITMIME"]) as sink:
        send(sink, mail)
        received = sink.wait_for(1, 5)[0]
    assert received.content.isascii()
    assert received.message["Content-Transfer-Encoding"] == "quoted-printable"
    assert received.message.get_content().splitlines() == ["Grüße", "."]


def test_eight_bit_text_goes_as_it_is_to_a_server_that_takes_it() -> None:
    mail = Mail("f@example.com", ("a@example.com",), b"Subject: x\r\n" + LATIN)
    with Sink() as sink:
        send(sink, mail)
        assert sink.wait_for(1, 5)[0].content == mail.content


def test_eight_bits_in_the_parts_of_a_mail_are_encoded_by_kind() -> None:
    parts = (
        b"Subject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" + LATIN + b"\r\n--b\r\n"
        b"Content-Type: application/x\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\x80\x81\r\n"
        b"--b\r\n\r\nplain\r\n--b--\r\n"
    )
    with Sink(without=["8BITMIME"]) as sink:
        send(sink, Mail("f@example.com", ("a@example.com",), parts))
        received = sink.wait_for(1, 5)[0]
    assert received.content.isascii()
    encodings = [part["Content-Transfer-Encoding"] for part in received.message.iter_parts()]
    assert encodings == ["quoted-printable", "base64", None]
    assert next(received.message.iter_attachments()).get_content().strip() == b"\x80\x81"


def test_eight_bits_in_a_header_become_an_encoded_word() -> None:
    mail = Mail("f@example.com", ("a@example.com",), "Subject: Grüße\r\n\r\nx\r\n".encode())
    with Sink(without=["8BITMIME"]) as sink:
        send(sink, mail)
        received = sink.wait_for(1, 5)[0]
    assert received.content.isascii()
    assert received.message["Subject"] == "Grüße"


def test_eight_bits_that_no_encoding_mends_go_to_no_server_of_seven_bits() -> None:
    preamble = "Content-Type: multipart/mixed; boundary=b\r\n\r\né\r\n--b\r\n\r\nx\r\n--b--\r\n".encode()
    with Sink(without=["8BITMIME"]) as sink:
        with pytest.raises(MessageError, match="7 bits only"):
            send(sink, Mail("f@example.com", ("a@example.com",), preamble))
        assert sink.steps["MAIL"] == 0


def test_the_size_is_told_to_a_server_that_wants_it() -> None:
    with Sink() as sink:
        delivery = send(sink, Mail("f@example.com", ("a@example.com",), b"x" * 34_000_000))
        assert delivery.outcomes["a@example.com"].reply.code == 552
        assert sink.steps["DATA"] == 0


def test_nobody_listening_is_trouble_of_the_server() -> None:
    with Sink() as sink:
        gone = endpoint(sink)
    with pytest.raises(ServerTrouble, match="refused"):
        deliver(gone, MAIL)


def test_a_name_without_address_is_trouble_of_the_server() -> None:
    with pytest.raises(ServerTrouble, match="no address"):
        deliver(Endpoint(host="nobody.invalid", port=25, timeout=5), MAIL)


def test_a_name_look_up_that_hangs_is_left_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()

    def hang(*_: Any, **__: Any) -> list[Any]:
        answered.wait(30)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    started = time.monotonic()
    try:
        with pytest.raises(Expired):
            deliver(Endpoint(host="mail.example.com", port=25, timeout=30), MAIL, deadline_in(0.3))
        with pytest.raises(ServerTrouble, match=r"no connection to mail.example.com:25 within 0\.2 s"):
            deliver(Endpoint(host="mail.example.com", port=25, timeout=0.2), MAIL)
    finally:
        answered.set()
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("step", ["GREETING", "MAIL", "DATA"])
def test_the_deadline_ends_every_wait_before_the_effect(step: str) -> None:
    with faulty(step, Fault(hang=True)) as sink, pytest.raises(Expired):
        send(sink, deadline=deadline_in(0.3), timeout=30)


def test_a_deadline_that_passes_while_data_is_answered_still_holds() -> None:
    checks = iter([None, Expired()])  # before DATA there is time; once the server said 354 there is none

    def check() -> None:
        if (error := next(checks)) is not None:
            raise error

    with Sink() as sink:
        with pytest.raises(Expired):
            send(sink, deadline=Deadline(check=check))
        assert (sink.steps["DATA"], sink.mails) == (1, [])


def test_the_deadline_does_not_hurry_the_last_reply() -> None:
    over = threading.Event()
    deadline = Deadline(lambda: 0.0 if over.is_set() else 5.0, lambda: None)

    class Slow(Sink):
        def keep(self, received: Any) -> None:
            over.set()
            super().keep(received)

    with Slow() as sink:
        assert set(send(sink, deadline=deadline).having(Verdict.ACCEPTED)) == set(MAIL.recipients)


def test_a_reply_in_drops_is_bounded_as_a_whole() -> None:
    def drip(ask: Callable[[str], str]) -> None:
        for _ in range(400):
            ask("\b")

    with scripted(drip, pause=0.05) as port:
        started = time.monotonic()
        with pytest.raises(ServerTrouble, match="no reply"):
            deliver(Endpoint(host="127.0.0.1", port=port, timeout=0.3), MAIL)
        assert time.monotonic() - started < 10


def test_no_address_or_password_is_in_the_repr_of_a_value() -> None:
    shown = repr(MAIL) + repr(Endpoint(host="h", port=25, username="user", password="hunter2"))
    assert "example.com" not in shown
    assert "hunter2" not in shown


def test_every_error_of_the_engine_is_a_mail_error() -> None:
    assert all(issubclass(kind, MailError) for kind in (ServerTrouble, ConnectionLost, MaybeSent, TlsRefused))


@contextmanager
def scripted(script: Callable[[Callable[[str], str]], None], pause: float = 0.0) -> Iterator[int]:
    """A server that says exactly what a script says; ``ask`` sends a reply and returns the client's next line.
    ``"\\b"`` sends a single digit after a pause and waits for nothing."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listening.accept()
        # The client may have had enough at any time, also when what is left is flushed.
        with suppress(OSError), connection, connection.makefile("rwb") as stream:

            def ask(reply: str) -> str:
                if reply == "\b":
                    threading.Event().wait(pause)
                    stream.write(b"2")
                    stream.flush()
                    return ""
                stream.write(reply.encode() + b"\r\n")
                stream.flush()
                return stream.readline().decode().strip()

            if not pause:
                ask("220 script")
            script(ask)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listening.getsockname()[1]
    thread.join(120)
    listening.close()
