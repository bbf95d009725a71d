"""The job behind :mod:`pijobs_privacyidea.sms`: an SMS or a push message, by any gateway of privacyIDEA.

A provider class of privacyIDEA reports little about errors: it raises an ``SMSError`` with the status of a reply or
``-1``, lets an exception of its HTTP library pass, or returns ``False``. A known refusal ends the message. Any other
error is a fault of the gateway, which counts for its breaker, and makes the job try the second gateway.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from pijobs import DestinationDown, FailJob, Job, JobContext, RetryPolicy
from pijobs.base.masks import mask_number
from pijobs.definitions import Failover
from pijobs.errors import DeadlinePassed, UnknownHere
from pijobs_mail.job import OTP_PRIORITY
from pijobs_privacyidea import second_channel
from pijobs_privacyidea.definitions import not_here
from pijobs_privacyidea.origin import origin
from pijobs_privacyidea.tokens import labelled, login_for
from pijobs_privacyidea.usage import present

NAME = "privacyidea.sms"
#: Seconds; privacyIDEA's default for a challenge. :mod:`pijobs_privacyidea.sms` passes the configured value.
EXPIRES = 120
#: Replies of a gateway that has not sent the message, but may later.
_LATER = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
#: Errors after which the second gateway is tried.
_TROUBLE = (DestinationDown, FailJob, UnknownHere)


def send_sms(
    ctx: JobContext, gateway: str, phone: str, message: Any, failover: str | None = None, token: str | None = None
) -> None:
    """Make one attempt. Runs in privacyIDEA's app context.

    :param gateway: name of the gateway; each attempt reads its definition again.
    :param phone: number, or the push token of a smartphone.
    :param message: text, or the dictionary of a push message.
    :param failover: a second gateway, for when the first one does not accept the message.
    :param token: serial of the token whose OTP it is.
    """
    chain = {(NAME, name): name for name in (gateway, failover) if name}

    def attempt(name: str) -> None:
        result = "failed"
        try:
            _submit(ctx, name, phone, message)
            result = "sent"
        except DeadlinePassed:
            result = "expired"
            raise
        except _TROUBLE as error:
            ctx.log.warning("%s", error)
            raise
        finally:
            ctx.measure("sms_results", gateway=name, result=result)

    with second_channel.when_refused(ctx, token, second_channel.text_of(message)):
        ctx.settings.resource(Failover, Failover).first_of(chain, attempt, trouble=_TROUBLE)


def jobs() -> list[Job]:
    """The job."""
    return [
        Job(
            NAME,
            send_sms,
            retry=RetryPolicy(max_attempts=5, delay=2, backoff=2, max_delay=60),
            expires=EXPIRES,
            priority=OTP_PRIORITY,
            timeout=300,
            group=lambda gateway, **_: f"sms:{gateway}",
            label=_label,
            # Operators do not know the push token of a smartphone.
            subject=lambda phone, message, **_: phone if isinstance(message, str) else None,
            person=lambda token=None, **_: login_for(token or origin().serial),
        )
    ]


def _label(phone: str, message: Any, token: str | None = None, **_: Any) -> str:
    sent_by, push = origin(), not isinstance(message, str)
    serial = token or sent_by.serial
    about = present(serial, "push" if push else sent_by.type)
    return labelled("push message" if push else f"SMS to {mask_number(phone)}", serial, about)


def _submit(ctx: JobContext, gateway: str, phone: str, message: Any) -> None:
    """Submit the message. :raises FailJob: if it was refused. :raises DestinationDown: for a fault of the gateway.
    :raises UnknownHere: if this worker can't read the gateway's definition."""
    from privacyidea.lib.smsprovider.SMSProvider import SMSError

    provider = _provider(gateway)
    ctx.check()
    try:
        taken = provider.submit_message(phone, message)
    # Drop the texts of these errors: they may contain the URL, and with it number and message.
    except SMSError as error:
        raise _judged(gateway, error.error_id) from None
    except Exception as error:
        why = f"gateway {gateway!r} did not take the message ({type(error).__name__})"
        raise DestinationDown(why, counted=not _never_sent(error)) from None
    if not taken:
        raise DestinationDown(f"gateway {gateway!r} did not take the message", counted=True)
    ctx.note(gateway=gateway)


def _provider(gateway: str) -> Any:
    from privacyidea.lib.error import ConfigAdminError
    from privacyidea.lib.smsprovider.SMSProvider import create_sms_instance
    from sqlalchemy.exc import SQLAlchemyError

    try:
        return create_sms_instance(gateway)
    except ConfigAdminError:
        raise not_here(f"gateway {gateway!r}") from None
    except SQLAlchemyError as error:
        raise UnknownHere(f"privacyIDEA's database does not answer ({type(error).__name__})") from None
    except ImportError:
        raise UnknownHere(f"the class of gateway {gateway!r} can't be imported by this worker") from None
    except Exception as error:  # the gateway is not allowed, or incomplete
        raise FailJob(f"gateway {gateway!r} can't be used ({type(error).__name__})") from None


def _judged(gateway: str, status: object) -> DestinationDown | FailJob:
    """The error for a gateway's answer. :param status: HTTP status, -1, or another value of a provider class."""
    if not isinstance(status, int) or status < 0:
        return DestinationDown(f"gateway {gateway!r} did not take the message", counted=True)
    if 400 <= status < 500 and status not in (HTTPStatus.REQUEST_TIMEOUT, *_LATER):
        return FailJob(f"gateway {gateway!r} refused the message ({status})")
    return DestinationDown(f"gateway {gateway!r} did not take the message ({status})", counted=status not in _LATER)


def _never_sent(error: Exception) -> bool:
    """Whether no connection was made, so that the message was certainly not sent."""
    import requests
    from urllib3.exceptions import NewConnectionError

    if isinstance(error, requests.ConnectTimeout):
        return True
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(error, requests.ConnectionError) and isinstance(reason, NewConnectionError)
