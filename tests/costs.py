"""What a function takes of the processor, and texts of strangers that make slow functions slow."""

from __future__ import annotations

import time
from collections.abc import Callable

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


def seconds_of(call: Callable[[], object], tries: int = 3) -> float:
    """Of processor time, of this thread alone; the least of some tries, since a busy machine only adds to it."""
    least = float("inf")
    for _ in range(tries):
        began = time.thread_time()
        call()
        least = min(least, time.thread_time() - began)
        if least < 0.02:
            break
    return least
