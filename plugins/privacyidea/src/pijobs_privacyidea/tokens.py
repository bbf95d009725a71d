"""The token whose OTP a job contains. The job has the token's serial; its owner is looked up when needed.

A job's label for people: ``mail to a***@example.com, token PIEM1 (realm demo, type email, by vpn)``. The part in
brackets is only there if statistics count it.
"""

from __future__ import annotations

import re
from dataclasses import astuple, dataclass
from typing import Any

import flask

NONE = "none"
#: What a second message records about the first one if it is not needed.
FIRST_ARRIVED = "arrived"
_LABELLED = re.compile(r", token (\S+)(?: \(.*\))?$")
_CIRCUMSTANCES = re.compile(r" \(realm (\S+), type (\S+), by (\S+)\)$")


@dataclass(frozen=True)
class Circumstances:
    """The tags of a login or message in statistics. Each has few values, without blanks."""

    realm: str = NONE
    token_type: str = NONE
    application: str = NONE


def labelled(label: str, serial: str | None, about: Circumstances | None = None) -> str:
    """A job's label, with the token of the message, and its circumstances."""
    token = "" if serial is None else f", token {serial}"
    return f"{label}{token}" + (" (realm {}, type {}, by {})".format(*astuple(about)) if about else "")


def serial_in(label: str | None) -> str | None:
    """The token in a label of :func:`labelled`."""
    found = _LABELLED.search(label or "")
    return None if found is None else found[1]


def circumstances_in(label: str | None) -> Circumstances:
    """The circumstances in a label of :func:`labelled`."""
    found = _CIRCUMSTANCES.search(label or "")
    return Circumstances() if found is None else Circumstances(*found.groups())


def login_for(serial: str | None) -> str | None:
    """The login name of a message's user: the user of the request, else the owner of the token. None if both are
    unknown."""
    user = getattr(flask.request, "User", None) if flask.has_request_context() else None
    login = getattr(user, "login", None)
    if not login and serial is not None:
        login = getattr(owner_of(serial), "login", None)
    return login or None


def token_of(serial: str) -> Any:
    """privacyIDEA's token, or None. Needs its app context."""
    from privacyidea.lib.token import get_tokens

    return next(iter(get_tokens(serial=serial)), None)


def owner_of(serial: str) -> Any:
    """privacyIDEA's user, or None."""
    token = token_of(serial)
    return None if token is None else token.user
