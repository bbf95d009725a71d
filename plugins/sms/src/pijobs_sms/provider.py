"""A provider: one way to speak to SMS gateways, with the fields that its gateways are defined by."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pijobs import JobContext, Settings
from pijobs.definitions import Field

#: Called with the running job's context, the gateway's definition with its secrets in the clear, the phone number as
#: the gateway wants it, and the text. It calls ``ctx.check()`` right before the effect, waits no longer than
#: ``ctx.time_left()``, and returns what the gateway said, for the history, or None.
#: It raises GatewayDown or GatewayRefused of :mod:`pijobs_sms.errors`; after any other exception the SMS may have been
#: sent, and is tried again.
Send = Callable[[JobContext, Mapping[str, Any], str, str], "str | None"]


@dataclass(frozen=True)
class Provider:
    """One way to speak to gateways.

    :param name: the value of the field ``provider``.
    :param fields: of its gateways' definitions, beside those that all gateways have.
    :param send: sends one SMS, see :data:`Send`.
    :param in_clear: says in sentences what of a gateway others on the network can read.
    """

    name: str
    fields: Sequence[Field]
    send: Send
    in_clear: Callable[[Mapping[str, Any], Settings], Iterable[str]] = lambda gateway, settings: ()
