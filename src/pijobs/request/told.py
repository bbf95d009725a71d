"""What log and traces are told of calls."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from pijobs.base import traces
from pijobs.request.calls import Made
from pijobs.storage.values import NewInstance, Stored

log = logging.getLogger("pijobs.request.queue")


def span_of(made: Sequence[Made], queue: str) -> AbstractContextManager[Any]:
    """The span of OpenTelemetry for some calls."""
    names = {job.name for _, job, _ in made}
    return traces.span(
        f"enqueue {names.pop() if len(names) == 1 else 'jobs'}", "PRODUCER", messaging__system="pijobs",
        messaging__operation__type="send", messaging__destination__name=queue,
        messaging__batch__message_count=len(made) if len(made) > 1 else None,
    )  # fmt: skip


def log_stored(new: NewInstance, stored: Stored, via: str) -> None:
    """One line for a stored call, and one for the call that it replaces."""
    where = f" in {via}" if via == "spool" else ""
    if log.isEnabledFor(logging.INFO):
        fields = {"id": stored.id, "job": new.name, "state": stored.state.value}
        log.info("job %s %s: new -> %s%s", new.name, stored.id, stored.state, where, extra={"instance": fields})
    if stored.replaced is not None:
        log.info("job %s %s: -> cancelled (superseded by %s)", new.name, stored.replaced, stored.id)
