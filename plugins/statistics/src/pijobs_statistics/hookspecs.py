"""The hook of this plugin, for other plugins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pijobs import InstanceEvent, hookspec
from pijobs.request.queue import Queue


@hookspec
def count_end(queue: Queue, event: InstanceEvent) -> Iterable[tuple[str, Mapping[str, object]]]:  # type: ignore[empty-body]
    """What to count for the outcome of an instance, besides ``jobs``: names and tags, as for
    :func:`pijobs_statistics.record`. Called in workers. Each outcome is counted once, like that of ``jobs``."""
