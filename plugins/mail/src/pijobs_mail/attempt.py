"""One attempt to send a mail through one server.

The engine reports the outcome for each recipient. This module decides whether the instance is done, is tried again for
the other recipients, waits for its server, or is dead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal

from pijobs import DestinationDown, FailJob, JobContext, RetryJob
from pijobs.base import clock
from pijobs.base.known_texts import texts_in
from pijobs.base.redact import redact
from pijobs.errors import AttemptDeferred
from pijobs_mail import conclusions
from pijobs_mail.compose import message as messages
from pijobs_mail.compose.addresses import sender_of
from pijobs_mail.compose.message import Letter
from pijobs_mail.compose.message_id import at, message_id_of
from pijobs_mail.compose.smime import load_signer
from pijobs_mail.engine.delivery import FINAL_TIMEOUT, Deadline, Delivery, Mail
from pijobs_mail.engine.pool import process_pool
from pijobs_mail.engine.replies import Reply, Step
from pijobs_mail.engine.transport import deliver
from pijobs_mail.engine.verdicts import asks_to_slow_down
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
from pijobs_mail.servers.definitions import AUTO_SUBMITTED, DEFINITIONS, endpoint, limits_of

#: The name of the server in the metrics, if its definition has no name yet.
UNSAVED = "unsaved"

#: Seconds to wait for the reply to a mail that is sent in the request, where somebody waits.
FINAL_TIMEOUT_IN_REQUEST = 30.0

#: Seconds of the lease that remain when that wait ends, for recording the outcome of the mail.
_MARGIN = 10.0

#: What to do with a mail that may have been sent: send an OTP again; a notice must not arrive twice.
IfMaybeSent = Literal["again", "not"]


class _Secrets:
    """The secrets of a mail, collected only when something is reported about it."""

    def __init__(self, letter: Letter, secrets: Sequence[str | None]) -> None:
        self._letter, self._secrets = letter, secrets

    def __iter__(self) -> Iterator[str]:
        letter = self._letter
        yield from texts_in([letter.to, letter.subject, letter.text, letter.html, letter.message, *self._secrets])


class NotSent(RetryJob):
    """the connection was lost before the end of the mail, and another server may accept it"""


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
    """One attempt to send a letter, for callers with their own definitions.

    :param server: the server's name in metrics and limits.
    :param definition: the fields of an SMTP server, with decrypted secrets.
    :param recipients: recipients that do not have it yet; None: all.
    :param refused: recipients that the server refused for good in earlier attempts.
    :param patience: seconds after which a server that has not accepted the mail counts as in trouble.
    :param in_doubt: whether an earlier attempt may have sent it.
    :raises RetryJob: with the keyword arguments ``recipients``, ``refused`` or ``in_doubt`` for the next attempt;
        :class:`NotSent` if this server could not get the mail.
    :raises DestinationDown: the server accepts no mail now. :raises FailJob: only refusals are left.
    """
    once = if_maybe_sent == "not"
    if once and ctx.crashes:
        raise FailJob(f"may have been sent: a worker was lost while it had the mail; {_NOT_AGAIN}")
    definition = DEFINITIONS.complete(definition)
    share = None if server == UNSAVED else ctx.limit(f"smtp:{server}", limits_of(definition))
    secrets = [definition.get(name) for name in DEFINITIONS.secrets_of(definition)]
    ctx.hide(*secrets)
    known = _Secrets(letter, secrets)
    place = endpoint(definition, ctx.settings)
    deadline = _deadline(ctx, patience, ctx.only_once if once else lambda: None)

    def hand_over(letter: Letter, recipients: Sequence[str] | None) -> Delivery:
        mail = replace(_mail(ctx, definition, letter, recipients), careful=once)
        if server == UNSAVED:
            return deliver(place, mail, deadline)
        most = definition["max_connections"] if share is None else share
        return process_pool().deliver(place, mail, deadline, share=most)

    with _ends(ctx, server, known, not_again=_NOT_AGAIN if once else _NOT_A_THIRD_TIME if in_doubt else None):
        delivery, left_out = _hand_over_in_ascii_if_need_be(letter, recipients, hand_over)
    _judge(ctx, server, delivery, known)
    conclusions.note(ctx, str(place), delivery)
    conclusions.conclude(delivery, letter, [*letter.faults, *left_out], refused, known)


def _hand_over_in_ascii_if_need_be(
    letter: Letter, recipients: Sequence[str] | None, hand_over: Callable[[Letter, Sequence[str] | None], Delivery]
) -> tuple[Delivery, list[str]]:
    """The delivery, and why recipients were left out. A server without SMTPUTF8 gets only the ASCII recipients."""
    try:
        return hand_over(letter, recipients), []
    except AsciiOnly as error:
        rest, left_out = letter.in_ascii()
        still = None if recipients is None else [who for who in recipients if who.isascii()]
        if not rest.to or still == []:
            raise
        return hand_over(rest, still), [f"{who}: {error}" for who in left_out]


@contextmanager
def _ends(ctx: JobContext, server: str, known: _Secrets, *, not_again: str | None) -> Iterator[None]:
    """Convert an exception of the engine to the end of an attempt. Drop its causes, because their texts come from the
    server and may contain anything.

    :param not_again: the reason why a mail that may have been sent is not sent again.
    """
    try:
        yield
    except Busy as error:
        raise AttemptDeferred(str(error)) from None
    except ServerTrouble as error:
        conclusions.count(ctx, server, error.reply)
        _slow_down_if_asked(ctx, [error.reply] if error.reply else [], known)
        told = redact(str(error), known)
        raise DestinationDown(told, retry_after=error.retry_after, counted=error.supposed) from None
    except ConnectionLost as error:
        conclusions.count(ctx, server, None)
        raise NotSent(redact(str(error), known)) from None
    except MaybeSent as error:
        conclusions.count(ctx, server, None)
        reason = f"may have been sent: {redact(str(error), known)}"
        if not_again:
            raise FailJob(f"{reason}; {not_again}") from None
        raise RetryJob(reason, kwargs={"in_doubt": True}) from None
    except MailError as error:
        raise FailJob(redact(str(error), known)) from None


def _judge(ctx: JobContext, server: str, delivery: Delivery, known: _Secrets) -> None:
    for outcome in delivery.outcomes.values():
        conclusions.count(ctx, server, outcome.reply)
    # A 421 before the end of a mail has refusals here ("too many errors"), and is about that mail.
    told = [one.reply for one in delivery.outcomes.values() if one.reply.code != 421 or one.step is Step.END]
    _slow_down_if_asked(ctx, told, known)


_NOT_AGAIN = "it is not sent again, because it must not arrive twice"

_NOT_A_THIRD_TIME = "its outcome was unknown before, and it is sent again only once"


def _deadline(ctx: JobContext, patience: float, before_effect: Callable[[], None]) -> Deadline:
    until = clock.monotonic() + patience

    def check() -> None:
        ctx.check()
        before_effect()

    def final_timeout() -> float:
        leased = ctx.lease_left()
        return FINAL_TIMEOUT_IN_REQUEST if leased is None else max(0.0, min(FINAL_TIMEOUT, leased - _MARGIN))

    return Deadline(lambda: min(ctx.time_left(), until - clock.monotonic()), check, final_timeout)


def _slow_down_if_asked(ctx: JobContext, replies: Sequence[Reply], known: Iterable[str]) -> None:
    """Send less to a server that gets too much at once, even if it accepted some of it."""
    if reply := next(filter(asks_to_slow_down, replies), None):
        ctx.slow_down(redact(f"the server wants fewer at once: {reply}", known))


def _mail(ctx: JobContext, definition: Mapping[str, Any], letter: Letter, recipients: Sequence[str] | None) -> Mail:
    sender = letter.sender or definition["sender"]
    if not sender:
        raise MessageError("sender: expected one in the SMTP server or in the call, found neither")
    given_id = message_id_of(ctx.id, sender)
    content = messages.compose(
        letter, sender=sender, message_id=given_id, date=at(ctx.created),
        auto_submitted=ctx.settings[AUTO_SUBMITTED],
    )  # fmt: skip
    if definition["smime"]:
        content = _signed(ctx, definition, content)
    to = [box.spec for box in letter.recipients] if recipients is None else recipients
    return Mail(sender_of(sender).spec, tuple(to), content, utf8=letter.is_utf8(sender))


def _signed(ctx: JobContext, definition: Mapping[str, Any], content: bytes) -> bytes:
    """:raises SigningFailed: it can't be signed, and ``dont_send_on_error`` is on. The mail waits, because the
    definition or a file is wrong, not the mail."""
    paths = definition["certificate"] or "", definition["private_key"] or ""
    try:
        return load_signer(*paths, definition["private_key_password"] or "").sign(content)
    except SigningFailed as error:
        if definition["dont_send_on_error"]:
            raise
        ctx.note(smime=f"not signed: {error}")
        ctx.log.warning("the mail goes unsigned: %s", error)
        return content
