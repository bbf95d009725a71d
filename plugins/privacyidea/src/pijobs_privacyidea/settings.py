"""The settings of this plugin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pijobs import Setting

OWN_CLASS = "pijobs_privacyidea.HueyQueue"
PREFIX = "PI_JOB_QUEUE_PRIVACYIDEA_"
ROLE_NAMES = ("viewer", "operator", "admin")


def _roles(value: Any) -> bool:
    return isinstance(value, dict) and all(
        role in ROLE_NAMES
        and isinstance(names, (list, tuple))
        and all(isinstance(name, str) and name.strip("@") for name in names)
        for role, names in value.items()
    )


def _channels(value: Any) -> bool:
    return isinstance(value, dict) and all(
        channel in ("mail", "sms") and isinstance(name, str) and name for channel, name in value.items()
    )


OTP_SERVERS: Setting[Sequence[str]] = Setting(
    name=PREFIX + "OTP_SERVERS",
    default=(),
    expected="a list of identifiers of SMTP servers",
    accepts=lambda value: isinstance(value, (list, tuple)) and all(isinstance(name, str) and name for name in value),
    help=(
        "SMTP servers all of whose mails expire after email.validtime, notices, too. The OTPs of tokens do so by"
        " themselves, whatever server they go by."
    ),
    example=["otp"],
)
ROLES: Setting[Mapping[str, Sequence[str]]] = Setting(
    name=PREFIX + "ROLES",
    default={},
    expected="a dictionary of roles (viewer, operator, admin), each with a list of 'name' (an administrator of"
    " pi-manage), 'name@realm' and '@realm'",
    accepts=_roles,
    help=(
        "What privacyIDEA's administrators may do in the pages of the queue: the highest role that names them."
        " Whom nothing names is a viewer."
    ),
    example={"admin": ["root"], "operator": ["alice@admins", "@operators"]},
)
SECOND_CHANNEL: Setting[Mapping[str, str]] = Setting(
    name=PREFIX + "SECOND_CHANNEL",
    default={},
    expected="a dictionary with the SMS gateway that follows 'mail' and the SMTP server that follows 'sms', or one",
    accepts=_channels,
    help=(
        "By what the OTP of a token goes that did not arrive within half of its validity, or was refused: an SMS to"
        " the mobile number of the token's owner, or a mail to his address."
    ),
    example={"mail": "gateway", "sms": "otp"},
)
SETTINGS = (OTP_SERVERS, ROLES, SECOND_CHANNEL)
