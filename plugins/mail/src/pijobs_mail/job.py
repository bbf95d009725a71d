"""The jobs ``mail.send`` and ``mail.test``: one attempt at a mail, and what follows from it.

The engine tells what became of each recipient; here it is decided whether the instance is done, comes back for the
rest, waits for its server, or is dead. A mail that its server does not take goes by the fallback, in the same attempt.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from email.message import Message
from typing import Any, Literal

from pijobs import DestinationDown, FailJob, Job, JobContext, RetryJob, RetryPolicy
from pijobs.base import clock
from pijobs.base.known_texts import texts_in
from pijobs.base.masks import mask_address
from pijobs.base.redact import redact
from pijobs.definitions import FALLBACK, Failover, unknown_here
from pijobs.errors import (
    DatabaseError,
    DefinitionDeleted,
    DefinitionNotFound,
    DefinitionUnreadable,
    HeldBack,
    UnknownHere,
)
from pijobs_mail import conclusions
from pijobs_mail.compose import message as messages
from pijobs_mail.compose.addresses import mailboxes, sender_of
from pijobs_mail.compose.attachment import Attachment
from pijobs_mail.compose.message import Letter
from pijobs_mail.compose.smime import load_signer
from pijobs_mail.engine.delivery import FINAL_TIMEOUT, Deadline, Delivery, Mail
from pijobs_mail.engine.pool import process_pool
from pijobs_mail.engine.replies import Reply, Step
from pijobs_mail.engine.transport import deliver
from pijobs_mail.engine.verdicts import wants_fewer
from pijobs_mail.errors import (
    AsciiOnly,
    Busy,
    ConnectionLost,
    MailError,
    MaybeSent,
    MessageError,
    ServerTrouble,
    SigningFailed,
)
from pijobs_mail.servers.definitions import AUTO_SUBMITTED, DEFINITIONS, endpoint, limits_of, open_store

#: Seconds; the validity of an OTP that privacyIDEA mails, unless it was changed there (``email.validtime``).
OTP_VALIDITY = 120
#: The server in the metrics, when its definition has no name yet.
UNSAVED = "unsaved"
#: Attempts ever slower, from 2 s to once an hour, for more than a week: the deadline ends them, not their number.
RETRY = RetryPolicy(max_attempts=200, delay=2, backoff=2, max_delay=3600)
#: Seconds to wait for the server's word on a mail that is sent in the request, where somebody waits.
WORD_IN_REQUEST = 30.0
#: Seconds of the lease that are left when that wait ends, to write down what became of the mail.
_MARGIN = 10.0
#: Above jobs that nobody waits for.
OTP_PRIORITY = 10

#: What becomes of a mail that may have been sent: an OTP is sent again, a notice must not arrive twice.
IfMaybeSent = Literal["again", "not"]


class _Secrets:
    """What nobody may read of a mail; worked out where something is told of it."""

    def __init__(self, letter: Letter, secrets: Sequence[str | None]) -> None:
        self._letter, self._secrets = letter, secrets

    def __iter__(self) -> Iterator[str]:
        letter = self._letter
        yield from texts_in([letter.to, letter.subject, letter.text, letter.html, letter.message, *self._secrets])


class NotSent(RetryJob):
    """the connection broke before the end of the mail, and another server may take it"""


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
    """Send one mail by the SMTP server's definition as it is now, or by its fallback.

    ``to`` up to ``date`` are the fields of :class:`~pijobs_mail.compose.message.Letter`.

    :param server: identifier of the definition.
    :param if_maybe_sent: ``"again"`` (an OTP) or ``"not"`` (a notice): what becomes of a mail whose connection was lost
        between its end and the server's word on it, or whose worker was lost in the middle.
    :param failover: whether the fallback may take it.
    :param recipients: those that do not have it yet; None: all. Set by the job itself, for its next attempt.
    :param refused: those that earlier attempts were refused for good, with the code of the reply. Set likewise.
    :param in_doubt: whether an earlier attempt may have sent it, so that no further doubt is tried again. Set likewise.
    """
    letter = _letter(
        to, attachments, subject=subject, text=text, html=html, message=message, reply_to=reply_to, sender=sender,
        message_id=message_id, date=date,
    )  # fmt: skip
    servers, store = ctx.settings.resource(Failover, Failover), open_store(ctx.settings)

    def attempt_by(definition: Mapping[str, Any]) -> None:
        by = definition["identifier"]
        # The fallback is of no use without time: the first one gets half of what is left.
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

    try:
        servers.in_turn(
            store, server, attempt_by, trouble=(DestinationDown, NotSent),
            fits=lambda first, other: failover and _signs_as_well(first, other),
        )  # fmt: skip
    except DefinitionDeleted:
        raise FailJob(f"SMTP server {server!r} was deleted before the mail could be sent") from None
    except (DefinitionNotFound, DefinitionUnreadable, DatabaseError) as error:
        # No fault of the mail, nor of its server: another database, a key that this worker does not have (yet), or a
        # database that is away.
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
    """Send one mail by a definition that is not saved. Somebody waits for the outcome: server trouble ends it."""
    letter = _letter(to, subject=subject, text=text, message_id=message_id, date=date)
    try:
        attempt(ctx, UNSAVED, definition, letter, None, {})
    except DestinationDown as error:
        raise FailJob(str(error)) from None


def register() -> list[Job]:
    """Both jobs. Without a deadline of its own a mail has that of an OTP: late is worse than never."""
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


def attempt(
    ctx: JobContext,
    server: str,
    definition: Mapping[str, Any],
    letter: Letter,
    recipients: Sequence[str] | None,
    refused: Mapping[str, int],
    *,
    if_maybe_sent: IfMaybeSent = "again",
    in_doubt: bool = False,
    patience: float = math.inf,
) -> None:
    """One attempt at a letter, for whoever has definitions of his own.

    :param server: its name in metrics and limits.
    :param definition: the fields of an SMTP server, secrets in clear.
    :param recipients: those that do not have it yet; None: all.
    :param refused: those that earlier attempts were refused for good.
    :param patience: seconds after which a server that took no mail yet is in trouble.
    :param in_doubt: whether an earlier attempt may have sent it.
    :raises RetryJob: with the keyword arguments ``recipients``, ``refused`` or ``in_doubt`` for the next attempt;
        :class:`NotSent` where this very server could not be given the mail.
    :raises DestinationDown: when the server takes no mail now. :raises FailJob: when all that is left are refusals.
    """
    definition = DEFINITIONS.complete(definition)
    once = if_maybe_sent == "not"
    if once and ctx.crashes:
        raise FailJob(f"may have been sent: a worker was lost while it had the mail; {_NOT_AGAIN}")
    share = None if server == UNSAVED else ctx.limit(f"smtp:{server}", limits_of(definition))
    secrets = [definition.get(name) for name in DEFINITIONS.secrets_of(definition)]
    ctx.hide(*secrets)
    known = _Secrets(letter, secrets)
    place = endpoint(definition, ctx.settings)
    faults = list(letter.faults)
    try:
        mail = replace(_mail(ctx, definition, letter, recipients), careful=once)
        deadline = _deadline(ctx, patience, ctx.only_once if once else lambda: None)
        most = definition["max_connections"] if share is None else share

        def hand_over(mail: Mail) -> Delivery:
            if server == UNSAVED:
                return deliver(place, mail, deadline)
            return process_pool().deliver(place, mail, deadline, share=most)

        try:
            delivery = hand_over(mail)
        except AsciiOnly as error:
            rest, left_out = letter.in_ascii()
            faults += [f"{who}: {error}" for who in left_out]
            still = None if recipients is None else [who for who in recipients if who.isascii()]
            if not rest.to or still == [] or not mail.sender.isascii():
                raise
            delivery = hand_over(replace(_mail(ctx, definition, rest, still), careful=once))
    # The causes stay behind: their texts are the server's, and may quote anything.
    except Busy as error:
        raise HeldBack(str(error)) from None
    except ServerTrouble as error:
        conclusions.count(ctx, server, error.reply)
        _look_for_haste(ctx, [error.reply] if error.reply else [], known)
        raise DestinationDown(
            redact(str(error), known), retry_after=error.retry_after, counted=error.supposed
        ) from None
    except ConnectionLost as error:
        conclusions.count(ctx, server, None)
        raise NotSent(redact(str(error), known)) from None
    except MaybeSent as error:
        conclusions.count(ctx, server, None)
        reason = f"may have been sent: {redact(str(error), known)}"
        if once or in_doubt:
            raise FailJob(f"{reason}; {_NOT_AGAIN if once else _NOT_A_THIRD_TIME}") from None
        raise RetryJob(reason, kwargs={"in_doubt": True}) from None
    except MailError as error:
        raise FailJob(redact(str(error), known)) from None
    for outcome in delivery.outcomes.values():
        conclusions.count(ctx, server, outcome.reply)
    # A 421 before the end of a mail comes with its refusals here ("too many errors"), and is about that mail.
    told = [one.reply for one in delivery.outcomes.values() if one.reply.code != 421 or one.step is Step.END]
    _look_for_haste(ctx, told, known)
    conclusions.note(ctx, str(place), delivery)
    conclusions.conclude(delivery, letter, faults, refused, known)


def label(source: Any = None, to: Any = (), *_: Any, **__: Any) -> str:
    """For people: to whom, masked."""
    boxes, _faults = mailboxes(messages.as_recipients(to), "to")
    if not boxes:
        return "mail"
    first = mask_address(boxes[0].spec)
    return f"mail to {first}" if len(boxes) == 1 else f"mail to {first} and {len(boxes) - 1} more"


def subject(source: Any = None, to: Any = (), *_: Any, **__: Any) -> str | None:
    """A mail to one recipient can be found by the address."""
    boxes, _faults = mailboxes(messages.as_recipients(to), "to")
    return boxes[0].spec.lower() if len(boxes) == 1 else None


_NOT_AGAIN = "it is not sent again, since it must not arrive twice"
_NOT_A_THIRD_TIME = "it was sent again after a doubt already, and a doubt is tried again once"


def _deadline(ctx: JobContext, patience: float, before_effect: Callable[[], None]) -> Deadline:
    until = clock.monotonic() + patience

    def check() -> None:
        ctx.check()
        before_effect()

    def last_word() -> float:
        leased = ctx.lease_left()
        return WORD_IN_REQUEST if leased is None else max(0.0, min(FINAL_TIMEOUT, leased - _MARGIN))

    return Deadline(lambda: min(ctx.time_left(), until - clock.monotonic()), check, last_word)


def _signs_as_well(first: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """A mail that must not leave unsigned leaves unsigned by no other server either."""
    must = first["smime"] and first["dont_send_on_error"]
    return not must or bool(other["smime"] and other["dont_send_on_error"])


def _look_for_haste(ctx: JobContext, replies: Sequence[Reply], known: Iterable[str]) -> None:
    """A server that is given too much at once gets less, also where it took some of it."""
    if reply := next(filter(wants_fewer, replies), None):
        ctx.slow_down(redact(f"the server wants fewer at once: {reply}", known))


def _letter(to: str | Sequence[str], attachments: Sequence[Mapping[str, Any]] = (), **fields: Any) -> Letter:
    try:
        files = tuple(map(Attachment.of, attachments))
        letter = Letter(to=messages.as_recipients(to), attachments=files, **fields)
        letter.check()
    except MessageError as error:
        raise FailJob(str(error)) from None
    return letter


def _mail(ctx: JobContext, definition: Mapping[str, Any], letter: Letter, recipients: Sequence[str] | None) -> Mail:
    sender = letter.sender or definition["sender"]
    if not sender:
        raise MessageError("sender: expected one in the SMTP server or in the call, found neither")
    message_id = messages.message_id_of(ctx.id, sender)
    content = messages.compose(
        letter, sender=sender, message_id=message_id, date=messages.at(ctx.created),
        auto_submitted=ctx.settings[AUTO_SUBMITTED],
    )  # fmt: skip
    if definition["smime"]:
        content = _signed(ctx, definition, content)
    to = [box.spec for box in letter.recipients] if recipients is None else recipients
    return Mail(sender_of(sender).spec, tuple(to), content, utf8=letter.is_utf8(sender))


def _signed(ctx: JobContext, definition: Mapping[str, Any], content: bytes) -> bytes:
    """:raises SigningFailed: when it can't be signed, and ``dont_send_on_error`` is on. The mail waits: the definition
    or a file is wrong, not the mail."""
    paths = definition["certificate"] or "", definition["private_key"] or ""
    try:
        return load_signer(*paths, definition["private_key_password"] or "").sign(content)
    except SigningFailed as error:
        if definition["dont_send_on_error"]:
            raise
        ctx.note(smime=f"not signed: {error}")
        ctx.log.warning("the mail goes unsigned: %s", error)
        return content
