"""What a function takes of the processor, and texts of strangers that make slow functions slow."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from functools import partial

_SIZE = 2 * 1024 * 1024


def _repeated(unit: str, end: str = "") -> str:
    return unit * (_SIZE // len(unit)) + end


#: 2 MB each.
NASTY = {
    name: _repeated(unit, end)
    for name, (unit, end) in {
        "words": ("too many ", ""),
        "letters": ("a", ""),
        "digits": ("1", "x"),
        "digits and blanks": ("1 ", "x"),
        "slashes": ("/", " a@b"),
        "dots": ("a.", "@"),
        "at signs": ("a@", ""),
        "at signs and brackets": ("@[", ""),
        "colons behind a scheme": ("://:", " a@b"),
        "colons": (":", "@"),
        "quotes": ('"', ""),
        "quoted words": ('"a', " @"),
        "pipelines": ("Command # 1 (", ""),
        "ends of pipelines": ("Command # 1 () of pipeline", ""),
        "statements": ("[SQL: ", ""),
        "passwords": ("password=", ""),
        "percent signs": ("%25", ""),
        "percent": ("%", ""),
        "ampersands": ("&amp;", ""),
        "ampersand": ("&#", ""),
        "backslashes": ("\\", "u"),
        "escapes": ("\\u005c", ""),
        "equal signs": ("=3D", ""),
        "Base64": ("QUJD", "="),
        "hexadecimal digits": ("3132", ""),
        "line breaks": ("\r\n", ""),
        "blanks": (" ", "x"),
        "brackets": ("[{", ""),
        "NUL": ("\0", ""),
        "beyond ASCII": ("ß€😀", ""),
        "half pairs": ("\ud800", ""),
        "separators": ("\u2028", ""),
        "encoded words": ("=?utf-8?q?=0D=0A?=", ""),
        "parentheses": ("(", ""),
        "angle brackets": ("<", ">"),
        "commas": ("a@b,", ""),
        "hyphens": ("a-", ""),
        "dates": ("2026-11-23 ", ""),
        "periodic ids": ("a.b@1700000000000 ", ""),
    }.items()
}


_WORDS = re.compile(r"\w+")


def costs_little(call: Callable[[], object], passes: int = 1) -> bool:
    """Whether it takes less of the processor than so many plain passes over 2 MB, a search for words, take beside it.

    Side by side, since machines differ; of each the least of some tries, since other work only adds to it.
    """
    taken = _seconds_of(call)
    if taken < 0.02:
        return True
    one_pass = float("inf")
    for _ in range(4):
        one_pass = min(one_pass, _seconds_of(partial(_WORDS.sub, "", NASTY["words"])))
        taken = min(taken, _seconds_of(call))
        if taken < passes * one_pass:
            return True
    return False


def _seconds_of(call: Callable[[], object]) -> float:
    """Of processor time, of this thread alone."""
    began = time.thread_time()
    call()
    return time.thread_time() - began
