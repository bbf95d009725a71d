"""Patterns that an admin writes for answers that strangers send: searched by RE2, which never goes back in a text.

Python's own engine would take longer than anybody waits for ``(a+)+$`` and an answer of forty letters. RE2 knows no
backreferences and no look-around.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

#: Bytes that a compiled pattern may take; searching needs as much.
_MEMORY = 1024 * 1024


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> Any:
    import re2  # 3 MB, which only a gateway with patterns needs

    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MEMORY
    return re2.compile(pattern, options=options)


def pattern_fault(pattern: str) -> str | None:
    """None, or why it can't be used."""
    import re2

    try:
        _compiled(pattern)
    except (re2.error, UnicodeError) as error:
        words = error.args[0] if error.args else "unknown"
        words = words.decode("utf-8", "replace") if isinstance(words, bytes) else str(words)
        return f"expected a regular expression as RE2 knows them, found one with a fault: {words[:80]}"
    return None


def found(pattern: str, text: str) -> str | None:
    """What the pattern finds first: its group, if it has one; None: nothing.

    :param pattern: one without a :func:`pattern_fault`.
    """
    match = _compiled(pattern).search(text)
    if match is None:
        return None
    return str(next((group for group in match.groups() if group is not None), match[0]))
