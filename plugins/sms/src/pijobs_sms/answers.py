"""Decodes the answer of an HTTP gateway, and judges it."""

from __future__ import annotations

import codecs
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from email.message import Message
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import Any

from pijobs.base import clock
from pijobs.base.foreign import cut
from pijobs_sms.errors import AccountRefused, GatewayDown, GatewayRefused, MaybeSent
from pijobs_sms.patterns import found

#: Most bytes of an answer that are read, both packed and unpacked.
MAX_ANSWER = 64 * 1024
#: Most values of a JSON answer that are examined.
MAX_TEXTS = 200
#: Longest wait that a gateway may ask for (seconds).
MAX_RETRY_AFTER = 3600

# They say more than the label (WHATWG Encoding, 6.1). The longer ones first: that of UTF-32 begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be"), (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"),
)  # fmt: skip
# What Python calls by other names, and what nobody writes texts in.
_ALIASES = {"x-sjis": "cp932", "ks_c_5601-1987": "cp949", "macintosh": "mac-roman", "x-gbk": "gbk"}
_NO_CHARSETS = frozenset({"punycode", "idna", "undefined", "unicode_escape", "raw_unicode_escape", "mbcs", "oem"})
# An XML or HTML document tells its charset by itself, where nobody else does.
_DECLARED = re.compile(rb"(?:<\?xml[^>]*\bencoding|<meta[^>]*\bcharset)\s*=\s*[\"']?([\w.:-]{1,40})", re.IGNORECASE)
# Codings that we cannot undo. What else stands there ("utf-8", "none") is none.
_CODINGS = frozenset({"br", "zstd", "compress", "x-compress", "dcb", "dcz"})
_STEP = re.compile(r"[^.\[\]\s]+")


@dataclass(frozen=True)
class Answer:
    """The answer of a gateway.

    :ivar text: begin of the text.
    :ivar readable: whether the text represents all bytes.
    """

    status: int
    text: str = ""
    readable: bool = True
    retry_after: float | None = None

    @classmethod
    def of(cls, status: int, headers: Mapping[str, str], content: bytes) -> Answer:
        """
        :param headers: names may have any case.
        :param content: the bytes as sent; reads at most :data:`MAX_ANSWER`.
        """
        wait = retry_after(headers.get("Retry-After"))
        try:
            content = _unpacked(content[:MAX_ANSWER], headers.get("Content-Encoding", ""))
        except (LookupError, zlib.error):
            return cls(status, readable=False, retry_after=wait)
        text, readable = _decoded(content, headers.get("Content-Type", ""))
        return cls(status, text, readable and len(content) < MAX_ANSWER, wait)

    def judged(self, gateway: Mapping[str, Any]) -> str:
        """The gateway's confirmation that it accepted the SMS.

        :param gateway: the definition of the gateway.
        :raises SmsError: if it did not accept it.
        """
        quoted = f"{self.status} {self.text[:200]}".strip()
        success, failure, busy = gateway["success"], gateway["failure"], gateway["busy"]
        if self.status < 500 and busy and found(busy, self.text) is not None:
            raise GatewayDown(f"the gateway wants us to slow down: {quoted}", retry_after=self.retry_after)
        self._judge_status(quoted)
        texts, path = [self.text], gateway["json_path"]
        if path:
            texts = list(islice(texts_at(path, self._json(quoted)), MAX_TEXTS))
        if failure and any(found(failure, text) is not None for text in texts):
            raise AccountRefused(f"the answer matches the pattern of failures: {quoted}")
        matches = [found(success, text) for text in texts] if success else []
        if matches and None not in matches:
            # Keep only the part that the pattern finds: gateways repeat numbers, texts and keys.
            return " ".join([str(self.status), *filter(None, matches)])[:200]
        if not self.readable and (success or failure):
            raise MaybeSent(f"the answer can't be read: {quoted}")
        if not texts:
            raise AccountRefused(f"the answer has nothing at {path}: {quoted}", maybe_sent=True)
        if success:
            raise AccountRefused(f"the answer does not match the pattern of successes: {quoted}", maybe_sent=True)
        return quoted

    def texts_at(self, path: str) -> list[str]:
        """The values at a path, if the answer is JSON."""
        try:
            return list(texts_at(path, json.loads(self.text)))
        except (ValueError, RecursionError):
            return []

    def _judge_status(self, quoted: str) -> None:
        status = self.status
        if status == 429:
            raise GatewayDown(f"the gateway wants us to slow down: {quoted}", retry_after=self.retry_after)
        if status >= 500 or status == 408:
            # 503 concerns the gateway; after 504 the result is unknown; others may concern this SMS.
            raise GatewayDown(
                f"the gateway failed: {quoted}",
                retry_after=self.retry_after,
                counted=status != 503,
                maybe_sent=status == 504,
            )
        if status in (401, 402, 403, 407) or status < 200 or 300 <= status < 400:
            raise AccountRefused(f"the gateway takes nothing from us: {quoted}")
        if status >= 400:
            raise GatewayRefused(f"the gateway refused: {quoted}")

    def _json(self, quoted: str) -> Any:
        try:
            return json.loads(self.text)
        except (ValueError, RecursionError):
            raise MaybeSent(f"the answer can't be read, it is no JSON: {quoted}") from None


