"""Hostile inputs from a seed: texts, bytes and values that strangers, mistyped files and broken servers send."""

from __future__ import annotations

import json
import random
import string
from typing import Any

#: Stands in many inputs where a secret would stand; in no output of ours.
SECRET = "Sekret-7788-Hunter"

BAD_TEXTS = (
    "", " ", "\0", "\r\n", "\r\nX-Evil: 1\r\n\r\n", "\u2028", "\ud800", "\udfff\ud800", "\ufeff", "\u202e", "\x1b[31m",
    "%00", "%", "%0d%0a", "../../etc/passwd", "'", '"', "\\", "{", "}", "{phone}", "{{7*7}}", "${x}",
    "<script>alert(1)</script>",
    "' OR 1=1 --", "=?utf-8?q?=0D=0ABcc:_x@y?=", "=?utf-8?b?DQo=?=", "a" * 300, "(" * 80, "[" * 2000, "ü" * 200, "😀",
    "NaN", "Infinity", "-0", "1e999", "9" * 40, "null", "true", "__CENSORED__", "__proto__", "None", "a@b", "@",
    "<a@b>",
    '"a"@b', "a@[127.0.0.1]", "alice@example.com", "+491701234567", "https://u:p@h/", "http://[::1", "redis://:x@h:99999/0",
    "450 4.7.1 try in 99999999999 s", "250-", "535 5.7.8", "OK", "OK 4f1c2", '{"status": {"code": "0"}}', "<a/>",
    "Basic Og==",
)  # fmt: skip
_BYTES = bytes(range(256))
_LETTERS = string.printable + "üß€\u0130\u017f\u2028\u200b\u00ad"


class Inputs:
    """A stream of hostile values.

    :param seed: the same seed gives the same values.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def text(self) -> str:
        """Mostly short; now and then with the secret in it, or mutated."""
        pick = self.random.random()
        if pick < 0.45:
            found = self.random.choice(BAD_TEXTS)
        elif pick < 0.85:
            found = "".join(self.random.choices(_LETTERS, k=self.random.randrange(40)))
        else:
            found = "".join(self.random.choices(BAD_TEXTS, k=self.random.randrange(1, 5)))
        if self.random.random() < 0.02:
            found = (found or "x") * self.random.randrange(1, 3000)
        return found[:20_000]

    def octets(self) -> bytes:
        """Bytes, or a text in one of some charsets."""
        if self.random.random() < 0.4:
            return bytes(self.random.choices(_BYTES, k=self.random.randrange(200)))
        charset = self.random.choice(("utf-8", "latin-1", "utf-16", "ascii"))
        return self.text().encode(charset, "replace" if charset != "utf-8" else "surrogatepass")

    def mutated(self, data: bytes) -> bytes:
        """Some bytes changed, taken out, doubled or put in."""
        changed = bytearray(data)
        for _ in range(self.random.randrange(1, 4)):
            at = self.random.randrange(len(changed) + 1)
            act = self.random.randrange(4)
            if act == 0:
                changed[at : at + 1] = bytes([self.random.randrange(256)])
            elif act == 1:
                del changed[at : at + self.random.randrange(1, 9)]
            elif act == 2:
                changed[at:at] = changed[max(0, at - 8) : at]
            else:
                changed[at:at] = self.octets()[:20]
        return bytes(changed)

    def value(self, depth: int = 3) -> Any:
        """What JSON, a form or a ``pi.cfg`` may hold."""
        pick = self.random.randrange(12 if depth else 8)
        if pick < 4:
            return self.text()
        if pick < 8:
            return self.random.choice(
                (None, True, False, 0, -1, 2**63, 10**30, 0.5, float("nan"), float("inf"), "", ())
            )
        if pick < 10:
            return [self.value(depth - 1) for _ in range(self.random.randrange(4))]
        return {self.text()[:40]: self.value(depth - 1) for _ in range(self.random.randrange(4))}

    def fields(self, names: tuple[str, ...]) -> dict[str, Any]:
        """Some of the names, and now and then another one, with values."""
        chosen = self.random.sample(names, k=self.random.randrange(min(len(names), 6) + 1))
        if self.random.random() < 0.1:
            chosen.append(self.text()[:60])
        return {name: self.value() for name in chosen}

    def json(self) -> bytes:
        """JSON, or what looks like it."""
        if self.random.random() < 0.1:
            return self.random.choice((b"[" * 5000, b'{"a":' * 3000, b"{", b"\xff", b'"', b"1e9999", b'{"a": NaN}'))
        data = json.dumps(self.value()).encode("utf-8", "surrogatepass")
        return self.mutated(data) if self.random.random() < 0.3 else data
