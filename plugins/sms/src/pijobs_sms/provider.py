"""Providers: protocols for SMS gateways, each with the fields of its definitions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pijobs import JobContext, Settings
from pijobs.definitions import Field

#: Sends one SMS. Its arguments are the running job's context, the gateway's definition with decrypted secrets, the
#: phone number in the gateway's format, and the text. It must call ``ctx.check()`` right before sending, and wait no
#: longer than ``ctx.time_left()``. It returns the gateway's confirmation for the history, or None.
#: It raises GatewayDown or GatewayRefused of :mod:`pijobs_sms.errors`; after any other exception the SMS may have been
#: sent, and is tried again.
Send = Callable[[JobContext, Mapping[str, Any], str, str], "str | None"]


@dataclass(frozen=True)
class Provider:
    """A protocol for gateways.

    :param name: value of the field ``provider``.
    :param fields: fields of its gateways' definitions, in addition to the common ones.
    :param send: sends one SMS, see :data:`Send`.
    :param in_clear: returns sentences about what others on the network can read.
    """

    name: str
    fields: Sequence[Field]
    send: Send
    in_clear: Callable[[Mapping[str, Any], Settings], Iterable[str]] = lambda gateway, settings: ()
