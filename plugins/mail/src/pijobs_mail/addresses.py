"""Mail addresses as people write them: RFC 5322 3.4, and what mail programs and address books make of it.

What sending in the request takes is taken here, too. An address is refused only if no server could be given it: the
server judges the rest. Nothing here can become a second command or header: control characters are refused, and an
address in an SMTP command holds neither blanks nor angle brackets outside of quotes.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pijobs_mail.errors import MessageError

#: Octets of an address in an SMTP command (RFC 5321 4.5.3.1.3).
LONGEST = 254
#: Characters of one text with addresses, before anything looks at it.
LONGEST_TEXT = 64 * 1024

_SIMPLE = re.compile(r"([A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+)@([A-Za-z0-9][A-Za-z0-9-]*(?:\.[A-Za-z0-9][A-Za-z0-9-]*)+)")
_FOLD = re.compile(r"\r?\n[ \t]+")
_CONTROL = re.compile("[\0-\x08\n-\x1f\x7f-\x9f\u2028\u2029]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_TOKEN = re.compile(
    r"""(?P<blank>[ \t\u00a0]+)|(?P<quoted>"(?:[^"\\]|\\.)*")|(?P<literal>\[[^\[\]\\]*\])"""
    r"""|(?P<atom>[^\s()<>@,;:"\[\]\\]+)|(?P<special>[<>@,;:])"""
)
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")


@dataclass(frozen=True, slots=True)
class Mailbox:
    """One address, with the name that is shown for it.

    :ivar local: the part before the @, in its quotes if it needs them.
    :ivar domain: a host name in ASCII (IDNA 2008), or an address literal; empty where the server completes it.
    """

    name: str = field(repr=False)
    local: str = field(repr=False)
    domain: str

    @property
    def spec(self) -> str:
        """The address alone, as SMTP commands have it. Empty: the null reverse path (RFC 5321 4.5.5)."""
        return f"{self.local}@{self.domain}" if self.domain else self.local

    @property
    def written(self) -> str:
        """Name and address, as :func:`parse` reads them."""
        quoted = re.sub(r'(["\\])', r"\\\1", self.name)
        return f'"{quoted}" <{self.spec}>' if self.name else self.spec


NOBODY = Mailbox("", "", "")


@dataclass(frozen=True, slots=True)
class Addresses:
    """What a text with addresses holds.

    :ivar faults: one sentence for each entry that is no address; they do not quote it.
    """

    mailboxes: tuple[Mailbox, ...]
    faults: tuple[str, ...] = ()


def parse(text: str) -> Addresses:
    """All addresses of a text. Groups are taken apart, empty entries are passed over.

    Entries are separated by commas or semicolons. In ``Smith, Jane <jane@example.com>`` the comma belongs to the name:
    words without an @ go with the address in angle brackets that follows them. So an address without a domain stands
    in a text of its own, or in angle brackets.
    """
    if not isinstance(text, str):
        return Addresses((), (f"expected text, found {type(text).__name__}",))
    if (match := _SIMPLE.fullmatch(text)) and len(text) <= LONGEST:
        return Addresses((Mailbox("", match[1], match[2]),))
    found: list[Mailbox] = []
    faults: list[str] = []
    try:
        for entry in _with_their_names(_entries(_tokens(_one_line(text)))):
            try:
                found.append(_mailbox_of(entry))
            except _Fault as fault:
                faults.append(str(fault))
    except _Fault as fault:  # nobody can tell where one entry ends and the next begins
        return Addresses((), (str(fault),))
    return Addresses(tuple(found), tuple(faults))


def mailbox(text: str, name: str) -> Mailbox:
    """The one address of a text. Commas before the angle brackets belong to the name.

    :param name: of the argument, for the error, which never quotes the address.
    :raises MessageError: for none, several, or one that can't be.
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
    """The addresses of several texts, each once, and what is wrong with the other entries.

    :param name: of the argument; a fault begins with it, the place in the list, and the masked entry.
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
    """what is wrong, in words that quote nothing"""


@dataclass(slots=True)
class _Token:
    kind: str
    text: str

    def is_(self, *specials: str) -> bool:
        return self.kind == "special" and self.text in specials

    @property
    def counts(self) -> bool:
        return self.kind not in ("blank", "comment")


_Entry = list[_Token]


def _one_line(text: str) -> str:
    text = _FOLD.sub(" ", text.strip())
    if len(text) > LONGEST_TEXT:
        raise _Fault(f"expected at most {LONGEST_TEXT} characters, found {len(text)}")
    if _CONTROL.search(text):
        raise _Fault("expected one line, found a line break or control character in it")
    if _SURROGATE.search(text):
        raise _Fault("expected text that UTF-8 can encode, found a lone surrogate")
    return text


def _tokens(text: str) -> Iterator[_Token]:
    place = 0
    while place < len(text):
        if text[place] == "(":
            end = _end_of_comment(text, place)
            yield _Token("comment", text[place + 1 : end - 1])
            place = end
        elif match := _TOKEN.match(text, place):
            yield _Token(str(match.lastgroup), match[0])
            place = match.end()
        else:
            raise _Fault("expected mail addresses, found a quote, bracket or backslash that has no place in one")