def _unpacked(content: bytes, encodings: str) -> bytes:
    """:raises LookupError: for an unknown Content-Encoding (RFC 9110, 8.4)."""
    for encoding in reversed(encodings.lower().replace(" ", "").split(",")):
        if encoding in ("gzip", "x-gzip"):
            content = zlib.decompressobj(wbits=31).decompress(content, MAX_ANSWER)
        elif encoding == "deflate":
            # Some servers omit the wrapper that the RFC requires.
            wrapped = content[:1] and content[0] & 0x0F == 8
            content = zlib.decompressobj(wbits=15 if wrapped else -15).decompress(content, MAX_ANSWER)
        elif encoding in _CODINGS:
            raise LookupError(encoding)
    return content


def _decoded(content: bytes, content_type: str) -> tuple[str, bool]:
    """The text, and whether it represents all bytes."""
    for mark, charset in _MARKS:
        if content.startswith(mark):
            return _as(charset, content[len(mark) :])
    header = Message()
    header["Content-Type"] = content_type.encode("ascii", "replace").decode()
    charset = str(header.get_param("charset") or "")
    if not charset and (declared := _DECLARED.search(content[:1024])):
        charset = declared[1].decode("ascii")
    if known := _charset(charset):
        return _as(known, content)
    text, readable = _as("utf-8", content)
    if readable:
        return text, not charset or text.isascii()
    # Old gateways name no charset and send Latin-1, in which all bytes are characters.
    text, readable = _as("latin-1", content)
    return text, readable and not charset


def _charset(name: str) -> str:
    """Python's name of a charset; empty if unknown."""
    try:
        found = codecs.lookup(_ALIASES.get(name.lower(), name)).name
        b"text".decode(found, "replace")  # an empty text would not check the name
    except (LookupError, ValueError):  # no encoding of text, or a NUL in the name
        return ""
    return "" if found.replace("-", "_") in _NO_CHARSETS else found


def _as(charset: str, content: bytes) -> tuple[str, bool]:
    decoder = codecs.getincrementaldecoder(charset)
    readable = True
    try:
        # Not final: the cut may be within a character.
        text = decoder().decode(content)
    except UnicodeError:
        text, readable = content.decode(charset, "replace"), False
    # RE2 refuses half of a surrogate pair, which UTF-7 can encode.
    return text.encode("utf-8", "replace").decode(), readable and "\0" not in text


def path_fault(path: str) -> str | None:
    """Why a text is no path such as ``messages.0.status``; None if it is one."""
    if re.sub(r"\[(\d+|\*)\]", r".\1", path).strip(".") and not re.search(r"[\s\"'$?@()]", path):
        return None
    return "expected names and places such as messages.0.status or messages.*.status, found something else"


def texts_at(path: str, value: Any) -> Iterator[str]:
    """The values at a path of names, list indexes from 0, and ``*`` for all; JSON for values that are no texts."""
    found = [value]
    for step in _STEP.findall(path):
        found = [inner for outer in found for inner in _step(outer, step)]
    for one in found:
        if one is not None:
            text = one if isinstance(one, str) else json.dumps(one)
            # JSON can contain half of a surrogate pair, which neither RE2 nor a database accepts.
            yield text.encode("utf-8", "replace").decode()


def _step(value: Any, step: str) -> list[Any]:
    if isinstance(value, list):
        if step == "*":
            return value
        return [value[int(step)]] if re.fullmatch(r"\d{1,6}", step) and int(step) < len(value) else []
    if isinstance(value, dict):
        return list(value.values()) if step == "*" else [value[step]] if step in value else []
    return []


def retry_after(value: str | None) -> float | None:
    """Seconds of a ``Retry-After`` (RFC 9110, 10.2.3), a number or a date; None for anything else."""
    if value is None:
        return None
    value = cut(value, 64).strip()
    try:
        if re.fullmatch(r"\d{1,9}", value):
            return min(float(value), MAX_RETRY_AFTER)
        then, now = parsedate_to_datetime(value), datetime.fromtimestamp(clock.time(), timezone.utc)
        then = then if then.tzinfo else then.replace(tzinfo=timezone.utc)
        return min(max(0.0, (then - now).total_seconds()), MAX_RETRY_AFTER)
    except (ValueError, TypeError, ArithmeticError, LookupError):  # errors of the standard library for an invalid date
        return None
