"""The queue's toggle: whether a definition is used in the request or by the worker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pijobs.definitions.fields import TOGGLE

if TYPE_CHECKING:
    from pijobs.request.queue import Handle, Queue


def submit(
    queue: Queue, definition: Mapping[str, Any], name: str, arguments: Mapping[str, Any], **options: Any
) -> Handle:
    """Run a job by the worker or in this call, as the toggle of a definition says.

    :param options: those of :meth:`pijobs.request.queue.Queue.enqueue`; in this call they have no effect.
    :raises AttemptEnd: it failed in this call; the message says why.
    """
    if definition[TOGGLE]:
        return queue.enqueue(name, (), dict(arguments), **options)
    return queue.run(name, (), dict(arguments))
