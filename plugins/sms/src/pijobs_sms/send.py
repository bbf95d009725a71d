"""``send_sms``: what views and other plugins call. Direct or queued, as the gateway says."""

from __future__ import annotations

from pijobs import Handle
from pijobs.definitions import submit
from pijobs.flask import current_queue
from pijobs.request.queue import Queue
from pijobs_sms.gateways import open_store
from pijobs_sms.numbers import normalize


def send_sms(
    gateway: str,
    phone: str,
    text: str,
    *,
    expires: float | None = None,
    key: str | None = None,
    queue: Queue | None = None,
) -> Handle:
    """Send an SMS by a defined gateway: in this call, or by the worker if ``enqueue_job`` is on.

    :param phone: with its country code, or without one if the gateway has a region.
    :param expires: seconds after which it must not be sent any more; None: as the job ``sms.send`` has it (120).
    :param key: a queued SMS with the same key that still waits is replaced by this one.
    :param queue: None: that of the current Flask app.
    :raises PhoneError: a number that can't be, or may not be sent to.
    :raises DefinitionNotFound: no gateway of that identifier.
    :raises DatabaseError: the database of the definitions does not answer.
    :raises AttemptEnd: sent in this call, and failed: why is its message.
    """
    queue = queue or current_queue()
    definition = open_store(queue.settings).get(gateway)
    number = normalize(phone, definition["region"], definition["countries"])
    # Halves of a surrogate pair, which nobody can send, become one letter or a mark.
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    arguments = {"gateway": gateway, "phone": number, "text": text}
    return submit(queue, definition, "sms.send", arguments, expires=expires, key=key)
