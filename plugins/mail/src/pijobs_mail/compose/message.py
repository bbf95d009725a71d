"""Makes the message of a mail, the same at each attempt."""

from __future__ import annotations

import base64
import binascii
import copy
import email.policy
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from email.message import EmailMessage, Message
from email.utils import format_datetime
from functools import cached_property

from pijobs.base.masks import mask_address
from pijobs_mail.compose import headers
from pijobs_mail.compose.addresses import Mailbox, mailboxes, parse, sender_of
from pijobs_mail.compose.attachment import Attachment
from pijobs_mail.compose.content import reencode
from pijobs_mail.compose.fields import CarefulPolicy, check_fields, verified
from pijobs_mail.compose.message_id import check_message_id
from pijobs_mail.errors import MessageError

_POLICY = CarefulPolicy(linesep="\r\n", cte_type="7bit")
#: Octets of a line without its end (RFC 5321 4.5.3.1.6).
LONGEST = 998
_UNFOLDED = re.compile(r"\0|\r\n(?![ \t])|\r(?!\n)|(?<!\r)\n(?![ \t])")


@dataclass(frozen=True, kw_only=True)
class Letter:
    """The content of a mail, before it becomes a message.

    :param to: all recipients, as the header shows them; ``alice@example.com`` or ``Alice <alice@example.com>``. A text
        may contain several, see :func:`pijobs_mail.compose.addresses.parse`.
    :param html: an alternative to the text, or the only part.
    :param attachments: files, and images of the HTML part.
    :param subject: several lines are joined to one.
    :param message: a complete message instead of text and html. Its headers stay, and missing ones are added. Can't
        have attachments.
    :param reply_to: one address or several.
    :param sender: overrides the sender of the SMTP server. ``<>`` is the null reverse path (RFC 5321 4.5.5).
    :param message_id: with the brackets; the same for all attempts.
    """

    to: tuple[str, ...] = field(repr=False)
    subject: str | None = field(default="", repr=False)
    text: str | None = field(default=None, repr=False)
    html: str | None = field(default=None, repr=False)
    attachments: tuple[Attachment, ...] = field(default=(), repr=False)
    message: Message | None = field(default=None, repr=False)
    reply_to: str | None = field(default=None, repr=False)
    sender: str | None = field(default=None, repr=False)
    message_id: str | None = None
    date: datetime | None = None

    @cached_property
    def recipients(self) -> list[Mailbox]:
        """All valid recipients, each once."""
        return mailboxes(self.to, "to")[0]

    @cached_property
    def faults(self) -> list[str]:
        """The invalid entries of ``to``, masked, each with its place and its fault."""
        return mailboxes(self.to, "to")[1]

    def is_utf8(self, sender: str) -> bool:
        """Whether an address is not ASCII, so that the server must offer SMTPUTF8.

        :param sender: the server's sender, used unless the letter has its own.
        """
        boxes = [*self.recipients, sender_of(self.sender or sender), *parse(self.reply_to or "").mailboxes]
        return not all(box.spec.isascii() for box in boxes)

    def in_ascii(self) -> tuple[Letter, list[str]]:
        """The letter with the ASCII recipients only, and the others, masked."""
        ascii_only = [box for box in self.recipients if box.spec.isascii()]
        others = [mask_address(box.spec) for box in self.recipients if not box.spec.isascii()]
        reply_to = [box.written for box in parse(self.reply_to or "").mailboxes if box.spec.isascii()]
        rest = replace(self, to=tuple(box.written for box in ascii_only), reply_to=", ".join(reply_to) or None)
        return rest, others

    def check(self) -> None:
        """:raises MessageError: if the mail can't be sent; quotes nothing of it. Allows invalid recipients beside
        a valid one, see :attr:`faults`."""
        _ = self._checked

    @cached_property
    def _checked(self) -> bool:
        """True; computed once."""
        if not self.recipients:
            raise MessageError(self.faults[0] if self.faults else "to: expected at least one recipient, found none")
        if self.reply_to and not parse(self.reply_to).mailboxes:
            raise MessageError(
                f"reply_to: {next(iter(parse(self.reply_to).faults), 'expected an address, found none')}"
            )
        if self.sender is not None:
            sender_of(self.sender)
        _encodable(self.subject or "", "subject")
        check_message_id(self.message_id)
        if self.message is not None:
            _check_ready(self)
        elif self.text is None and self.html is None:
            raise MessageError("text: expected a text, a html part or a message, found none")
        for name, part in (("text", self.text), ("html", self.html)):
            if part is not None:
                _encodable(part, name)
        for index, attachment in enumerate(self.attachments):
            attachment.check(f"attachments[{index}]", self.html)
        return True


