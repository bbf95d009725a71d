"""Fills ``{phone}``, ``{otp}`` and other placeholders in an admin's template."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping


def fill(template: str, values: Mapping[str, str], quote: Callable[[str], str] = str) -> str:
    """Fill in the values. Other braces stay as they are, also those in values.

    :param quote: quotes a value for its place, such as a URL.
    """
    names = "|".join(map(re.escape, values))
    return re.sub(rf"\{{({names})\}}", lambda match: quote(values[match[1]]), template)
