"""The mail itself: addresses that are checked, and a message that is the same at every attempt."""

from __future__ import annotations

import copy
import email.policy
import hashlib
import re
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.headerregistry import Address
from email.message import EmailMessage, Message
from email.utils import format_datetime

from pijobs_mail.attachment import Attachment
from pijobs_mail.errors import MessageError

# Everything in 7 bits, so that no server needs 8BITMIME or SMTPUTF8.
_POLICY = email.policy.SMTP.clone(cte_type="7bit")
_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LOCAL = re.compile(rf"{_ATEXT}(\.{_ATEXT})*")
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_NAMED = re.compile(r'("[^"<>]*"|[^"<>]*)<([^<>]+)>')
_BREAK = re.compile("[\0-\x08\n-\x1f\x7f-\x9f\u2028\u2029]")
_UNFOLDED = re.compile(r"\0|\r\n(?![ \t])|\r(?!\n)|(?<!\r)\n(?![ \t])")


@dataclass(frozen=True, kw_only=True)
class Letter:
    """What is to be sent.

    :param to: all recipients, as the header shows them; ``alice@example.com`` or ``Alice <alice@example.com>``.
    :param html: an alternative to the text; alone it is the only part.
    :param attachments: files, and images of the HTML part.
    :param message: a ready-made message instead of subject, text and html. Its headers stay; those that are missing
        are added. With it there are no attachments.
    :param sender: overrides the sender of the SMTP server.
    :param message_id: with the brackets; the same over all attempts.
    """

    to: tuple[str, ...] = field(repr=False)
    subject: str = field(default="", repr=False)
    text: str | None = field(default=None, repr=False)
    html: str | None = field(default=None, repr=False)
    attachments: tuple[Attachment, ...] = field(default=(), repr=False)
    message: Message | None = field(default=None, repr=False)
    reply_to: str | None = field(default=None, repr=False)
    sender: str | None = field(default=None, repr=False)
    message_id: str | None = None
    date: datetime | None = None

    def check(self) -> None:
        """:raises MessageError: for whatever can't be sent, without quoting it."""
        if not self.to:
            raise MessageError("to: expected at least one recipient, found none")
        for index, recipient in enumerate(self.to):
            mailbox(recipient, f"to[{index}]")
        for name, value in (("reply_to", self.reply_to), ("sender", self.sender)):
            if value is not None:
                mailbox(value, name)
        _one_line(self.subject, "subject")
        _check_message_id(self.message_id)
        if self.message is not None:
            _check_ready(self)
        elif self.text is None and self.html is None:
            raise MessageError("text: expected a text, a html part or a message, found none")
        for name, part in (("text", self.text), ("html", self.html)):
            if part is not None:
                _encodable(part, name)
                if "\0" in part:
                    raise MessageError(f"{name}: expected text, found a NUL character in it")
        for index, attachment in enumerate(self.attachments):
            attachment.check(f"attachments[{index}]", self.html)


def compose(letter: Letter, *, sender: str, message_id: str, date: datetime) -> bytes:
    """The message in the form of RFC 5322: the same bytes for the same arguments.

    :param sender: used unless the letter has its own.
    :raises MessageError: as :meth:`Letter.check`.
    """
    letter.check()
    message = _ready(letter.message) if letter.message is not None else _written(letter)
    headers: list[tuple[str, str | Address | list[Address]]] = [
        ("From", mailbox(letter.sender or sender, "sender")),
        ("To", [mailbox(recipient, "to") for recipient in letter.to]),
        ("Date", format_datetime(letter.date or date)),
        ("Message-ID", letter.message_id or message_id),
        ("Auto-Submitted", "auto-generated"),  # RFC 3834 5
    ]
    if letter.reply_to:
        headers.append(("Reply-To", mailbox(letter.reply_to, "reply_to")))
    for name, value in headers:
        if name not in message:
            message[name] = value
    _fix_boundaries(message, str(message["Message-ID"]))
    return message.as_bytes(policy=_POLICY)


def _written(letter: Letter) -> EmailMessage:
    message = EmailMessage(policy=_POLICY)
    message["Subject"] = letter.subject
    if letter.text is not None:
        message.set_content(letter.text)
        if letter.html is not None:
            message.add_alternative(letter.html, subtype="html")
    else:
        message.set_content(letter.html or "", subtype="html")
    images = [each for each in letter.attachments if each.cid is not None]
    for attachment in letter.attachments:
        attachment.add_to(_html(message) if attachment in images else message)
    return message


