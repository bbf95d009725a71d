"""The job ``sms.send``: one attempt to send an SMS, by its gateway or the fallback, and the result."""

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

#: Seconds; privacyIDEA's default validity of an OTP by SMS.
OTP_VALIDITY = 120
#: Higher than that of jobs that nobody waits for.
OTP_PRIORITY = 10


def send(ctx: JobContext, gateway: str, phone: str, text: str, in_doubt: bool = False) -> None:
    """Send one SMS by the present definition of the gateway.

    :param gateway: identifier of the definition.
    :param phone: in E.164, or as written in the gateway's region.
    :param in_doubt: whether an earlier attempt may have sent it; after a second doubt it is not tried again. Not
        for callers.
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
        # Neither the SMS nor its gateway is at fault: the database differs or does not answer, or a key is missing
        # here. An SMS that can't be counted is not sent.
        raise UnknownHere(redact(unknown_here(f"SMS gateway {gateway!r}", error, store), known)) from None


def register() -> list[Job]:
    """The job. The default deadline is that of an OTP: late is worse than never."""
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
    _take(ctx, limits, identifier)
    provider = gateways.providers[definition["provider"]]
    try:
        answer = provider.send(ctx, definition, as_gateway_wants(number, definition["phone_format"]), text)
    except (GatewayDown, GatewayRefused, MaybeSent, DeadlinePassed, AttemptDeferred) as error:
        if not isinstance(error, MaybeSent) and not getattr(error, "maybe_sent", False):
            Limits.of(ctx.settings).give_back(dict(limits.values()))
        result = {GatewayDown: "down", AttemptDeferred: "limited", MaybeSent: "unclear"}.get(type(error), "refused")
        ctx.measure("sms_results", gateway=identifier, result=result)
        ctx.log.warning("gateway %s: %s", identifier, redact(str(error), known))
        raise
    ctx.measure("sms_results", gateway=identifier, result="sent")
    ctx.note(gateway=identifier, **({"answer": redact(answer, known)} if answer else {}))
    ctx.log.info("SMS taken by gateway %s", identifier)


def _limits(ctx: JobContext, definition: Mapping[str, Any], number: str) -> dict[str, tuple[str, int]]:
    """By label for people: the counted name, which contains no number, and the most SMS per hour."""
    key, identifier = KeyRing.of(ctx.settings).newest, definition["identifier"]
    return {
        "to this number": (key.lookup("sms number", number), definition["per_number"]),
        f"by gateway {identifier}": (key.lookup("sms gateway", identifier), definition["per_hour"]),
    }


def _take(ctx: JobContext, limits: Mapping[str, tuple[str, int]], identifier: str) -> None:
    """:raises FailJob: if a limit is reached: nobody waits an hour for an OTP."""
    reached = Limits.of(ctx.settings).take(dict(limits.values()))
    for words, (name, limit) in limits.items():
        if name == reached:
            ctx.measure("sms_results", gateway=identifier, result="limited")
            raise FailJob(f"expected at most {limit} SMS in an hour {words}, found one more; it is not sent")