def _end_of_comment(text: str, start: int) -> int:
    depth, place = 0, start
    while place < len(text):
        if text[place] == "\\":
            place += 1
        elif text[place] == "(":
            depth += 1
        elif text[place] == ")":
            depth -= 1
            if not depth:
                return place + 1
        place += 1
    raise _Fault("expected mail addresses, found a comment that does not end")


def _entries(tokens: Iterator[_Token]) -> Iterator[_Entry]:
    """What stands between separators. The name of a group goes, its members stay (RFC 5322 3.4)."""
    entry: _Entry = []
    in_brackets = False
    for token in tokens:
        if token.is_("<", ">"):
            in_brackets = token.text == "<"
        if token.is_(",", ";") and not in_brackets:
            yield entry
            entry = []
        elif token.is_(":") and not in_brackets and _is_phrase(entry):
            entry = []
        else:
            entry.append(token)
    yield entry


def _is_phrase(entry: _Entry) -> bool:
    return any(token.counts for token in entry) and all(token.kind not in ("special", "literal") for token in entry)


def _with_their_names(entries: Iterator[_Entry]) -> Iterator[_Entry]:
    """Joins what a comma in a name took apart; drops empty entries."""
    waiting: list[_Entry] = []
    for entry in entries:
        if any(token.is_("<") for token in entry):
            name = [token for part in waiting for token in (*part, _Token("special", ","))]
            yield name + entry
            waiting = []
        elif _is_phrase(entry):
            waiting.append(entry)
        elif any(token.counts for token in entry):
            yield from waiting
            waiting = []
            yield entry
    yield from waiting


def _mailbox_of(entry: _Entry) -> Mailbox:
    start = next((n for n, token in enumerate(entry) if token.is_("<")), None)
    if start is None:
        comments = [token.text.strip() for token in entry if token.kind == "comment"]
        return _checked(comments[0] if comments else "", entry)
    end = next((n for n, token in enumerate(entry) if token.is_(">")), len(entry))
    if end < start or any(token.counts for token in entry[end + 1 :]):
        raise _Fault("expected an address in one pair of angle brackets at the end, found something else")
    if end == len(entry):
        raise _Fault("expected a closing angle bracket, found none")
    inside = entry[start + 1 : end]
    # A route, which RFC 5321 4.1.2 tells everybody to ignore.
    if (colon := next((n for n, token in enumerate(inside) if token.is_(":")), None)) is not None and inside[0].is_(
        "@"
    ):
        inside = inside[colon + 1 :]
    return _checked(_shown(entry[:start]), inside)


def _shown(tokens: _Entry) -> str:
    words = [
        re.sub(r"\\(.)", r"\1", token.text[1:-1]) if token.kind == "quoted" else token.text
        for token in tokens
        if token.kind != "comment"
    ]
    return "".join(words).strip()


def _checked(name: str, tokens: _Entry) -> Mailbox:
    signs = [n for n, token in enumerate(tokens) if token.is_("@")]
    if len(signs) > 1:
        raise _Fault("expected one @ in a mail address, found several")
    at = signs[0] if signs else len(tokens)
    box = Mailbox(name, _local(_trimmed(tokens[:at])), _domain(_trimmed(tokens[at + 1 :])) if signs else "")
    if len(box.spec.encode()) > LONGEST:
        raise _Fault(f"expected a mail address of at most {LONGEST} octets, found {len(box.spec.encode())}")
    return box


def _trimmed(tokens: _Entry) -> _Entry:
    counting = [n for n, token in enumerate(tokens) if token.counts]
    return tokens[counting[0] : counting[-1] + 1] if counting else []


def _local(tokens: _Entry) -> str:
    if not tokens:
        raise _Fault("expected a mail address, found nothing before the @")
    if any(token.kind not in ("atom", "quoted") for token in tokens):
        raise _Fault("expected a mail address, found blanks or signs before the @ that need quotes")
    return "".join(token.text for token in tokens)


def _domain(tokens: _Entry) -> str:
    if len(tokens) != 1 or tokens[0].kind not in ("atom", "literal"):
        raise _Fault("expected a host name behind the @, found something else")
    text = tokens[0].text
    return _literal(text) if tokens[0].kind == "literal" else _host(text.removesuffix("."))


def _literal(text: str) -> str:
    """RFC 5321 4.1.3."""
    inside = text[1:-1]
    try:
        ipaddress.ip_address(inside[5:] if inside[:5].lower() == "ipv6:" else inside)
    except ValueError:
        raise _Fault("expected an IP address in the brackets behind the @, found something else") from None
    return text


def _host(name: str) -> str:
    if not name.isascii():
        import idna  # its tables take a tenth of a second

        try:
            # IDNA 2008 (RFC 5891): by that of 2003 a sharp s would lead to another domain.
            name = idna.encode(name, uts46=True).decode("ascii")
        except (idna.IDNAError, UnicodeError):
            name = ""
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise _Fault("expected a host name behind the @, found something else")
    return name
