"""Which part of privacyIDEA sends a mail: a token its OTP, or somebody else a notice.

The call of privacyIDEA's mail job does not tell. The server alone does not either: most installations have one for
OTPs and notices. So the callers are looked at, by the names of their modules, which are the same from 3.11 on. A caller
that is not known leaves the decision to the server.
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
#: Callers that are looked at; privacyIDEA's decorators take some of them.
_DEPTH = 60


@dataclass(frozen=True, slots=True)
class Origin:
    """Who sends.

    :ivar validity: the name of the setting that says how long its OTP is valid.
    :ivar serial: of the token; None if it could not be read.
    :ivar type: likewise.
    """

    kind: Literal["otp", "notice", "unknown"]
    validity: str = "email.validtime"
    serial: str | None = None
    type: str | None = None


def origin() -> Origin:
    """Of the mail that is being enqueued, by the callers of this function."""
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
    except Exception:  # a function of the module that has no token, or a release that keeps it elsewhere
        return None, None
