"""An SMS provider class for privacyIDEA that queues its messages."""

from __future__ import annotations

from typing import Any

from privacyidea.lib.queue import get_job_queue, has_job_queue
from privacyidea.lib.smsprovider.SMSProvider import ISMSProvider, SMSError, create_sms_instance, get_smsgateway

from pijobs_privacyidea import second_channel, sms_job
from pijobs_privacyidea.definitions import configured_seconds
from pijobs_privacyidea.origin import origin

CLASS = "pijobs_privacyidea.sms.QueuedSMSProvider"


class QueuedSMSProvider(ISMSProvider):  # type: ignore[misc]
    """Wraps the gateway named by the option ``WRAPS``; with ``FAILOVER`` a second one, and ``EXPIRES`` in seconds."""

    #: privacyIDEA 3.14 checks this first, then :meth:`allows_push_messages`.
    supports_push_messages = True

    def submit_message(self, phone: str, message: Any) -> bool:
        """Queue the message.

        :param message: a text, or the dictionary of a push message.
        :raises SMSError: neither the queue nor a fallback accepts it.
        """
        if not has_job_queue():
            raise SMSError(-1, "privacyIDEA has no job queue; set PI_JOB_QUEUE_CLASS")
        options = self.smsgateway.option_dict
        call = {"gateway": options["WRAPS"], "phone": phone, "message": message, "failover": options.get("FAILOVER")}
        # A worker of release 0.1.0 does not know this argument; with the setting in its pi.cfg it does not start.
        if (serial := origin().serial) is not None and second_channel.is_set_up(get_job_queue().settings, sms_job.NAME):
            call["token"] = serial
        expires = float(options.get("EXPIRES") or _validity(push=not isinstance(message, str)))
        try:
            get_job_queue().enqueue(sms_job.NAME, (), call, expires=expires)
        except Exception as error:
            raise SMSError(-1, f"the queue did not take the message ({type(error).__name__})") from error
        return True

    def check_configuration(self) -> None:
        """:raises SMSError: for invalid options."""
        options = self.smsgateway.option_dict
        if not options.get("WRAPS"):
            raise SMSError(-1, "WRAPS: expected the name of a gateway, found none")
        for option in ("WRAPS", "FAILOVER"):
            if name := options.get(option):
                _check_gateway(option, name)
        if options.get("FAILOVER") == options["WRAPS"]:
            raise SMSError(-1, "FAILOVER: expected another gateway than WRAPS, found the same")
        if expires := options.get("EXPIRES"):
            _check_seconds("EXPIRES", expires)

    @classmethod
    def allows_push_messages(cls, smsgateway: Any) -> bool:
        """Whether the wrapped gateway accepts push messages. privacyIDEA 3.14 calls it."""
        wrapped = smsgateway.option_dict.get("WRAPS")
        if not wrapped or not get_smsgateway(identifier=wrapped):
            return False
        provider = create_sms_instance(wrapped)
        return bool(provider.allows_push_messages(provider.smsgateway))

    @classmethod
    def parameters(cls) -> dict[str, Any]:
        """The options as privacyIDEA shows them."""
        described = {
            "WRAPS": {"required": True, "description": "The gateway that sends."},
            "FAILOVER": {"description": "A second gateway, used if the first one does not accept a message."},
            "EXPIRES": {"description": "Seconds after which a message expires; default: with its challenge."},
        }
        return {"options_allowed": False, "headers_allowed": False, "parameters": described}


def _validity(*, push: bool) -> float:
    """The validity of a message's challenge in seconds, computed as privacyIDEA's tokens do."""
    if not push:
        return configured_seconds("sms.providerTimeout", 300)
    return configured_seconds(
        "PushChallengeValidityTime", configured_seconds("DefaultChallengeValidityTime", sms_job.EXPIRES)
    )


def _check_gateway(option: str, name: str) -> None:
    found = get_smsgateway(identifier=name)
    if not found:
        raise SMSError(-1, f"{option}: expected the name of a gateway, found {name!r}, which is none")
    if found[0].providermodule == CLASS:
        raise SMSError(-1, f"{option}: expected a gateway that sends, found {name!r}, which is queued itself")


def _check_seconds(option: str, value: object) -> None:
    try:
        good = float(str(value)) > 0
    except ValueError:
        good = False
    if not good:
        raise SMSError(-1, f"{option}: expected seconds above 0, found {value!r}")
