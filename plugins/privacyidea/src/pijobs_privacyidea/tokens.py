"""Whose OTP a job carries: the serial of the token goes with it, and its owner is looked up where he is needed."""

from __future__ import annotations

import re
from typing import Any

_LABELLED = re.compile(r", token (\S+)$")


def labelled(label: str, serial: str | None) -> str:
    """A job's label, with the token that the message is of."""
    return label if serial is None else f"{label}, token {serial}"


def serial_in(label: str | None) -> str | None:
    """The token that :func:`labelled` named."""
    found = _LABELLED.search(label or "")
    return None if found is None else found[1]


def token_of(serial: str) -> Any:
    """privacyIDEA's token, or None. Needs its app context."""
    from privacyidea.lib.token import get_tokens

    return next(iter(get_tokens(serial=serial)), None)


def owner_of(serial: str) -> Any:
    """privacyIDEA's user, or None."""
    token = token_of(serial)
    return None if token is None else token.user
