"""The jobs ``mail.send`` and ``mail.test``: which server gets a mail, and which one takes over.

:mod:`pijobs_mail.attempt` handles one server.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from email.message import Message
from typing import Any

from pijobs import DestinationDown, FailJob, Job, JobContext, RetryJob, RetryPolicy
from pijobs.base.masks import mask_address
from pijobs.base.redact import redact
from pijobs.definitions import FALLBACK, DefinitionStore, Failover, unknown_here
from pijobs.errors import DatabaseError, DefinitionDeleted, DefinitionNotFound, DefinitionUnreadable, UnknownHere
from pijobs_mail.attempt import UNSAVED, IfMaybeSent, NotSent, attempt
from pijobs_mail.compose import message as messages
from pijobs_mail.compose.addresses import mailboxes
from pijobs_mail.compose.attachment import Attachment
from pijobs_mail.compose.message import Letter
from pijobs_mail.errors import MessageError
from pijobs_mail.servers.definitions import open_store

#: Seconds; the default validity of an OTP that privacyIDEA mails (``email.validtime``).
OTP_VALIDITY = 120
#: Intervals grow from 2 s to an hour, for more than a week: the deadline ends the attempts, not their number.
RETRY = RetryPolicy(max_attempts=200, delay=2, backoff=2, max_delay=3600)
#: Higher than jobs that nobody waits for.
OTP_PRIORITY = 10


def send(
    ctx: JobContext,
    server: str,
    to: str | Sequence[str],
    subject: str = "",
    text: str | None = None,
    html: str | None = None,
    attachments: Sequence[Mapping[str, Any]] = (),
    message: Message | None = None,
    reply_to: str | None = None,
    sender: str | None = None,
    message_id: str | None = None,
    date: datetime | None = None,
    if_maybe_sent: IfMaybeSent = "again",
    failover: bool = True,
    recipients: Sequence[str] | None = None,
    refused: Mapping[str, int] | None = None,
    in_doubt: bool = False,
) -> None:
    """Send one mail through an SMTP server with its present definition, or through its fallback.

    ``to`` to ``date`` are the fields of :class:`~pijobs_mail.compose.message.Letter`.

    :param server: identifier of the definition.
    :param if_maybe_sent: ``"again"`` (an OTP) or ``"not"`` (a notice): what to do with a mail whose connection was lost
        between its end and the server's reply, or whose worker was lost meanwhile.
    :param failover: whether the fallback may take over.
    :param recipients: recipients that do not have it yet; None: all. The job sets it for its next attempt.
    :param refused: recipients refused for good in earlier attempts, with the reply code. The job sets it, too.
    :param in_doubt: whether an earlier attempt may have sent it; then it is not sent again. The job sets it, too.
    """
    letter = _letter(
        to, attachments, subject=subject, text=text, html=html, message=message, reply_to=reply_to, sender=sender,
        message_id=message_id, date=date,
    )  # fmt: skip
    servers, store = ctx.settings.resource(Failover, Failover), open_store(ctx.settings)

    def attempt_by(definition: Mapping[str, Any]) -> None:
        by = definition["identifier"]
        # The fallback needs time, too, so the first server gets half of the remaining time.
        first = failover and by == server and definition[FALLBACK.name]
        patience = ctx.time_left() / 2 if first else math.inf
        attempt(
            ctx, by, definition, letter, recipients, refused or {}, if_maybe_sent=if_maybe_sent, in_doubt=in_doubt,
            patience=patience,
        )  # fmt: skip
        if by != server:
            ctx.note(server=by)
            why = servers.trouble(store, server) or "it is in trouble"
            ctx.warn(f"SMTP server {by!r} takes over for {server!r}: {why}")
            ctx.log.warning("SMTP server %r takes over: %s", by, why)

    with _ends(server, store):
        servers.in_turn(
            store, server, attempt_by, trouble=(DestinationDown, NotSent),
            fits=lambda first, other: failover and _signs_as_well(first, other),
        )  # fmt: skip


@contextmanager
def _ends(server: str, store: DefinitionStore) -> Iterator[None]:
    """What is wrong with a definition, as the end of an attempt."""
    try:
        yield
    except DefinitionDeleted:
        raise FailJob(f"SMTP server {server!r} was deleted before the mail could be sent") from None
    except (DefinitionNotFound, DefinitionUnreadable, DatabaseError) as error:
        # Not the fault of the mail or its server: another database, a key that this worker lacks, or a database that is
        # away.
        raise UnknownHere(redact(unknown_here(f"SMTP server {server!r}", error, store))) from None
    except NotSent as error:
        raise RetryJob(str(error)) from None


def send_unsaved(
    ctx: JobContext,
    definition: Mapping[str, Any],
    to: str | Sequence[str],
    subject: str,
    text: str,
    message_id: str | None = None,
    date: datetime | None = None,
) -> None:
    """Send one mail with an unsaved definition. Somebody waits for the outcome, so server trouble ends it."""
    letter = _letter(to, subject=subject, text=text, message_id=message_id, date=date)
    try:
        attempt(ctx, UNSAVED, definition, letter, None, {})
    except DestinationDown as error:
        raise FailJob(str(error)) from None


def register() -> list[Job]:
    """Both jobs. A mail without its own deadline has that of an OTP, because a late OTP is worse than none."""
    return [
        Job(
            "mail.send",
            send,
            retry=RETRY,
            expires=OTP_VALIDITY,
            priority=OTP_PRIORITY,
            timeout=900,
            group=lambda server, *_, **__: f"smtp:{server}",
            label=label,
            subject=subject,
        ),
        Job(
            "mail.test",
            send_unsaved,
            retry=RetryPolicy(max_attempts=2),
            expires=OTP_VALIDITY,
            timeout=900,
            group=lambda definition, *_, **__: f"smtp-test:{definition['server']}",
            label=label,
        ),
    ]


def label(source: Any = None, to: Any = (), *_: Any, **__: Any) -> str:
    """The masked recipient, for people."""
    boxes, _faults = mailboxes(messages.as_recipients(to), "to")
    if not boxes:
        return "mail"
    first = mask_address(boxes[0].spec)
    return f"mail to {first}" if len(boxes) == 1 else f"mail to {first} and {len(boxes) - 1} more"


def subject(source: Any = None, to: Any = (), *_: Any, **__: Any) -> str | None:
    """A mail to one recipient can be found by the address."""
    boxes, _faults = mailboxes(messages.as_recipients(to), "to")
    return boxes[0].spec.lower() if len(boxes) == 1 else None


def _signs_as_well(first: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """A mail that must be signed is not sent unsigned through another server."""
    must = first["smime"] and first["dont_send_on_error"]
    return not must or bool(other["smime"] and other["dont_send_on_error"])


def _letter(to: str | Sequence[str], attachments: Sequence[Mapping[str, Any]] = (), **fields: Any) -> Letter:
    try:
        files = tuple(map(Attachment.of, attachments))
        letter = Letter(to=messages.as_recipients(to), attachments=files, **fields)
        letter.check()
    except MessageError as error:
        raise FailJob(str(error)) from None
    return letter
