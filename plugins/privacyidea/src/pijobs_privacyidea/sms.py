"""An SMS provider class for privacyIDEA that leaves the message to the queue."""

from __future__ import annotations

from typing import Any

from privacyidea.lib.queue import get_job_queue, has_job_queue
from privacyidea.lib.smsprovider.SMSProvider import ISMSProvider, SMSError, get_smsgateway

from pijobs_privacyidea import sms_job

CLASS = "pijobs_privacyidea.sms.QueuedSMSProvider"


class QueuedSMSProvider(ISMSProvider):  # type: ignore[misc]
    """Wraps the gateway named by the option ``WRAPS``; with ``FAILOVER`` a second one, and ``EXPIRES`` in seconds.

    Push messages (privacyIDEA 3.14) are taken as well, if the wrapped gateway takes them.
    """

    supports_push_messages = True
    push_messages_enabled_by_default = True

    def submit_message(self, phone: str, message: Any) -> bool:
        """Leave the message to the queue. :raises SMSError: when neither the queue nor a fallback takes it."""
        options = self.smsgateway.option_dict
        call = {"gateway": options["WRAPS"], "phone": phone, "message": message, "failover": options.get("FAILOVER")}
        if not has_job_queue():
            raise SMSError(-1, "privacyIDEA has no job queue; set PI_JOB_QUEUE_CLASS")
        try:
            get_job_queue().enqueue(sms_job.NAME, (), call, expires=float(options.get("EXPIRES") or sms_job.EXPIRES))
        except Exception as error:
            raise SMSError(-1, f"the queue did not take the message ({type(error).__name__})") from error
        return True

    def check_configuration(self) -> None:
        """:raises SMSError: for options that can't be meant."""
        options = self.smsgateway.option_dict
        if not options.get("WRAPS"):
            raise SMSError(-1, "WRAPS: expected the name of a gateway, found none")
        for option in ("WRAPS", "FAILOVER"):
            if name := options.get(option):
                self._check_gateway(option, name)

    def _check_gateway(self, option: str, name: str) -> None:
        found = get_smsgateway(identifier=name)
        if not found:
            raise SMSError(-1, f"{option}: expected the name of a gateway, found {name!r}, which is none")
        if found[0].providermodule == CLASS:
            raise SMSError(-1, f"{option}: expected a gateway that sends, found {name!r}, which is queued itself")

    @classmethod
    def parameters(cls) -> dict[str, Any]:
        """What privacyIDEA shows of the options."""
        described = {
            "WRAPS": {"required": True, "description": "The gateway that sends."},
            "FAILOVER": {"description": "A second gateway, asked when the first one does not take a message."},
            "EXPIRES": {"description": f"Seconds after which a message is not sent any more ({sms_job.EXPIRES})."},
        }
        return {"options_allowed": False, "headers_allowed": False, "parameters": described}