def _html(message: EmailMessage) -> EmailMessage:
    part = message.get_body(("html",))
    assert isinstance(part, EmailMessage)
    return part


def _ready(message: Message) -> EmailMessage:
    """A copy: what a caller hands over is not written into, or a second attempt would double the headers."""
    ready = email.message_from_bytes(copy.deepcopy(message).as_bytes(), policy=_POLICY)
    del ready["Bcc"]
    assert isinstance(ready, EmailMessage)
    return ready


def _fix_boundaries(message: Message, seed: str) -> None:
    """Boundaries are random by default, and a second attempt would send another message under the same id."""
    for index, part in enumerate(message.walk()):
        if part.is_multipart() and part.get_content_maintype() == "multipart" and not part.get_boundary():
            part.set_boundary(f"=_{hashlib.sha256(f'{seed} {index}'.encode()).hexdigest()[:32]}")


def make_message_id(sender: str) -> str:
    """A new Message-ID in the domain of the sender."""
    return message_id_of(uuid.uuid4().hex, sender)


def message_id_of(instance_id: str, sender: str) -> str:
    """The Message-ID of a job instance that was given none: the same at each attempt."""
    return f"<{re.sub(r'[^A-Za-z0-9.-]', '', instance_id)}@{mailbox(sender, 'sender').domain}>"


def now() -> datetime:
    return datetime.now(timezone.utc).replace(microsecond=0)


def at(seconds: float) -> datetime:
    """The date of a mail by seconds since the epoch."""
    return datetime.fromtimestamp(int(seconds), timezone.utc)


def mailbox(text: str, name: str) -> Address:
    """A checked address, with its display name; a domain of other scripts as IDNA.

    :param name: of the argument, for the error, which never quotes the address.
    :raises MessageError: for what RFC 5321 4.1.2 does not allow, quoted local parts, and those beyond ASCII.
    """
    _one_line(text, name)
    named = _NAMED.fullmatch(text.strip())
    shown, spec = (named[1].strip().strip('"'), named[2]) if named else ("", text.strip())
    local, at, domain = spec.rpartition("@")
    if not at or not local or not domain:
        raise MessageError(f"{name}: expected one mail address (name@domain), found something else")
    if not local.isascii():
        raise MessageError(f"{name}: expected an address in ASCII before the @, found other letters")
    if len(local) > 64 or not _LOCAL.fullmatch(local):  # RFC 5321 4.5.3.1.1
        raise MessageError(f"{name}: expected letters, digits and single dots before the @, found something else")
    return Address(shown, local, _domain(domain, name))


def mailboxes(texts: Iterable[str], name: str) -> list[str]:
    """Bare addresses for the envelope, each once."""
    return list(dict.fromkeys(mailbox(text, name).addr_spec for text in texts))


def as_recipients(to: str | Sequence[str]) -> tuple[str, ...]:
    """One recipient or several."""
    return (to,) if isinstance(to, str) else tuple(to)


def _domain(domain: str, name: str) -> str:
    try:
        ascii_domain = domain if domain.isascii() else domain.encode("idna").decode("ascii")
    except UnicodeError:
        ascii_domain = ""
    if len(ascii_domain) > 253 or not all(_LABEL.fullmatch(label) for label in ascii_domain.split(".")):
        raise MessageError(f"{name}: expected a host name behind the @, found something else")
    return ascii_domain


def _one_line(value: str, name: str) -> None:
    if not isinstance(value, str):
        raise MessageError(f"{name}: expected text, found {type(value).__name__}")
    if _BREAK.search(value):
        raise MessageError(f"{name}: expected one line, found a line break or control character in it")
    _encodable(value, name)


def _encodable(value: str, name: str) -> None:
    try:
        value.encode()
    except (UnicodeEncodeError, AttributeError):
        # Not chained: that error quotes the text.
        raise MessageError(f"{name}: expected text that can be encoded, found something else") from None


def _check_message_id(message_id: str | None) -> None:
    if message_id is not None and not re.fullmatch(rf"<{_LOCAL.pattern}@{_LOCAL.pattern}>", message_id):
        raise MessageError("message_id: expected <something@a.domain>, found something else")


def _check_ready(letter: Letter) -> None:
    if letter.text is not None or letter.html is not None or letter.subject or letter.attachments:
        raise MessageError("message: expected either a message or subject, text, html and attachments, found both")
    assert letter.message is not None
    for part in letter.message.walk():
        if any(_UNFOLDED.search(str(value)) for value in part.values()):
            raise MessageError("message: expected headers of one line each, found a line break or NUL in one")
