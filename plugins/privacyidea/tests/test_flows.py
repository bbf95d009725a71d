"""What the queue sends beside what privacyIDEA sends in the request. The mails stand in tests/corpus/flows.yml."""

from __future__ import annotations

import email
import logging
import time
from collections.abc import Iterator
from email.header import decode_header, make_header
from email.message import Message
from email.mime.image import MIMEImage
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.utils import getaddresses
from pathlib import Path
from typing import Any

import flask
import pytest
import yaml

from pijobs import JobContext, Settings
from pijobs.settings import CORE_SETTINGS, validate
from pijobs_mail.servers.definitions import SETTINGS as MAIL_SETTINGS
from pijobs_mail.sink.server import Received, Sink
from pijobs_privacyidea import mail
from pijobs_privacyidea.settings import SETTINGS

# privacyIDEA's own warnings are not ours to mend.
pytestmark = pytest.mark.filterwarnings("default")

CORPUS = yaml.safe_load(Path("tests/corpus/flows.yml").read_text(encoding="utf-8"))
#: Headers that differ in every mail: those that only the queue's have, the time, and how the text is packed.
ALWAYS = {"message-id", "auto-submitted", "date", "content-type", "content-transfer-encoding", "mime-version"}
ADDRESSES = {"from", "to", "reply-to"}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return validate({"SECRET_KEY": "x" * 32}, [*CORE_SETTINGS, *MAIL_SETTINGS, *SETTINGS], directory=tmp_path)


@pytest.fixture(scope="module")
def in_app() -> Iterator[None]:
    app = flask.Flask("privacyidea")
    app.config["SECRET_KEY"] = "x" * 32
    with app.app_context():
        yield


def with_qrcode() -> MIMEMultipart:
    """As privacyIDEA's handler of notifications makes it (``attach_qr``)."""
    message = MIMEMultipart("related")
    message.attach(MIMEText('<p>Scan <img src="cid:token_image_0"></p>', "html"))
    image = MIMEImage(b"\x89PNG\r\n\x1a\n" + bytes(range(256)))
    image.add_header("Content-ID", "<token_image_0>")
    image.add_header("Content-Disposition", 'inline; filename="token.png"')
    message.attach(image)
    return message


def call_of(flow: dict[str, Any]) -> tuple[Any, ...]:
    """The arguments of privacyIDEA's job behind the definition."""
    body = with_qrcode() if flow.get("message") else flow["body"]
    return (
        flow["recipient"], flow["subject"], body, flow.get("own_sender"), flow.get("reply_to"),
        flow.get("mimetype", "plain"),
    )  # fmt: skip


def in_the_request(config: dict[str, Any], flow: dict[str, Any], settings: Settings) -> None:
    from privacyidea.lib.smtpserver import SMTPServer

    SMTPServer.test_email(config, *call_of(flow))


def by_the_queue(config: dict[str, Any], flow: dict[str, Any], settings: Settings) -> None:
    context = JobContext(
        id="0af3c1", name=mail.NAME, attempt=1, deadline=None, settings=settings, now=time.time,
        count=lambda *_: None, measure=lambda *_: None, log=logging.LoggerAdapter(logging.getLogger("test"), {}),
    )  # fmt: skip
    _, arguments, _ = mail.call(settings, config, *call_of(flow))
    mail.send_email(context, **arguments)


@pytest.mark.parametrize("flow", CORPUS["flows"], ids=str)
def test_a_flow_of_the_corpus(flow: dict[str, Any], settings: Settings, in_app: None) -> None:
    flow = {**CORPUS["usual"], **flow}
    with Sink(offers=flow.get("offers", ())) as sink:
        config = {"server": sink.host, "port": sink.port, "sender": flow["sender"], "tls": False, "timeout": 5}
        if flow.get("fails"):
            with pytest.raises(UnicodeEncodeError):
                in_the_request(config, flow, settings)
            by_the_queue(config, flow, settings)
            assert len(sink.mails) == 1
            return
        for send in (in_the_request, by_the_queue):
            send(config, flow, settings)
        assert list(differences(*sink.mails)) == flow.get("differs", [])


def differences(direct: Received, queued: Received) -> Iterator[str]:
    """The parts that say something else."""
    if (direct.sender, direct.recipients) != (queued.sender, queued.recipients):
        yield "envelope"
    ours, theirs = email.message_from_bytes(queued.content), email.message_from_bytes(direct.content)
    for name in sorted({name.lower() for name in (*ours, *theirs)} - ALWAYS):
        if said(theirs, name) != said(ours, name):
            yield name
    if list(texts(theirs)) != list(texts(ours)):
        yield "text"


def said(message: Message, name: str) -> object:
    """What a header says, however it is folded and encoded."""
    raw = message.get(name)
    if raw is None:
        return None
    text = str(make_header(decode_header(raw.replace("\r\n", ""))))
    return getaddresses([text.strip().rstrip(",")]) if name in ADDRESSES else text


def texts(message: Message) -> Iterator[tuple[str, bytes]]:
    """Type and content of each part; without the kind of the line ends, and the last one."""
    for part in message.walk():
        content = part.get_payload(decode=True)
        if isinstance(content, bytes):
            if part.get_content_maintype() == "text":
                content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").removesuffix(b"\n")
            yield part.get_content_type(), content
