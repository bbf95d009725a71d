"""The settings of this plugin."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from pijobs import Setting, crontab

OWN_CLASS = "pijobs_privacyidea.HueyQueue"
PREFIX = "PI_JOB_QUEUE_PRIVACYIDEA_"
#: Commands of privacyIDEA that may run at certain times.
PROGRAMS = [
    ["pi-manage"], ["privacyidea-token-janitor"], ["pi-tokenjanitor"], ["privacyidea-cron"],
    ["privacyidea-usercache-cleanup"], ["privacyidea-expired-users"], ["privacyidea-get-unused-tokens"],
]  # fmt: skip
ROLE_NAMES = ("helpdesk", "viewer", "operator", "admin")


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


def _commands(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(name, str) and re.fullmatch("[a-z0-9_]{1,40}", name) and _command(given)
        for name, given in value.items()
    )


def _applications(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(name, str)
        and re.fullmatch("[a-z0-9_-]{1,40}", name)
        and isinstance(marks, (list, tuple))
        and all(isinstance(mark, str) and mark for mark in marks)
        for name, marks in value.items()
    )


def _command(given: Any) -> bool:
    if not (isinstance(given, (list, tuple)) and len(given) == 2 and all(isinstance(text, str) for text in given)):
        return False
    try:
        at(given[0])
        return shlex.split(given[1])[:1] in PROGRAMS
    except ValueError:
        return False


def at(when: str) -> Callable[[datetime], bool]:
    """The schedule of a crontab's five fields.

    :raises ValueError: if it is invalid.
    """
    minute, hour, day, month, day_of_week = when.split()
    return crontab(minute, hour, day, month, day_of_week, strict=True)


OTP_SERVERS: Setting[Sequence[str]] = Setting(
    name=PREFIX + "OTP_SERVERS",
    default=(),
    expected="a list of identifiers of SMTP servers",
    accepts=lambda value: isinstance(value, (list, tuple)) and all(isinstance(name, str) and name for name in value),
    help=(
        "SMTP servers whose mails all expire after email.validtime, including notices. The OTPs of tokens expire in"
        " any case, with any server."
    ),
    example=["otp"],
)
ROLES: Setting[Mapping[str, Sequence[str]]] = Setting(
    name=PREFIX + "ROLES",
    default={},
    expected="a dictionary of roles (helpdesk, viewer, operator, admin), each with a list of 'name' (an"
    " administrator of pi-manage), 'name@realm' and '@realm'",
    accepts=_roles,
    help=(
        "What privacyIDEA's administrators may do in the pages of the queue: the highest role that names them."
        " An administrator whom no role names is a viewer."
    ),
    example={"admin": ["root"], "operator": ["alice@admins", "@operators"]},
)
SECOND_CHANNEL: Setting[Mapping[str, str]] = Setting(
    name=PREFIX + "SECOND_CHANNEL",
    default={},
    expected="a dictionary with an SMS gateway for 'mail', an SMTP server for 'sms', or both",
    accepts=_channels,
    help=(
        "The second channel for the OTP of a token that was refused, or was not sent within half of its validity: an"
        " SMS to the mobile number of the token's owner, or a mail to the owner's address."
    ),
    example={"mail": "gateway", "sms": "otp"},
)
TASKS: Setting[bool] = Setting(
    name=PREFIX + "TASKS",
    default=False,
    expected="True or False",
    accepts=lambda value: isinstance(value, bool),
    help=(
        "Workers run the periodic tasks that administrators define in privacyIDEA, once for all nodes. Remove"
        " privacyidea-cron from the crontab then."
    ),
)
COMMANDS: Setting[Mapping[str, Sequence[str]]] = Setting(
    name=PREFIX + "COMMANDS",
    default={},
    expected="a dictionary of names in lower case, each with a pair: a crontab's five fields, and a command of"
    " privacyIDEA, such as pi-manage or privacyidea-token-janitor",
    accepts=_commands,
    help=(
        "Commands of privacyIDEA, usually clean-ups, that a worker runs at certain times (UTC), once for all nodes."
        " {today} in a command is the date."
    ),
    example={"audit_rotate": ("20 2 * * *", "pi-manage audit rotate --age 180")},
)
SCRIPTS: Setting[str] = Setting(
    name=PREFIX + "SCRIPTS",
    default="",
    expected="an absolute path",
    accepts=lambda value: isinstance(value, str) and (not value or value.startswith("/")),
    help=(
        "Folder of the real scripts that privacyIDEA's event handlers queue, in addition to"
        " PI_SCRIPT_HANDLER_DIRECTORY; see 'pijobs privacyidea queue-script'."
    ),
    example="/etc/privacyidea/queued-scripts",
)
APPLICATIONS: Setting[Mapping[str, Sequence[str]]] = Setting(
    name=PREFIX + "APPLICATIONS",
    default={},
    expected="a dictionary of names in lower case, each with a list of addresses, networks, and names that clients give"
    " themselves (User-Agent)",
    accepts=_applications,
    help="Names under which statistics count the clients of logins and messages.",
    example={"vpn": ["10.1.0.0/24", "192.0.2.7"], "mail": ["Roundcube"]},
)
SETTINGS = (OTP_SERVERS, ROLES, SECOND_CHANNEL, TASKS, COMMANDS, SCRIPTS, APPLICATIONS)
