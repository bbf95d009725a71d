"""``send_mail``: for views and other plugins. Direct or queued, depending on the SMTP server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pijobs import Handle
from pijobs.definitions import submit
from pijobs.flask import current_queue
from pijobs.request.queue import Queue
from pijobs_mail.attempt import IfMaybeSent
from pijobs_mail.compose import message as messages
from pijobs_mail.compose.attachment import Attachment
from pijobs_mail.compose.message import Letter
from pijobs_mail.compose.message_id import make_message_id
from pijobs_mail.errors import MessageError
from pijobs_mail.servers.definitions import open_store


def send_mail(
    identifier: str,
    *,
    to: str | Sequence[str],
    subject: str,
    text: str | None = None,
    html: str | None = None,
    attachments: Sequence[Attachment] = (),
    reply_to: str | None = None,
    sender: str | None = None,
    if_maybe_sent: IfMaybeSent = "again",
    expires: float | None = None,
    key: str | None = None,
    queue: Queue | None = None,
) -> Handle:
    """Send a mail through a defined SMTP server: in this call, or by the worker if ``enqueue_job`` is on.

    All errors in the mail itself are found here, whether it is queued or not.

    :param to: one recipient or several.
    :param html: an alternative to the text, or instead of it.
    :param attachments: files, and images that the HTML shows.
    :param sender: overrides the sender of the SMTP server.
    :param if_maybe_sent: what to do if the connection was lost after the end of the mail, so that it may have been
        sent: send it ``"again"`` (an OTP: twice is better than never), or ``"not"`` (a notice: dead, "may have been
        sent").
    :param expires: seconds after which it must not be sent; None: the default of the job ``mail.send`` (120).
    :param key: this mail replaces a queued one with the same key that still waits.
    :param queue: None: the queue of the current Flask app.
    :raises MessageError: an address or header is invalid.
    :raises DefinitionNotFound: there is no SMTP server with that identifier.
    :raises AttemptEnd: it was sent in this call, and failed. The message has the reason.
    """
    queue = queue or current_queue()
    definition = open_store(queue.settings).get(identifier)
    letter = Letter(
        to=messages.as_recipients(to), subject=subject, text=text, html=html, attachments=tuple(attachments),
        reply_to=reply_to, sender=sender,
    )  # fmt: skip
    letter.check()
    source = sender or definition["sender"]
    if not source:
        raise MessageError(f"sender: expected one in SMTP server {identifier!r} or in the call, found neither")
    arguments = {"server": identifier, **as_arguments(letter, source)}
    if if_maybe_sent != "again":
        arguments["if_maybe_sent"] = if_maybe_sent
    return submit(queue, definition, "mail.send", arguments, expires=expires, key=key)


def as_arguments(letter: Letter, sender: str) -> dict[str, Any]:
    """The letter as arguments of a job, with a Message-ID that stays the same over all attempts, also with another
    sender. Its date is that of the call."""
    fields: dict[str, Any] = {
        "to": list(letter.to),
        "subject": letter.subject,
        "text": letter.text,
        "html": letter.html,
        "attachments": [attachment.as_argument() for attachment in letter.attachments] or None,
        "reply_to": letter.reply_to,
        "sender": letter.sender,
        "message_id": letter.message_id or make_message_id(sender),
        "date": letter.date,
    }
    return {name: value for name, value in fields.items() if value is not None}
