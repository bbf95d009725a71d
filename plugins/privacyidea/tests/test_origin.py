"""An OTP is told from a notice by who sends it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pijobs.settings import Settings
from pijobs_privacyidea import definitions, mail
from pijobs_privacyidea.origin import Origin, origin
from pijobs_privacyidea.settings import OTP_SERVERS

TOKEN = SimpleNamespace(token=SimpleNamespace(serial="PIEM0001"))


def called_from(module: str, function: Any = origin, self: Any = TOKEN) -> Any:
    """What a function gives that a method in this module calls, through another one."""
    scope: dict[str, Any] = {"__name__": module, "function": lambda: function()}
    exec("def method(self):\n    return function()\n", scope)
    return scope["method"](self)


@pytest.mark.parametrize(
    ("module", "found"),
    [
        ("privacyidea.lib.tokens.emailtoken", Origin("otp", "email.validtime", "PIEM0001")),
        ("privacyidea.lib.tokens.smstoken", Origin("otp", "sms.validtime", "PIEM0001")),
        ("privacyidea.lib.eventhandler.usernotification", Origin("notice")),
        ("privacyidea.lib.passwordreset", Origin("notice")),
        ("privacyidea.api.register", Origin("notice")),
        ("somebody.else", Origin("unknown")),
    ],
)
def test_the_caller_tells(module: str, found: Origin) -> None:
    assert called_from(module) == found


def test_the_nearest_caller_counts() -> None:
    """An event handler sends its notice while a token is checked."""
    inner = lambda: called_from("privacyidea.lib.eventhandler.usernotification")  # noqa: E731
    assert called_from("privacyidea.lib.tokens.emailtoken", inner).kind == "notice"


def test_a_token_that_can_not_be_read_is_one_all_the_same() -> None:
    assert called_from("privacyidea.lib.tokens.emailtoken", self=None) == Origin("otp")


@pytest.mark.parametrize(
    ("module", "server", "options"),
    [
        ("privacyidea.lib.tokens.emailtoken", "any", {"expires": 60.0, "key": "otp of PIEM0001"}),
        ("privacyidea.lib.eventhandler.usernotification", "otp", {}),
        ("privacyidea.lib.eventhandler.usernotification", "named", {"expires": 60.0}),
        ("somebody.else", "otp", {"expires": 60.0}),
        ("somebody.else", "any", {}),
    ],
)
def test_an_otp_expires_by_itself_and_a_notice_by_its_server_alone(
    monkeypatch: pytest.MonkeyPatch, module: str, server: str, options: dict[str, Any]
) -> None:
    monkeypatch.setattr(definitions, "otp_server", lambda: "otp")
    monkeypatch.setattr(definitions, "configured_seconds", lambda name, default: 60.0)
    settings = Settings({OTP_SERVERS.name: ["named"]}, [OTP_SERVERS])
    assert called_from(module, lambda: mail._options(settings, server, origin())) == options
