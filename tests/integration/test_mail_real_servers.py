"""Against a real Postfix and a real Exim, with STARTTLS and a login."""

from __future__ import annotations

import email
import email.policy
import subprocess
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from mail_servers import MailServer

from pijobs import Settings
from pijobs.settings import CORE_SETTINGS, validate
from pijobs_mail.compose import message_id
from pijobs_mail.compose.attachment import Attachment
from pijobs_mail.compose.message import Letter, compose
from pijobs_mail.compose.smime import load_signer
from pijobs_mail.engine.delivery import Deadline, Delivery, Endpoint, Mail
from pijobs_mail.engine.pool import Pool
from pijobs_mail.engine.replies import Verdict
from pijobs_mail.engine.transport import Conversation, deliver
from pijobs_mail.errors import LoginRefused, ServerTrouble, TlsRefused
from pijobs_mail.servers.definitions import PREFIX, SETTINGS, open_store
from pijobs_mail.servers.probe import Probe

SENDER = "otp@example.com"
LETTER = Letter(
    to=("Älice <alice@example.com>",),
    subject="Grüße 🔑",
    text="Your code\n.\n..\nGrüße\n",
    html='<p>Scan</p><img src="cid:qr">',
    attachments=(Attachment("qr.png", b"\x89PNG" * 100, cid="qr"), Attachment("Übersicht.pdf", bytes(range(256)))),
)


@pytest.fixture(params=["postfix", "exim"])
def mail_server(request: pytest.FixtureRequest) -> MailServer:
    server: MailServer = request.getfixturevalue(request.param)
    return server


def composed(letter: Letter = LETTER) -> bytes:
    return compose(letter, sender=SENDER, message_id="<fixed@example.com>", date=message_id.now())


def endpoint(server: MailServer, **values: Any) -> Endpoint:
    user, password = server.login
    place = {"host": "127.0.0.1", "port": server.port, "security": "starttls", "ca_file": server.ca_file}
    return Endpoint(**{**place, "username": user, "password": password, "timeout": 30, **values})


