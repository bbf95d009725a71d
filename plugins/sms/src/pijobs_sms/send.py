"""``send_sms``, for views and other plugins; sends in the request or by the queue, as the gateway's definition says."""

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
    """Send an SMS by a defined gateway, in this request or, if ``enqueue_job`` is on, by a worker.

    :param phone: with country code, or without it if the gateway has a region.
    :param expires: seconds after which it is not sent any more; None: 120, as in the job ``sms.send``.
    :param key: replaces a waiting SMS with the same key.
    :param queue: None: the queue of the current Flask app.
    :raises PhoneError: if the number is invalid or not allowed.
    :raises DefinitionNotFound: if there is no such gateway.
    :raises DatabaseError: if the database of the definitions does not answer.
    :raises AttemptEnd: if it was sent in this request and failed; the message says why.
    """
    queue = queue or current_queue()
    definition = open_store(queue.settings).get(gateway)
    number = normalize(phone, definition["region"], definition["countries"])
    # Joins halves of a surrogate pair, and replaces single ones, which can't be sent.
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    arguments = {"gateway": gateway, "phone": number, "text": text}
    return submit(queue, definition, "sms.send", arguments, expires=expires, key=key)
