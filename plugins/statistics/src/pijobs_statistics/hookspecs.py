"""The hook of this plugin, for other plugins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pijobs import InstanceEvent, hookspec
from pijobs.request.queue import Queue


@hookspec
def count_end(queue: Queue, event: InstanceEvent) -> Iterable[tuple[str, Mapping[str, object]]]:  # type: ignore[empty-body]
    """Return names and tags, as for :func:`pijobs_statistics.record`, to count for the outcome of an instance, in
    addition to ``jobs``. Called in workers. Each outcome counts once."""
