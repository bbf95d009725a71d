"""Finds out which part of privacyIDEA sends a mail: a token (an OTP), or another part (a notice).

The call of privacyIDEA's mail job does not contain this, and the server does not show it: most installations use one
server for OTPs and notices. So this module checks the callers by the names of their modules, which are the same from
3.11 on. For unknown callers, the server decides.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, Literal

#: Modules of tokens that send an OTP by mail, and the setting with its validity in seconds.
_TOKENS = {
    "privacyidea.lib.tokens.emailtoken": "email.validtime",
    # A gateway that sends SMS by mail.
    "privacyidea.lib.tokens.smstoken": "sms.validtime",
}
_NOTICES = (
    "privacyidea.lib.eventhandler.",
    "privacyidea.lib.conditional_access.",
    "privacyidea.lib.passwordreset",
    "privacyidea.api.register",
)
#: How many callers are checked; privacyIDEA's decorators are some of them.
_DEPTH = 60


@dataclass(frozen=True, slots=True)
class Origin:
    """The sender of a mail.

    :ivar validity: the name of the setting that says how long its OTP is valid.
    :ivar serial: of the token; None if it could not be read.
    :ivar type: likewise.
    """

    kind: Literal["otp", "notice", "unknown"]
    validity: str = "email.validtime"
    serial: str | None = None
    type: str | None = None


def origin() -> Origin:
    """The origin of the mail that is being enqueued, from the callers of this function."""
    frame: Any = sys._getframe(1)
    for _ in range(_DEPTH):
        if frame is None:
            break
        module = str(frame.f_globals.get("__name__"))
        if module in _TOKENS:
            return Origin("otp", _TOKENS[module], *_token(frame.f_locals.get("self")))
        if module.startswith(_NOTICES):
            return Origin("notice")
        frame = frame.f_back
    return Origin("unknown")


def _token(token: Any) -> tuple[str | None, str | None]:
    """Serial and type."""
    try:
        return str(token.token.serial) or None, getattr(token, "type", None)
    except Exception:  # a function without a token, or a release that stores it elsewhere
        return None, None
