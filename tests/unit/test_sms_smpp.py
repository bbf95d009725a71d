"""SMS by SMPP, to a server of other people's making."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import flask
import pytest
from apps import app_in_memory
from certificates import self_signed
from hypothesis import given
from hypothesis import strategies as st
from services import wait_until

pytest.importorskip("smpp34", reason="there is no wheel of smpp34 for this system")

from smpp_server import SmppServer

from pijobs import DestinationDown, FailJob, State
from pijobs.flask import current_queue
from pijobs_sms.gateways import open_store
from pijobs_sms.receipts import Receipts
from pijobs_sms.send import send_sms
from pijobs_sms.smpp import session
from pijobs_sms.smpp.pdus import Address, Command, Delivery, Pdu, Status, relative_time
from pijobs_sms.smpp.provider import unbind_all
from pijobs_sms.smpp.texts import parts_of

PHONE, TEXT = "+491701234567", "Ihr Code: [739105] €"


@pytest.fixture
def app(tmp_path: Path) -> Iterator[flask.Flask]:
    app = app_in_memory(tmp_path, "sms")
    with app.app_context():
        yield app


@pytest.fixture
def server(app: flask.Flask) -> Iterator[SmppServer]:
    with SmppServer() as server:
        save(host="127.0.0.1", port=server.port, sender="ACME")
        yield server


def save(identifier: str = "main", **values: Any) -> None:
    defaults = {"provider": "smpp", "username": "us", "password": "hunter2", "per_number": 0}
    open_store(current_queue().settings).save(identifier, {**defaults, **values})


# -- against the server ------------------------------------------------------------------------------------------------


def test_an_sms_goes_in_the_alphabet_of_gsm(server: SmppServer) -> None:
    assert send_sms("main", PHONE, TEXT).state is State.DONE
    (sms,) = server.sms
    assert sms.source == (5, 0, "ACME") and sms.destination == (1, 1, "491701234567")
    assert sms.text == b"Ihr Code: \x1b<739105\x1b> \x1be"
    assert (sms.coding, sms.esm_class, sms.wants_receipt) == (0, 0, True)


def test_other_letters_go_in_ucs_2(server: SmppServer) -> None:
    send_sms("main", PHONE, "Ваш код 739105 🙂")
    assert (server.sms[0].coding, server.sms[0].text.decode("utf-16-be")) == (8, "Ваш код 739105 🙂")


def test_a_long_text_goes_in_parts(server: SmppServer) -> None:
    text = "€" * 100
    send_sms("main", PHONE, text)
    first, second = server.sms
    assert first.esm_class == second.esm_class == 0x40
    assert (first.text[:3], first.text[4:6], second.text[4:6]) == (b"\x05\x00\x03", b"\x02\x01", b"\x02\x02")
    assert first.text[3] == second.text[3]
    # No letter is split, though one of two octets does not fill the part of 153.
    assert (first.text[6:], second.text[6:]) == (b"\x1be" * 76, b"\x1be" * 24)


def test_a_session_is_kept_and_shared(server: SmppServer) -> None:
    with ThreadPoolExecutor(4) as pool:
        queue = current_queue()
        for sent in [pool.submit(send_sms, "main", PHONE, TEXT, queue=queue) for _ in range(20)]:
            assert sent.result().state is State.DONE
    assert len(server.sms) == 20 and len({sms.session for sms in server.sms}) == len(server.bound) == 1


def test_a_session_that_the_server_ended_is_bound_again(server: SmppServer) -> None:
    others = set(threading.enumerate())
    send_sms("main", PHONE, TEXT)
    ours = {thread for thread in threading.enumerate() if thread.name == "pijobs-smpp"} - others
    server.unbind()
    wait_until(lambda: not any(thread.is_alive() for thread in ours), what="the end of the session")
    send_sms("main", PHONE, TEXT)
    assert len({sms.session for sms in server.sms}) == 2


def test_another_login_is_another_session(server: SmppServer) -> None:
    send_sms("main", PHONE, TEXT)
    save(username="them")
    send_sms("main", PHONE, TEXT)
    assert [bound.system_id for bound in server.bound] == ["us", "them"]


@pytest.mark.parametrize("status", [Status.ESME_RTHROTTLED, Status.ESME_RMSGQFUL])
def test_throttling_is_no_attempt(server: SmppServer, status: int) -> None:
    server.status = lambda number: status
    with pytest.raises(DestinationDown, match="slow down: ESME_R") as error:
        send_sms("main", PHONE, TEXT)
    assert not error.value.counted and len(server.sms) == 1


def test_the_second_part_waits_for_a_server_that_is_busy(server: SmppServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pijobs_sms.smpp.provider._PAUSE", 0.01)
    server.status = lambda number: Status.ESME_RTHROTTLED if number in (2, 3) else 0
    assert send_sms("main", PHONE, "x" * 200).state is State.DONE
    assert [sms.text[5] for sms in server.sms] == [1, 2, 2, 2]


@pytest.mark.parametrize(
    ("status", "error", "counted"),
    [
        (Status.ESME_RINVDSTADR, FailJob, None), (Status.ESME_RSYSERR, DestinationDown, True),
        (Status.ESME_RX_T_APPN, DestinationDown, True), (Status.ESME_RINVSRCADR, FailJob, None),
    ],
)  # fmt: skip
def test_what_a_refusal_means(server: SmppServer, status: int, error: type[Exception], counted: bool | None) -> None:
    server.status = lambda number: status
    with pytest.raises(error) as raised:
        send_sms("main", PHONE, TEXT)
    assert getattr(raised.value, "counted", None) is counted


def test_the_second_gateway_takes_over_where_nobody_listens(server: SmppServer) -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        save("first", host="127.0.0.1", port=taken.getsockname()[1], fallback="main")
        assert send_sms("first", PHONE, TEXT).state is State.DONE


def test_a_receipt_tells_that_an_sms_was_delivered(server: SmppServer) -> None:
    ids = [send_sms("main", PHONE, TEXT).id for _ in range(4)]
    text = "id:id1 sub:001 dlvrd:001 submit date:2611291200 done date:2611291201 stat:DELIVRD err:000 text:Ihr"
    assert server.deliver(text) == Status.ESME_ROK
    server.deliver("", receipted_message_id=b"id2\0", message_state=b"\5")
    server.deliver("id:id3 stat:REJECTD err:010")
    server.deliver("id:id4 stat:ENROUTE err:000")
    told = Receipts.of(current_queue().settings).states(ids)
    assert set(told) == set(ids[:3])
    assert told[ids[0]].startswith("delivered") and told[ids[1]].endswith(": UNDELIV")
    assert told[ids[2]].endswith(": REJECTD, error 10")


@pytest.mark.parametrize(
    ("text", "esm_class"), [("id:id9 stat:DELIVRD", 4), ("Hello", 0), ("id:id1 stat:DELIVRD", 0), ("", 4)]
)
def test_what_tells_of_none_of_ours_is_taken(
    server: SmppServer, text: str, esm_class: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pijobs_sms.smpp.receipts._PAUSES", ())
    instance = send_sms("main", PHONE, TEXT).id
    assert server.deliver(text, esm_class=esm_class) == Status.ESME_ROK
    assert Receipts.of(current_queue().settings).states([instance]) == {}


# -- servers that misbehave --------------------------------------------------------------------------------------------


class Scripted:
    """A server that sends what it is told after each PDU."""

    def __init__(self, *answers: bytes, tls: ssl.SSLContext | None = None) -> None:
        self.tls = tls
        self.answers = answers
        self.received: list[bytes] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Scripted:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        client, _ = self._socket.accept()
        with (
            suppress(OSError),
            client if self.tls is None else self.tls.wrap_socket(client, server_side=True) as stream,
        ):
            stream.settimeout(30)
            for answer in self.answers:
                self.received.append(stream.recv(65536))
                stream.sendall(answer)


def answer(command: int, sequence: int, status: int = 0, body: bytes = b"\0") -> bytes:
    return Pdu(command | Command.ANSWER, sequence, status, body).encode()


BOUND = answer(Command.BIND_TRANSCEIVER, 1)


@pytest.mark.parametrize(
    ("answers", "error", "why", "counted"),
    [
        ((answer(9, 1, Status.ESME_RINVPASWD),), FailJob, "does not let us bind: ESME_RINVPASWD", None),
        ((answer(9, 1, Status.ESME_RALYBND),), DestinationDown, "does not let us bind: ESME_RALYBND", False),
        ((answer(9, 1, Status.ESME_RSYSERR),), DestinationDown, "does not let us bind: ESME_RSYSERR", False),
        ((b"HTTP/1.1 400 Bad Request\r\n\r\n",), DestinationDown, "no session with 127", False),
        ((BOUND, b""), DestinationDown, "the session ended before the answer", True),
        ((BOUND, b"\0\0\0\x10\x80"), DestinationDown, "the session ended before the answer", True),
        ((BOUND, b"\xff" * 16), DestinationDown, "the session ended before the answer", True),
        ((BOUND, answer(0, 2, Status.ESME_RINVCMDID, b"")), FailJob, "refused: ESME_RINVCMDID", None),
        ((BOUND, answer(4, 2, 0x400)), FailJob, "refused: status 0x00000400", None),
        ((BOUND, answer(4, 2, Status.ESME_RINVBNDSTS)), DestinationDown, "knows our session no more", False),
    ],
    ids=[
        "login",
        "bound already",
        "bind",
        "no SMPP",
        "closed",
        "half",
        "endless",
        "nack",
        "operator",
        "unknown session",
    ],
)
def test_a_server_that_does_not_do_it(
    app: flask.Flask, answers: tuple[bytes, ...], error: type[Exception], why: str, counted: bool | None
) -> None:
    with Scripted(*answers) as server:
        save(host="127.0.0.1", port=server.port)
        with pytest.raises(error, match=why) as raised:
            send_sms("main", PHONE, TEXT)
    assert getattr(raised.value, "counted", None) is counted
    assert "hunter2" not in str(raised.value)


def test_a_server_that_does_not_answer_is_left_after_the_timeout(app: flask.Flask) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        save(host="127.0.0.1", port=silent.getsockname()[1], timeout=0.3)
        with pytest.raises(DestinationDown, match=r"no answer within 0\.[0-3] s") as error:
            send_sms("main", PHONE, TEXT)
        assert not error.value.counted  # it did not even bind


def test_a_session_by_tls_verifies_the_certificate(app: flask.Flask, tmp_path: Path) -> None:
    taken = answer(4, 2, body=b"id1\0")
    tls = self_signed(tmp_path, "127.0.0.1")
    with Scripted(b"", tls=tls) as server:
        save(host="127.0.0.1", port=server.port, tls=True)
        with pytest.raises(DestinationDown, match="self-signed certificate"):
            send_sms("main", PHONE, TEXT)
    trusting = app_in_memory(tmp_path, "sms", PI_JOB_QUEUE_SMS_CA_FILE=str(tmp_path / "ca.pem"))
    with trusting.app_context(), Scripted(BOUND, taken, b"", tls=tls) as server:
        save(host="127.0.0.1", port=server.port, tls=True, password="hunter2")
        assert send_sms("main", PHONE, TEXT).state is State.DONE
        unbind_all()
    assert Pdu(Command.UNBIND, 3).encode() in server.received


def test_a_silent_session_is_asked_whether_it_lives(app: flask.Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "SILENCE", 0.1)
    with Scripted(BOUND, answer(4, 2, body=b"id1\0"), b"") as server:
        save(host="127.0.0.1", port=server.port)
        assert send_sms("main", PHONE, TEXT).state is State.DONE
        wait_until(lambda: len(server.received) == 3, what="enquire_link")
    assert server.received[2] == Pdu(Command.ENQUIRE_LINK, 3).encode()


# -- parts of it -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "alphabet", "coding", "lengths"),
    [
        ("", "gsm", 0, [0]), ("a" * 160, "gsm", 0, [160]), ("a" * 161, "gsm", 0, [159, 14]),
        ("§`"[0] * 160, "gsm", 0, [160]), ("`", "gsm", 8, [2]), ("é" * 140, "latin1", 3, [140]),
        ("é" * 141, "latin1", 3, [140, 13]), ("€", "latin1", 8, [2]), ("ж" * 70, "gsm", 8, [140]),
        ("ж" * 71, "gsm", 8, [140, 14]), ("🙂" * 36, "ucs2", 8, [138, 18]), ("a", "ucs2", 8, [2]),
    ],
)  # fmt: skip
def test_parts(text: str, alphabet: str, coding: int, lengths: list[int]) -> None:
    found, parts = parts_of(text, alphabet, 7)
    assert (found, [len(part) for part in parts]) == (coding, lengths)


def test_a_text_has_at_most_255_parts() -> None:
    with pytest.raises(ValueError, match="at most 255 parts"):
        parts_of("a" * 153 * 256, "gsm", 0)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("+491701234567", (1, 1, "491701234567")), ("491701234567", (1, 1, "491701234567")), ("72404", (3, 0, "72404")),
        ("0049170123456", (0, 1, "0049170123456")), ("ACME", (5, 0, "ACME")), ("", (0, 0, "")),
    ],
)  # fmt: skip
def test_addresses(text: str, address: tuple[int, int, str]) -> None:
    assert Address.of(text) == Address(*address)


def test_times() -> None:
    assert relative_time(120) == "000000000200000R"
    assert relative_time(0) == "000000000001000R"
    assert relative_time(86400 + 3661) == "000001010101000R"
    assert relative_time(float("inf")) == ""


_DELIVERY = b"\0\1\x0149\0\5\0ACME\0\4\0\0\0\0\0\0\0\0\3"


def test_a_delivery() -> None:
    delivery = Delivery.of(_DELIVERY + b"abc" + b"\x04\x27\0\1\2\0\x1e\0\4id1\0")
    assert (delivery.is_receipt, delivery.text, delivery.state, delivery.message_id) == (True, b"abc", 2, "id1")


@pytest.mark.parametrize("length", range(len(_DELIVERY)))
def test_a_delivery_that_breaks_off_is_none(length: int) -> None:
    with pytest.raises(ValueError, match="breaks off"):
        Delivery.of(_DELIVERY[:length])


@given(st.binary(max_size=80))
def test_a_delivery_of_anything(body: bytes) -> None:
    for content in (body, _DELIVERY + body):
        with suppress(ValueError):
            delivery = Delivery.of(content)
            assert isinstance(delivery.message_id, str) and isinstance(delivery.state, int)


@given(st.text(max_size=400), st.sampled_from(["gsm", "latin1", "ucs2"]))
def test_parts_are_whole_and_short_enough(text: str, alphabet: str) -> None:
    coding, parts = parts_of(text, alphabet, 1)
    assert all(len(part) <= (160 if coding == 0 else 140) for part in parts)
    if coding == 8:
        pieces = [part[6:] if len(parts) > 1 else part for part in parts]
        assert "".join(piece.decode("utf-16-be") for piece in pieces) == text
