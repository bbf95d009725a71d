"""The queue's toggle: whether what a definition stands for happens in the request or in the worker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pijobs.definitions.fields import TOGGLE

if TYPE_CHECKING:
    from pijobs.request.queue import Handle, Queue


def submit(
    queue: Queue, definition: Mapping[str, Any], name: str, arguments: Mapping[str, Any], **options: Any
) -> Handle:
    """Have a job done by the toggle of a definition: by the worker, or in this call.

    :param options: those of :meth:`pijobs.request.queue.Queue.enqueue`; in this call they mean nothing.
    :raises AttemptEnd: done in this call, and failed: why is its message.
    """
    if definition[TOGGLE]:
        return queue.enqueue(name, (), dict(arguments), **options)
    return queue.run(name, (), dict(arguments))
