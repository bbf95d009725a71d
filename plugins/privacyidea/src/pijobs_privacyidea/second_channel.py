"""Sends an OTP by a second channel if the first one fails while it is valid: SMS after mail, or mail after SMS.

A second instance is enqueued with the message. It waits for half of the validity, and then looks whether the first one
arrived. It does not depend on the first one's destination, to which nothing may be sent while it is down. If a message
is refused for good, the second one is sent at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

from pijobs import FailJob, Job, JobContext, RetryJob, Settings, State
from pijobs.errors import InstanceNotFound, PijobsError
from pijobs_mail.job import OTP_PRIORITY, OTP_VALIDITY, RETRY
from pijobs_privacyidea.origin import origin
from pijobs_privacyidea.settings import SECOND_CHANNEL
from pijobs_privacyidea.tokens import FIRST_ARRIVED, Circumstances, circumstances_in, labelled, login_for, owner_of
from pijobs_privacyidea.usage import counts, present

if TYPE_CHECKING:
    from pijobs_privacyidea.queue import HueyQueue

NAME = "privacyidea.second_channel"
SUBJECT = "Your one-time password"
#: The part of the validity after which the second channel sends the OTP, unless the message arrived.
PART = 0.5
#: The first channels, by their jobs.
_CHANNELS = {"smtpserver.send_email": "mail", "privacyidea.sms": "sms"}


def is_set_up(settings: Settings, name: str) -> bool:
    """Whether messages of this job have a second channel."""
    return _CHANNELS.get(name) in settings[SECOND_CHANNEL]


def plan(
    queue: HueyQueue,
    name: str,
    token: str | None,
    text: str | None,
    *,
    first: str,
    expires: float,
    at_once: bool = False,
    about: Circumstances | None = None,
) -> bool:
    """Enqueue the second message of an OTP. Does nothing for other messages, or without a second channel.

    :param name: name of the first message's job.
    :param token: serial of the token whose OTP it is.
    :param first: id of the first instance; empty if there is none.
    :param expires: seconds for which the OTP is valid.
    :param at_once: send it now, since the first message does not arrive.
    :param about: realm, token type and application for statistics; default: of the present request.
    :returns: whether it was enqueued.
    """
    if token is None or not text or not is_set_up(queue.settings, name):
        return False
    channel = _CHANNELS[name]
    through = queue.settings[SECOND_CHANNEL][channel]
    call: dict[str, Any] = {"first": first, "channel": channel, "through": through, "token": token, "text": text}
    if about is not None:
        call["about"] = astuple(about)
    queue.enqueue(
        NAME, (), call, delay=None if at_once else expires * PART, expires=expires, key=f"second channel of {token}"
    )
    return True


@contextmanager
def when_refused(ctx: JobContext, token: str | None, text: str | None) -> Iterator[None]:
    """Send the second message at once if the attempt in this block fails for good."""
    from privacyidea.lib.queue import get_job_queue, has_job_queue

    try:
        yield
    except FailJob:
        if token is None or not has_job_queue() or not 0 < ctx.time_left() < float("inf"):
            raise
        try:
            queue = get_job_queue()
            about = _circumstances_of(queue, ctx.id)
            plan(queue, ctx.name, token, text, first=ctx.id, expires=ctx.time_left(), at_once=True, about=about)
        except Exception as error:  # the waiting second message still comes
            ctx.log.warning("the second channel waits for its time (%s)", type(error).__name__)
        raise


def send_second(
    ctx: JobContext, first: str, channel: str, through: str, token: str, text: str, about: Sequence[str] = ()
) -> None:
    """Send an OTP by the other channel, unless the first message arrived. Runs in privacyIDEA's app context.

    :param first: id of the first message; empty if there is none.
    :param channel: channel of the first message, ``"mail"`` or ``"sms"``.
    :param through: the SMS gateway or SMTP server of the second message.
    :param token: serial of the token whose OTP it is; its owner is the recipient.
    :param about: realm, token type and application for statistics, from the first message.
    """
    if first and _arrived(first):
        ctx.note(first=FIRST_ARRIVED)
        return
    from pijobs_privacyidea import mail, sms_job

    owner = owner_of(token)
    if channel == "mail":
        phone = owner.get_user_phone("mobile", index=0) if owner else None
        if not phone:
            raise FailJob("the owner of the token has no mobile number")
        ctx.hide(phone)
        sms_job.send_sms(ctx, through, phone, text)
    else:
        address = owner.info.get("email") if owner else None
        if not address:
            raise FailJob("the owner of the token has no mail address")
        to = [address] if isinstance(address, str) else list(address)[:1]
        ctx.hide(*to)
        mail.send_email(ctx, through, None, to, SUBJECT, text)
    ctx.note(first="did not arrive")


def job() -> Job:
    """The job."""
    return Job(
        NAME,
        send_second,
        retry=RETRY,
        expires=OTP_VALIDITY,
        priority=OTP_PRIORITY,
        timeout=900,
        group=lambda channel, through, **_: f"{'sms' if channel == 'mail' else 'smtp'}:{through}",
        label=_label,
        person=lambda token, **_: login_for(token),
    )


def _circumstances_of(queue: HueyQueue, first: str) -> Circumstances | None:
    """The circumstances that the first message is counted by; None without statistics, or if unknown."""
    if not counts():
        return None
    try:
        return circumstances_in(queue.places.find(first)[1].label)
    except PijobsError:
        return None


def _label(channel: str, token: str, about: Sequence[str] = (), **_: Any) -> str:
    counted = Circumstances(*about) if about else present(token, origin().type)
    return labelled(f"{'SMS' if channel == 'mail' else 'mail'} as second channel", token, counted)


def _arrived(first: str) -> bool:
    """Whether the first message arrived. :raises RetryJob: if that is unknown at present."""
    from privacyidea.lib.queue import get_job_queue

    try:
        _, record = get_job_queue().places.find(first)
    except InstanceNotFound:  # it succeeded, and its record was removed; failed OTPs are kept for days
        return True
    except PijobsError as error:
        raise RetryJob(f"what became of the first message is not known ({type(error).__name__})") from None
    return bool(record.state is State.DONE)


def text_of(text: Any = None, html: str | None = None) -> str | None:
    """The text of the second message; None for a push message, or a mail with parts."""
    return text if isinstance(text, str) else None if html is None else _Words.of(html)


class _Words(HTMLParser):
    """Extracts the text of HTML."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.words: list[str] = []

    def handle_data(self, data: str) -> None:
        self.words += data.split()

    @classmethod
    def of(cls, html: str) -> str:
        parser = cls()
        parser.feed(html)
        parser.close()
        return " ".join(parser.words)
