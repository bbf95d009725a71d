"""Message-IDs, and the date of a mail."""

from __future__ import annotations

import re
import secrets
from datetime import datetime, timezone

from pijobs.base import clock
from pijobs_mail.compose.addresses import sender_of
from pijobs_mail.errors import MessageError

_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")


def make_message_id(sender: str) -> str:
    """A new Message-ID in the domain of the sender."""
    return message_id_of(secrets.token_hex(16), sender)


def message_id_of(instance_id: str, sender: str) -> str:
    """The Message-ID of a job instance without a given one; the same at each attempt."""
    return f"<{re.sub(r'[^A-Za-z0-9.-]', '', instance_id)}@{sender_of(sender).domain or 'localhost'}>"


def now() -> datetime:
    return datetime.fromtimestamp(clock.time(), timezone.utc).replace(microsecond=0)


def at(seconds: float) -> datetime:
    """The date of a mail by seconds since the epoch."""
    return datetime.fromtimestamp(int(seconds), timezone.utc)


def check_message_id(message_id: str | None) -> None:
    if message_id is not None and not re.fullmatch(rf"<{_LOCAL.pattern}@{_LOCAL.pattern}>", message_id):
        raise MessageError("message_id: expected <something@a.domain>, found something else")