def compose(letter: Letter, *, sender: str, message_id: str, date: datetime, auto_submitted: bool = True) -> bytes:
    """The message by RFC 5322. The same arguments give the same bytes.

    It has only 7 bits, so that no server needs 8BITMIME. Only non-ASCII addresses need SMTPUTF8.

    :param sender: used unless the letter has its own.
    :param auto_submitted: whether to tell programs not to answer (RFC 3834 5).
    :raises MessageError: as :meth:`Letter.check`.
    """
    letter.check()
    message_id = letter.message_id or message_id
    fields = {
        "From": headers.addresses("From", [sender_of(letter.sender or sender)]),
        "To": headers.addresses("To", letter.recipients),
        "Date": headers.token("Date", format_datetime(letter.date or date)),
        "Message-ID": headers.token("Message-ID", message_id),
    }
    if auto_submitted:
        fields["Auto-Submitted"] = headers.token("Auto-Submitted", "auto-generated")
    if letter.subject or letter.message is None:
        fields["Subject"] = headers.text("Subject", letter.subject)
    if letter.reply_to:
        fields["Reply-To"] = headers.addresses("Reply-To", parse(letter.reply_to).mailboxes)
    body, names = _body(letter, message_id)
    for name in names if letter.message is not None else ():
        fields.pop(_NAMES.get(name.lower(), ""), None)
    return verified(b"".join(fields.values()) + body, [*fields, *names])


def _body(letter: Letter, message_id: str) -> tuple[bytes, Sequence[str]]:
    """The part after our own fields, and the names of its fields."""
    if letter.message is None and not letter.attachments:
        return _by_hand(letter, message_id)
    try:
        message = _written(letter) if letter.message is None else _ready(letter.message)
        return _by_library(message, str(message.get("Message-ID", message_id))), message.keys()
    except MessageError:
        raise
    except Exception as error:  # an error of the standard library for an invalid message, whose text quotes the message
        raise MessageError(
            f"message: expected one that can be written, found a fault ({type(error).__name__})"
        ) from None


