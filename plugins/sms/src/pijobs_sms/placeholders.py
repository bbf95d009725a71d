"""``{phone}``, ``{otp}`` and their like in what an admin writes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping


def fill(template: str, values: Mapping[str, str], quote: Callable[[str], str] = str) -> str:
    """The template with the values; other braces stay as they are, and values are not looked into.

    :param quote: makes a value fit its place, such as a URL.
    """
    names = "|".join(map(re.escape, values))
    return re.sub(rf"\{{({names})\}}", lambda match: quote(values[match[1]]), template)
