"""privacyIDEA's mail job, sent by the engine of pijobs-mail.

A queued job contains the mail and the name of the SMTP server. The worker reads the definition at each attempt. Only
the test of an unsaved definition contains the definition itself.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from datetime import datetime
from email.message import Message
from email.mime.text import MIMEText
from typing import Any

from pijobs import DestinationDown, FailJob, Job, JobContext, Settings
from pijobs_mail.attempt import UNSAVED, attempt
from pijobs_mail.compose.addresses import parse, sender_of
from pijobs_mail.compose.message import Letter
from pijobs_mail.errors import MessageError
from pijobs_mail.job import OTP_PRIORITY, OTP_VALIDITY, RETRY, label, subject
from pijobs_mail.servers.server_address import parse_server
from pijobs_privacyidea import definitions, second_channel
from pijobs_privacyidea.origin import Origin, origin
from pijobs_privacyidea.settings import OTP_SERVERS
from pijobs_privacyidea.tokens import labelled, login_for
from pijobs_privacyidea.usage import present

#: The name that privacyIDEA gives to its job.
NAME = "smtpserver.send_email"


def call(
    settings: Settings,
    config: Mapping[str, Any],
    recipient: str | Sequence[str] | None,
    subject: str,
    body: str | bytes | Message | None,
    sender: str | None = None,
    reply_to: str | None = None,
    mimetype: str = "plain",
) -> tuple[tuple[()], dict[str, Any], dict[str, Any]]:
    """The call of :func:`send_email` for a call of privacyIDEA's job, and the options of its enqueue.

    The OTP of a token gets its validity in privacyIDEA as deadline, and a key, so that a newer OTP of the same token
    replaces a waiting one. Other mails through a server for OTPs get the deadline, but no key.

    :raises MessageError: the mail can't be sent. The caller should know this now, not from a dead letter.
    """
    to = [recipient] if isinstance(recipient, str) else list(recipient or ())
    # A saved definition has an id; the test of an unsaved one has only its values.
    server = config["identifier"] if config.get("id") is not None else None
    letter = {
        "to": to,
        "subject": (subject or "").encode(errors="replace").decode(),
        "sender": first_sender(sender) if sender else None,
        # privacyIDEA uses every entry; we leave out invalid ones.
        "reply_to": ", ".join(box.written for box in parse(reply_to or "").mailboxes) or None,
        **_content(body, mimetype),
    }
    Letter(**{**letter, "to": tuple(to)}).check()
    sender_of(first_sender(sender or config.get("sender") or ""))
    try:
        definition = definitions.plain(config)
        parse_server(definition["server"])
    except ValueError as error:
        raise MessageError(f"server: {error}") from None
    unsaved = None if server else definition
    sent_by = origin()
    # A worker of release 0.1.0 does not know this argument; with the setting in its pi.cfg it does not start.
    if sent_by.kind == "otp" and sent_by.serial is not None and second_channel.is_set_up(settings, NAME):
        letter["token"] = sent_by.serial
    return (), {"server": server, "definition": unsaved, **letter}, _options(settings, server, sent_by)


def refused(config: Mapping[str, Any], recipient: str | Sequence[str] | None, *_: Any, **__: Any) -> dict[str, Any]:
    """Server and recipients of a refused call, which identify its record."""
    to = [recipient] if isinstance(recipient, str) else list(recipient or ())
    return {"server": config["identifier"] if config.get("id") is not None else None, "definition": None, "to": to}


def _options(settings: Settings, server: str | None, sent_by: Origin) -> dict[str, Any]:
    if server is None:
        return {}
    if sent_by.kind == "otp":
        options: dict[str, Any] = {"expires": definitions.configured_seconds(sent_by.validity, OTP_VALIDITY)}
        return options if sent_by.serial is None else {**options, "key": f"otp of {sent_by.serial}"}
    by_server = server in settings[OTP_SERVERS] or (sent_by.kind == "unknown" and server == definitions.otp_server())
    return {"expires": definitions.otp_validity()} if by_server else {}


def send_email(
    ctx: JobContext,
    server: str | None,
    definition: Mapping[str, Any] | None,
    to: Sequence[str],
    subject: str = "",
    text: str | None = None,
    html: str | None = None,
    message: Message | None = None,
    sender: str | None = None,
    reply_to: str | None = None,
    date: datetime | None = None,
    recipients: Sequence[str] | None = None,
    refused: Mapping[str, int] | None = None,
    in_doubt: bool = False,
    token: str | None = None,
) -> None:
    """One attempt to send one mail, in privacyIDEA's app context.

    :param server: identifier of the SMTP server; None: ``definition`` is used.
    :param recipients: those that do not have it yet; set by the job itself for its next attempt.
    :param refused: those that were refused for good, with the code of the reply; set likewise.
    :param in_doubt: whether an earlier attempt may have sent it; set likewise.
    :param token: serial of the token whose OTP it is.
    """
    current = definitions.unsaved(definition) if server is None else definitions.saved(server)
    # Without a sender, privacyIDEA uses the null reverse path.
    sender = first_sender(sender or current["sender"] or "<>")
    try:
        letter = Letter(
            to=tuple(to), subject=subject, text=text, html=html, message=message, date=date, sender=sender,
            # privacyIDEA's mails always have a Reply-To, but an empty one is useless.
            reply_to=reply_to or (sender if sender_of(sender).spec else None),
        )  # fmt: skip
        letter.check()
        with second_channel.when_refused(ctx, token, second_channel.text_of(text, html)):
            attempt(ctx, server or UNSAVED, current, letter, recipients, refused or {}, in_doubt=in_doubt)
    except MessageError as error:
        raise FailJob(str(error)) from None
    except DestinationDown as error:
        if server is not None:
            raise
        raise FailJob(str(error)) from None  # somebody waits for the outcome of a test


def jobs() -> list[Job]:
    """The mail job, with the retry policy of ``mail.send``. Only OTPs have a deadline."""
    return [
        Job(
            NAME,
            send_email,
            retry=RETRY,
            priority=OTP_PRIORITY,
            timeout=900,
            group=lambda server, **_: f"smtp:{server or UNSAVED}",
            label=_label,
            subject=subject,
            person=lambda token=None, **_: login_for(token or origin().serial),
        )
    ]


def _label(token: str | None = None, **call: Any) -> str:
    sent_by = origin()
    serial = token or sent_by.serial
    return labelled(label(**call), serial, present(serial, sent_by.type))


def first_sender(sender: str) -> str:
    """The first of several senders, which privacyIDEA uses, too."""
    found = parse(sender).mailboxes
    return found[0].written if len(found) > 1 else sender


def _content(body: str | bytes | Message | None, mimetype: str) -> dict[str, Any]:
    if isinstance(body, Message):
        return {"message": copy.deepcopy(body)}  # the caller may send its message again
    text = body.decode() if isinstance(body, bytes) else body or ""
    if mimetype in ("plain", "html"):
        return {"text" if mimetype == "plain" else "html": text}
    return {"message": MIMEText(text, mimetype, "utf-8")}