def read(content: bytes) -> EmailMessage:
    message = email.message_from_bytes(content, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message


def test_a_mail_arrives_whole(mail_server: MailServer) -> None:
    delivery = deliver(endpoint(mail_server), Mail(SENDER, ("alice@example.com", "bob@example.com"), composed()))
    assert set(delivery.having(Verdict.ACCEPTED)) == {"alice@example.com", "bob@example.com"}
    assert delivery.queue_id
    for content in mail_server.wait_for(2):
        message = read(content)
        assert (message["Subject"], message["Message-ID"]) == ("Grüße 🔑", "<fixed@example.com>")
        body = message.get_body(("plain",))
        assert body is not None
        assert body.get_content().splitlines() == ["Your code", ".", "..", "Grüße"]
        assert [part.get_filename() for part in message.iter_attachments()] == ["Übersicht.pdf"]


def test_an_unknown_recipient_does_not_stop_the_others(mail_server: MailServer) -> None:
    delivery = deliver(endpoint(mail_server), Mail(SENDER, ("nobody@example.com", "alice@example.com"), composed()))
    assert delivery.having(Verdict.REFUSED)["nobody@example.com"].code == 550
    assert set(delivery.having(Verdict.ACCEPTED)) == {"alice@example.com"}
    assert len(mail_server.wait_for(1)) == 1


def test_mails_share_a_connection_and_go_in_one_flight_each(
    mail_server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With Postfix and Exim: the first one by DATA, the others by BDAT, also those that some or all are refused."""
    opened, flights, pool = 0, 0, Pool()
    really_open, really_whole = Conversation.open, Conversation._whole

    def open_(self: Conversation, deadline: Deadline) -> None:
        nonlocal opened
        opened += 1
        really_open(self, deadline)

    def whole(self: Conversation, mail: Mail, deadline: Deadline) -> Delivery:
        nonlocal flights
        flights += 1
        return really_whole(self, mail, deadline)

    monkeypatch.setattr(Conversation, "open", open_)
    monkeypatch.setattr(Conversation, "_whole", whole)
    known, unknown = ("alice@example.com", "bob@example.com"), ("nobody@example.com", "nothing@example.com")
    ids = []
    for to in (known, (*known, *unknown), unknown, known, (unknown[0], known[0])):
        delivery = pool.deliver(endpoint(mail_server), Mail(SENDER, to, composed()))
        assert set(delivery.having(Verdict.ACCEPTED)) == {who for who in to if who in known}
        assert {reply.code for reply in delivery.having(Verdict.REFUSED).values()} <= {550}
        ids.append(delivery.queue_id)
    pool.close()
    assert (opened, flights) == (1, 4)
    assert ids[2] is None and len(set(ids)) == 5
    assert len(mail_server.wait_for(7)) == 7


def test_a_signature_survives_the_way(mail_server: MailServer, tmp_path: Path) -> None:
    # The server's certificate signs as well as any.
    place = Path(mail_server.ca_file).parent
    signed = load_signer(mail_server.ca_file, str(place / "server.pem")).sign(composed())
    deliver(endpoint(mail_server), Mail(SENDER, ("alice@example.com",), signed))
    command = ["openssl", "cms", "-verify", "-CAfile", mail_server.ca_file, "-purpose", "any"]
    subprocess.run(command, input=mail_server.wait_for(1)[0], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({"password": "wrong"}, LoginRefused),
        ({"host": "localhost"}, TlsRefused),
        ({"ca_file": None}, TlsRefused),
        ({"security": "tls"}, TlsRefused),
    ],
)
def test_what_is_wrong_with_the_connection_sends_nothing(
    mail_server: MailServer, values: dict[str, Any], kind: type[ServerTrouble]
) -> None:
    with pytest.raises(kind):
        deliver(endpoint(mail_server, **values), Mail(SENDER, ("alice@example.com",), composed()))


def probe(mail_server: MailServer, directory: Path, recipient: str | None = None, **values: Any) -> Probe:
    table = [*CORE_SETTINGS, *SETTINGS]
    settings: Settings = validate(
        {"SECRET_KEY": "x" * 32, PREFIX + "CA_FILE": mail_server.ca_file}, table, directory=directory
    )
    user, password = mail_server.login
    place = {"server": "127.0.0.1", "port": mail_server.port, "tls": True, "sender": SENDER, "timeout": 30}
    store = open_store(settings)
    store.save("main", {**place, "username": user, "password": password, **values})
    return Probe(store.get("main"), settings, recipient)


def test_the_probe_of_a_healthy_server_tells_all_steps(mail_server: MailServer, tmp_path: Path) -> None:
    examination = probe(mail_server, tmp_path, "alice@example.com")
    assert examination.run(), examination.steps
    found = {step.name: step.found for step in examination.steps}
    assert [step.name for step in examination.steps] == [
        "dns", "tcp", "greeting", "features", "tls", "features", "login", "mail",
    ]  # fmt: skip
    assert "mail.example.com" in found["greeting"]
    assert found["tls"].startswith("TLSv1.3")
    assert "renew it" in found["tls"]
    assert "PIPELINING" in found["features"]
    assert found["mail"].startswith("taken: 250")
    assert {"Postfix": "queued as", "Exim": "OK id="}[mail_server.name] in found["mail"]
    assert len(mail_server.wait_for(2)) == 2


def test_the_probe_of_a_wrong_password_ends_at_the_login_with_advice(mail_server: MailServer, tmp_path: Path) -> None:
    examination = probe(mail_server, tmp_path, password="hunter2-wrong")
    assert not examination.run()
    last = examination.steps[-1]
    assert (last.name, last.ok) == ("login", False)
    assert "535" in last.found
    assert "username and password" in (last.advice or "")
    assert "hunter2-wrong" not in str(examination.steps)
