"""The job behind :mod:`pijobs_privacyidea.sms`: an SMS or a push message, by any gateway of privacyIDEA."""

from __future__ import annotations

from typing import Any

from pijobs import DestinationDown, FailJob, Job, JobContext, RetryJob, RetryPolicy

NAME = "privacyidea.sms"
#: Seconds; the challenge that an SMS or a push message belongs to holds so long unless it was changed.
EXPIRES = 120
_PRIORITY = 10


def send_sms(ctx: JobContext, gateway: str, phone: str, message: Any, failover: str | None = None) -> None:
    """One attempt. Runs in privacyIDEA's app context.

    :param gateway: name of the gateway; read anew at each attempt.
    :param phone: number, or the push token of a smartphone.
    :param message: text, or the dictionary of a push message.
    :param failover: a second gateway, asked when the first one does not take the message.
    """
    try:
        _submit(ctx, gateway, phone, message)
    except (DestinationDown, RetryJob):
        if not failover:
            raise
        ctx.log.warning("gateway %s did not take the message, %s is asked", gateway, failover)
        _submit(ctx, failover, phone, message)


def jobs() -> list[Job]:
    """The job."""
    return [
        Job(
            NAME,
            send_sms,
            retry=RetryPolicy(max_attempts=5, delay=2, backoff=2, max_delay=60),
            expires=EXPIRES,
            priority=_PRIORITY,
            timeout=300,
            group=lambda gateway, **_: f"sms:{gateway}",
            label=lambda gateway, phone, **_: f"message by {gateway} to …{phone[-3:]}",
            subject=lambda phone, **_: phone,
        )
    ]


def _submit(ctx: JobContext, gateway: str, phone: str, message: Any) -> None:
    import requests
    from privacyidea.lib.error import ConfigAdminError
    from privacyidea.lib.smsprovider.SMSProvider import SMSError, create_sms_instance

    try:
        provider = create_sms_instance(gateway)
    except ConfigAdminError:
        raise FailJob(f"gateway {gateway!r} was deleted before the message could be sent") from None
    ctx.check_deadline()
    try:
        taken = provider.submit_message(phone, message)
    except requests.RequestException as error:
        # Its text may hold the URL, and that the number and the message.
        raise DestinationDown(f"gateway {gateway!r} does not answer ({type(error).__name__})") from None
    except SMSError as error:
        raise RetryJob(f"gateway {gateway!r} refused the message ({error.error_id})") from None
    if not taken:
        raise RetryJob(f"gateway {gateway!r} did not take the message")
