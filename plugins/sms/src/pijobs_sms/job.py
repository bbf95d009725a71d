"""The job ``sms.send``: one attempt at an SMS, by the gateway or by the one that takes over, and what follows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pijobs import DestinationDown, FailJob, Job, JobContext, RetryJob, RetryPolicy
from pijobs.base.known_texts import texts_in
from pijobs.base.masks import mask_number
from pijobs.base.redact import redact
from pijobs.definitions import Failover, unknown_here
from pijobs.errors import (
    AttemptDeferred,
    DatabaseError,
    DeadlinePassed,
    DefinitionDeleted,
    DefinitionNotFound,
    DefinitionUnreadable,
    UnknownHere,
)
from pijobs.payload.keys import KeyRing
from pijobs_sms.errors import AccountRefused, GatewayDown, GatewayRefused, MaybeSent, PhoneError
from pijobs_sms.gateways import Gateways, open_store
from pijobs_sms.limits import Limits
from pijobs_sms.numbers import as_gateway_wants, normalize, spellings

#: Seconds; the validity of an OTP that privacyIDEA sends, unless it was changed there.
OTP_VALIDITY = 120
#: Above jobs that nobody waits for.
OTP_PRIORITY = 10


def send(ctx: JobContext, gateway: str, phone: str, text: str, in_doubt: bool = False) -> None:
    """Send one SMS by the gateway's definition as it is now.

    :param gateway: identifier of the definition.
    :param phone: in E.164, or as people of the gateway's region write it.
    :param in_doubt: whether an earlier attempt may have sent it, so that no further doubt is tried again.
        Not for callers.
    """
    known = {phone, *texts_in([phone, text])}
    failover = ctx.settings.resource(Failover, Failover)

    def attempt(definition: Mapping[str, Any]) -> None:
        _attempt(ctx, definition, phone, text, known)
        if (taken := definition["identifier"]) != gateway:
            why = redact(failover.trouble(store, gateway) or "it is in trouble", known)
            ctx.warn(f"SMS gateway {taken!r} takes over for {gateway!r}: {why}")

    store = open_store(ctx.settings)
    try:
        failover.in_turn(store, gateway, attempt, trouble=(GatewayDown, AccountRefused))
    except DefinitionDeleted:
        raise FailJob(f"SMS gateway {gateway!r} was deleted before the SMS could be sent") from None
    except GatewayDown as error:
        raise DestinationDown(redact(str(error), known), retry_after=error.retry_after, counted=error.counted) from None
    except MaybeSent as error:
        why = f"{redact(str(error), known)}; the SMS may have been sent"
        if in_doubt:
            raise FailJob(f"{why}, twice") from None
        raise RetryJob(why, kwargs={"in_doubt": True}) from None
    except (GatewayRefused, PhoneError) as error:
        raise FailJob(redact(str(error), known)) from None
    except (DefinitionNotFound, DefinitionUnreadable, DatabaseError) as error:
        # No fault of the SMS, nor of its gateway: another database, a key that this worker does not have (yet), or a
        # database that is away. What can't be counted is not sent.
        raise UnknownHere(redact(unknown_here(f"SMS gateway {gateway!r}", error, store), known)) from None


def register() -> list[Job]:
    """The job. Without a deadline of its own an SMS has that of an OTP: late is worse than never."""
    return [
        Job(
            "sms.send",
            send,
            retry=RetryPolicy(max_attempts=6, delay=2, backoff=2, max_delay=60),
            expires=OTP_VALIDITY,
            priority=OTP_PRIORITY,
            timeout=300,
            group=lambda gateway, *_, **__: f"sms:{gateway}",
            label=lambda gateway, phone, *_, **__: f"SMS to {mask_number(phone)}",
            subject=lambda gateway, phone, *_, **__: phone,
        )
    ]


def _attempt(ctx: JobContext, definition: Mapping[str, Any], phone: str, text: str, known: set[str]) -> None:
    identifier, number = definition["identifier"], normalize(phone, definition["region"], definition["countries"])
    gateways = Gateways.of(ctx.settings)
    known |= {*spellings(number), *gateways.declaration.credentials(definition)}
    limits = _limits(ctx, definition, number)
    _take(ctx, limits, identifier, known)
    provider = gateways.providers[definition["provider"]]
    try:
        said = provider.send(ctx, definition, as_gateway_wants(number, definition["phone_format"]), text)
    except (GatewayDown, GatewayRefused, MaybeSent, DeadlinePassed, AttemptDeferred) as error:
        if not isinstance(error, MaybeSent) and not getattr(error, "maybe_sent", False):
            Limits.of(ctx.settings).give_back(dict(limits.values()))
        result = {GatewayDown: "down", AttemptDeferred: "limited", MaybeSent: "unclear"}.get(type(error), "refused")
        ctx.measure("sms_results", gateway=identifier, result=result)
        ctx.log.warning("gateway %s: %s", identifier, redact(str(error), known))
        raise
    ctx.measure("sms_results", gateway=identifier, result="sent")
    ctx.note(gateway=identifier, **({"answer": redact(said, known)} if said else {}))
    ctx.log.info("SMS taken by gateway %s", identifier)


def _limits(ctx: JobContext, definition: Mapping[str, Any], number: str) -> dict[str, tuple[str, int]]:
    """For people → the name that is counted by, without a number in it, and how many there may be in an hour."""
    key, identifier = KeyRing.of(ctx.settings).newest, definition["identifier"]
    return {
        "to this number": (key.lookup("sms number", number), definition["per_number"]),
        f"by gateway {identifier}": (key.lookup("sms gateway", identifier), definition["per_hour"]),
    }


def _take(ctx: JobContext, limits: Mapping[str, tuple[str, int]], identifier: str, known: set[str]) -> None:
    """:raises FailJob: when one is reached; an hour is longer than anybody waits for an OTP."""
    reached = Limits.of(ctx.settings).take(dict(limits.values()))
    for words, (name, limit) in limits.items():
        if name == reached:
            ctx.measure("sms_results", gateway=identifier, result="limited")
            raise FailJob(f"expected at most {limit} SMS in an hour {words}, found one more; it is not sent")
