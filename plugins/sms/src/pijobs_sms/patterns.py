"""Searches strangers' answers by an admin's patterns, with RE2, which needs linear time.

Python's own engine would take very long for ``(a+)+$`` and an answer of forty letters. RE2 supports neither
backreferences nor look-around.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

#: Most bytes of a compiled pattern; a search takes as much.
_MEMORY = 1024 * 1024


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> Any:
    import re2  # takes 3 MB; only gateways with patterns need it

    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MEMORY
    return re2.compile(pattern, options=options)


def pattern_fault(pattern: str) -> str | None:
    """Why a pattern can't be used; None if it can."""
    import re2

    try:
        _compiled(pattern)
    except (re2.error, UnicodeError) as error:
        words = error.args[0] if error.args else "unknown"
        words = words.decode("utf-8", "replace") if isinstance(words, bytes) else str(words)
        return f"expected a regular expression as RE2 knows them, found one with a fault: {words[:80]}"
    return None


def found(pattern: str, text: str) -> str | None:
    """The first match of a pattern, or its group if it has one; None: no match.

    :param pattern: a pattern without a :func:`pattern_fault`.
    """
    match = _compiled(pattern).search(text)
    if match is None:
        return None
    return str(next((group for group in match.groups() if group is not None), match[0]))
