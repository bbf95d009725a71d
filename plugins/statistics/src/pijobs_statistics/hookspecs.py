"""The hook of this plugin, for others to give."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pijobs import InstanceEvent, hookspec
from pijobs.request.queue import Queue


@hookspec
def count_end(queue: Queue, event: InstanceEvent) -> Iterable[tuple[str, Mapping[str, object]]]:  # type: ignore[empty-body]
    """What the end of an instance counts for beside ``jobs``: names and tags, as :func:`pijobs_statistics.record` takes
    them. Called in workers; each end is counted once, as that of ``jobs`` is."""
