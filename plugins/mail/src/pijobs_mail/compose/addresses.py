"""Mail addresses as people write them: RFC 5322 3.4, and the forms of mail programs and address books.

What privacyIDEA accepts in the request is accepted here, too. An address is refused only if no server could accept it;
the server decides about the rest. Nothing here can become a second command or header: control characters are refused,
and an address in an SMTP command has neither blanks nor angle brackets outside of quotes.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from pijobs_mail.compose.address_entries import Entry, Token, entries
from pijobs_mail.errors import MessageError

#: Octets of an address in an SMTP command (RFC 5321 4.5.3.1.3).
LONGEST = 254
#: The most characters of a text with addresses; longer ones are refused unread.
LONGEST_TEXT = 64 * 1024

_SIMPLE = re.compile(r"([A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+)@([A-Za-z0-9][A-Za-z0-9-]*(?:\.[A-Za-z0-9][A-Za-z0-9-]*)+)")
_FOLD = re.compile(r"\r?\n[ \t]+")
_CONTROL = re.compile("[\0-\x08\n-\x1f\x7f-\x9f\u2028\u2029]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")


@dataclass(frozen=True, slots=True)
class Mailbox:
    """One address with its display name.

    :ivar local: the part before the @, in its quotes if it needs them.
    :ivar domain: a host name in ASCII (IDNA 2008), or an address literal; empty if the server completes it.
    """

    name: str = field(repr=False)
    local: str = field(repr=False)
    domain: str

    @property
    def spec(self) -> str:
        """The address alone, as in SMTP commands. Empty: the null reverse path (RFC 5321 4.5.5)."""
        return f"{self.local}@{self.domain}" if self.domain else self.local

    @property
    def written(self) -> str:
        """Name and address, as :func:`parse` reads them."""
        quoted = re.sub(r'(["\\])', r"\\\1", self.name)
        return f'"{quoted}" <{self.spec}>' if self.name else self.spec


NOBODY = Mailbox("", "", "")


@dataclass(frozen=True, slots=True)
class Addresses:
    """The addresses of a text.

    :ivar faults: one sentence for each invalid entry, without quoting it.
    """

    mailboxes: tuple[Mailbox, ...]
    faults: tuple[str, ...] = ()


def parse(text: str) -> Addresses:
    """All addresses of a text. Groups are replaced by their members, empty entries are skipped.

    Entries are separated by commas or semicolons. In ``Smith, Jane <jane@example.com>`` the comma belongs to the name:
    words without an @ belong to the next address in angle brackets. So put an address without a domain into a separate
    text, or into angle brackets. Text after angle brackets that is no address is ignored, and so is a quote or bracket
    without its partner.
    """
    if not isinstance(text, str):
        return Addresses((), (f"expected text, found {type(text).__name__}",))
    return (_parsed if len(text) > LONGEST else _remembered)(text)


def _parsed(text: str) -> Addresses:
    if (match := _SIMPLE.fullmatch(text)) and len(text) <= LONGEST:
        return Addresses((Mailbox("", match[1], match[2]),))
    try:
        text = _one_line(text)
    except _Fault as fault:
        return Addresses((), (str(fault),))
    found: list[Mailbox] = []
    faults: list[str] = []
    for entry in entries(text):
        try:
            found.append(_mailbox_of(entry))
        except _Fault as fault:
            faults.append(str(fault))
    return Addresses(tuple(found), tuple(faults))


#: Checks, label, subject and header of a mail parse the same addresses, and most mails have the same sender.
_remembered = lru_cache(maxsize=128)(_parsed)


def mailbox(text: str, name: str) -> Mailbox:
    """The only address of a text. Commas before the angle brackets belong to the name.

    :param name: name of the argument, for the error, which never quotes the address.
    :raises MessageError: for none, several, or an invalid one.
    """
    found = parse(text)
    if found.faults:
        raise MessageError(f"{name}: {found.faults[0]}")
    if len(found.mailboxes) != 1:
        raise MessageError(f"{name}: expected one mail address, found {len(found.mailboxes) or 'none'}")
    return found.mailboxes[0]


def sender_of(text: str, name: str = "sender") -> Mailbox:
    """Like :func:`mailbox`; an empty text or ``<>`` is the null reverse path."""
    return NOBODY if text.strip() in ("", "<>") else mailbox(text, name)


def mailboxes(texts: Sequence[str], name: str) -> tuple[list[Mailbox], list[str]]:
    """The addresses of several texts, each once, and the errors of the other entries.

    :param name: name of the argument; an error begins with it, the place in the list, and the masked entry.
    """
    found: dict[str, Mailbox] = {}
    faults: list[str] = []
    for index, text in enumerate(texts):
        parsed = parse(text)
        for each in parsed.mailboxes:
            found.setdefault(each.spec, each)
        if parsed.faults:
            shown = f" ({text.strip()[:1]}***)" if isinstance(text, str) and text.strip() else ""
            faults += [f"{name}[{index}]{shown}: {fault}" for fault in parsed.faults]
    return list(found.values()), faults


class _Fault(ValueError):
    """what is wrong, without quoting the text"""


def _one_line(text: str) -> str:
    text = _FOLD.sub(" ", text.strip())
    if len(text) > LONGEST_TEXT:
        raise _Fault(f"expected at most {LONGEST_TEXT} characters, found {len(text)}")
    if _CONTROL.search(text):
        raise _Fault("expected one line, found a line break or control character in it")
    if _SURROGATE.search(text):
        raise _Fault("expected text that UTF-8 can encode, found a lone surrogate")
    return text


def _mailbox_of(entry: Entry) -> Mailbox:
    if entry.inside or (entry.inside is not None and entry.is_phrase):
        return _checked(_shown(entry.outside), entry.inside)
    comments = [token.text.strip() for token in entry.outside if token.kind == "comment"]
    return _checked(comments[0] if comments else "", entry.outside)


def _shown(tokens: list[Token]) -> str:
    words = [_unquoted(token) if token.kind == "quoted" else token.text for token in tokens if token.kind != "comment"]
    return "".join(words).strip()


def _unquoted(token: Token) -> str:
    return re.sub(r"\\(.)", r"\1", token.text[1:-1])


def _checked(name: str, tokens: list[Token]) -> Mailbox:
    signs = [n for n, token in enumerate(tokens) if token.is_("@")]
    if len(signs) > 1:
        raise _Fault("expected one @ in a mail address, found several")
    at = signs[0] if signs else len(tokens)
    local, domain = _trimmed(tokens[:at]), _trimmed(tokens[at + 1 :])
    if not signs and len(local) == 1 and local[0].kind == "quoted":
        found = parse(_unquoted(local[0]))  # a complete address in quotes
        if not found.faults and len(found.mailboxes) == 1 and found.mailboxes[0].domain:
            return replace(found.mailboxes[0], name=name)
    box = Mailbox(name, _local(local, with_domain=bool(signs)), _domain(domain) if signs else "")
    if len(box.spec.encode()) > LONGEST:
        raise _Fault(f"expected a mail address of at most {LONGEST} octets, found {len(box.spec.encode())}")
    return box


def _trimmed(tokens: list[Token]) -> list[Token]:
    counting = [n for n, token in enumerate(tokens) if token.counts]
    return tokens[counting[0] : counting[-1] + 1] if counting else []


def _words(tokens: list[Token]) -> list[Token]:
    """The tokens without comments, and without blanks next to a dot (RFC 5322 4.4)."""
    words: list[Token] = []
    tokens = [token for token in tokens if token.kind != "comment"]
    for n, token in enumerate(tokens):
        if token.kind != "blank" or not (tokens[n - 1].text.endswith(".") or tokens[n + 1].text.startswith(".")):
            words.append(token)
    return words


def _local(tokens: list[Token], *, with_domain: bool) -> str:
    if not tokens:
        raise _Fault("expected a mail address, found nothing before the @")
    words = _words(tokens) if with_domain else tokens
    if any(token.kind not in ("atom", "quoted") for token in words):
        raise _Fault("expected a mail address, found blanks or signs before the @ that need quotes")
    return "".join(token.text for token in words)


def _domain(tokens: list[Token]) -> str:
    words = _words(tokens)
    if len(words) == 1 and words[0].kind == "literal":
        return _literal(words[0].text)
    if any(token.kind != "atom" for token in words):
        raise _Fault("expected a host name behind the @, found something else")
    return ascii_host("".join(token.text for token in words).removesuffix("."))


def _literal(text: str) -> str:
    """RFC 5321 4.1.3."""
    inside = text[1:-1]
    try:
        ipaddress.ip_address(inside[5:] if inside[:5].lower() == "ipv6:" else inside)
    except ValueError:
        raise _Fault("expected an IP address in the brackets behind the @, found something else") from None
    return text


def ascii_host(name: str) -> str:
    """A host name as in DNS.

    :raises ValueError: if it is no host name.
    """
    if not name.isascii():
        import idna  # loading its tables takes 0.1 s

        try:
            # IDNA 2008 (RFC 5891): with IDNA 2003, a sharp s would lead to another domain.
            name = idna.encode(name, uts46=True).decode("ascii")
        except (idna.IDNAError, UnicodeError):
            name = ""
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise _Fault("expected a host name behind the @, found something else")
    return name
