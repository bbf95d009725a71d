"""Sends web hooks outside of the request::

    post("audit", {"type": "user.signed_in", "data": {"user": "alice"}})

``PI_JOB_QUEUE_WEBHOOK_ENDPOINTS`` has the endpoints, so callers can't post to any other address.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pijobs import Handle
from pijobs.flask import current_queue

__all__ = ["post"]


def post(endpoint: str, event: Mapping[str, Any], **options: Any) -> Handle:
    """Enqueue an event for an endpoint, in a Flask app with a queue.

    :param endpoint: name of the endpoint in the settings.
    :param event: values for JSON; Standard Webhooks recommends ``type``, ``timestamp`` and ``data``.
    :param options: options of :meth:`pijobs.Queue.enqueue`, such as ``expires``.
    """
    return current_queue().enqueue("webhook.post", (), {"endpoint": endpoint, "event": dict(event)}, **options)
