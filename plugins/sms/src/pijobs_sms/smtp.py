"""The provider ``smtp``: mails the text, by an SMTP server of the mail plugin, to a gateway that makes it an SMS."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pijobs import DestinationDown, FailJob, JobContext, RetryJob
from pijobs.definitions import Field
from pijobs_mail.job import send as send_mail
from pijobs_sms.errors import GatewayDown, GatewayRefused
from pijobs_sms.placeholders import fill
from pijobs_sms.provider import Provider


def _check_mail_to(value: str) -> str | None:
    return None if value.count("@") == 1 else "expected an address such as {phone}@sms.example.com, found another text"


FIELDS = (
    Field("smtp_server", required=True, help="identifier of the SMTP server"),
    Field("mail_to", required=True, check=_check_mail_to, help="address with {phone}"),
    Field("subject", default="{phone}", help="with {phone} and {otp}"),
    Field("body", default="{otp}", help="with {phone} and {otp}"),
)


def send(ctx: JobContext, gateway: Mapping[str, Any], phone: str, text: str) -> None:
    """Send one SMS by a mail, within this attempt; ignores the SMTP server's own toggle."""
    values = {"phone": phone, "otp": text}
    subject = " ".join(fill(gateway["subject"] or "", values).split())
    try:
        send_mail(ctx, gateway["smtp_server"], fill(gateway["mail_to"], values), subject, fill(gateway["body"], values))
    except DestinationDown as error:
        raise GatewayDown(str(error), retry_after=error.retry_after) from None
    except RetryJob as error:
        raise GatewayDown(str(error), retry_after=error.delay, maybe_sent=True) from None
    except FailJob as error:
        raise GatewayRefused(str(error)) from None


PROVIDER = Provider("smtp", FIELDS, send)