_FIELDS = ("From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "Reply-To")
_NAMES = {name.lower(): name for name in _FIELDS}


def _by_hand(letter: Letter, seed: str) -> tuple[bytes, Sequence[str]]:
    """MIME headers and body of a mail without attachments, and the names of the headers."""
    parts = [_part(text, kind) for text, kind in ((letter.text, "plain"), (letter.html, "html")) if text is not None]
    if len(parts) == 1:
        return b"MIME-Version: 1.0\r\n" + parts[0], ("MIME-Version", "Content-Type", "Content-Transfer-Encoding")
    boundary = _boundary(seed, 0)
    head = f'MIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary="{boundary}"\r\n\r\n'
    delimited = b"".join(b"--%s\r\n%s" % (boundary.encode(), part) for part in parts)
    return head.encode() + delimited + f"--{boundary}--\r\n".encode(), ("MIME-Version", "Content-Type")


def _part(text: str, kind: str) -> bytes:
    """A text with its MIME headers, and with CRLF line ends."""
    lines = re.sub("\r\n?", "\n", text).removesuffix("\n").split("\n")
    content = "".join(f"{line}\r\n" for line in lines).encode()
    encoding = "7bit"
    if not content.isascii() or b"\0" in content or max(map(len, lines)) > headers.LONGEST_LINE:
        quoted, packed = _quoted_printable(content), base64.encodebytes(content).replace(b"\n", b"\r\n")
        encoding, content = ("quoted-printable", quoted) if len(quoted) <= len(packed) else ("base64", packed)
    head = f'Content-Type: text/{kind}; charset="utf-8"\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n'
    return head.encode() + content


def _quoted_printable(content: bytes) -> bytes:
    return binascii.b2a_qp(content.replace(b"\r\n", b"\n"), istext=True).replace(b"\n", b"\r\n")


def _by_library(message: EmailMessage, seed: str) -> bytes:
    _fix_boundaries(message, seed)
    content = message.as_bytes(policy=_POLICY)
    if max(map(len, content.split(b"\r\n"))) <= LONGEST:
        return content
    _shorten_lines(message)
    return message.as_bytes(policy=_POLICY)


def _shorten_lines(message: Message) -> None:
    """Encode texts with lines longer than SMTP allows (RFC 5321 4.5.3.1.6).

    :raises MessageError: if they are in a signed message, which must not be changed.
    """
    for part in message.walk():
        if part.is_multipart():
            if part.get_content_type() == "multipart/signed":
                raise MessageError(
                    f"message: expected lines of at most {LONGEST} octets in a signed message, found more"
                )
            continue
        body = part.get_payload(decode=True)
        assert isinstance(body, bytes)
        if max(map(len, re.split(rb"\r\n|\r|\n", body))) > LONGEST:
            reencode(part)


def _written(letter: Letter) -> EmailMessage:
    message = EmailMessage(policy=_POLICY)
    if letter.text is not None:
        message.set_content(letter.text, cte=_packed(letter.text))
        if letter.html is not None:
            message.add_alternative(letter.html, subtype="html", cte=_packed(letter.html))
    else:
        message.set_content(letter.html or "", subtype="html", cte=_packed(letter.html or ""))
    images = [each for each in letter.attachments if each.cid is not None]
    for attachment in letter.attachments:
        attachment.add_to(_html(message) if attachment in images else message)
    return message


def _packed(text: str) -> str | None:
    """The encoding of a text that needs one (RFC 2045 2.7); None: the library decides."""
    return "quoted-printable" if "\0" in text else None


def _html(message: EmailMessage) -> EmailMessage:
    part = message.get_body(("html",))
    assert isinstance(part, EmailMessage)
    return part


def _ready(message: Message) -> EmailMessage:
    """A checked copy of the caller's message, which must not change: a second attempt would double the headers."""
    check_fields(message)
    ready = email.message_from_bytes(copy.deepcopy(message).as_bytes(), policy=_POLICY)
    del ready["Bcc"]
    assert isinstance(ready, EmailMessage)
    return ready


def _fix_boundaries(message: Message, seed: str) -> None:
    """Set fixed boundaries. With random ones, a second attempt would send another message with the same id."""
    for index, part in enumerate(message.walk()):
        if part.is_multipart() and part.get_content_maintype() == "multipart" and not part.get_boundary():
            part.set_boundary(_boundary(seed, index))


def _boundary(seed: str, index: int) -> str:
    return f"=_{hashlib.sha256(f'{seed} {index}'.encode()).hexdigest()[:32]}"


def as_recipients(to: str | Sequence[str]) -> tuple[str, ...]:
    """The recipients as a tuple."""
    return (to,) if isinstance(to, str) else tuple(to)


def _encodable(value: str, name: str) -> None:
    if not isinstance(value, str):
        raise MessageError(f"{name}: expected text, found {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError:
        # Do not chain the error, since it quotes the text.
        raise MessageError(f"{name}: expected text that can be encoded, found something else") from None


def _check_ready(letter: Letter) -> None:
    if letter.text is not None or letter.html is not None or letter.attachments:
        raise MessageError("message: expected either a message or text, html and attachments, found both")
    assert letter.message is not None
    try:
        folded = all(not _UNFOLDED.search(str(value)) for part in letter.message.walk() for value in part.values())
    except Exception as error:  # its text quotes the header
        raise MessageError(
            f"message: expected headers that can be read, found others ({type(error).__name__})"
        ) from None
    if not folded:
        raise MessageError("message: expected headers of one line each, found a line break or NUL in one")
