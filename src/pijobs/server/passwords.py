"""Checks new passwords: long enough, and none that guessers try first (NIST SP 800-63B-4, 3.1.1.2).

``common_passwords.txt.gz`` has the first 20,000 leaked passwords of zxcvbn's frequency list (Daniel Wolf and Dropbox,
MIT), and all its passwords of 12 or more characters.
"""

from __future__ import annotations

import gzip
import re
import unicodedata
from functools import lru_cache
from importlib import resources

MIN_PASSWORD = 12  # characters
_ENDS = re.compile(r"^[\W\d_]+|[\W\d_]+$")
#: A short text, repeated.
_REPEATED = re.compile(r"(.{1,10}?)\1+.{0,5}", re.DOTALL)
_ROWS = (
    "abcdefghijklmnopqrstuvwxyz", "qwertyuiopasdfghjklzxcvbnm", "qwertzuiopasdfghjklyxcvbnm", "01234567890123456789",
)  # fmt: skip


def fault_of(password: str, name: str = "") -> str | None:
    """Why the password is refused, without quoting it; None if it is accepted.

    :param name: name of the account.
    """
    if len(password) < MIN_PASSWORD:
        return f"expected a password of at least {MIN_PASSWORD} characters, found {len(password)}"
    plain = unicodedata.normalize("NFKC", password).casefold()
    core = _ENDS.sub("", plain)
    common = _common()
    if plain in common or core in common:
        return "expected a password that is hard to guess, found one of the commonest, perhaps with digits around it"
    if len(set(plain)) < 5 or _REPEATED.fullmatch(plain) or any(plain in row or plain[::-1] in row for row in _ROWS):
        return "expected a password that is hard to guess, found a repetition or a row of keys"
    if len(name) >= 3 and core == _ENDS.sub("", name.casefold()):
        return "expected a password that is hard to guess, found the name of the account"
    return None


@lru_cache(maxsize=1)
def _common() -> frozenset[str]:
    packed = resources.files("pijobs.server").joinpath("common_passwords.txt.gz").read_bytes()
    return frozenset(gzip.decompress(packed).decode().split("\n")) - {""}
