"""Collects the records of a request, a job or a block, and writes them with one enqueue."""

from __future__ import annotations

import itertools
import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import flask

from pijobs import State
from pijobs.base.redact import describe
from pijobs.flask import current_queue
from pijobs.request.queue import Queue
from pijobs_statistics.values import Amount, Series, amount, minute, series

log = logging.getLogger(__name__)

JOB = "statistics.apply"
#: Most different rows of one enqueue; more rows take further enqueues.
MOST_ROWS = 1000
_G = "_pijobs_statistics"


class Attempt:
    """A running attempt of a job. It names its batches, so that a repetition is recognised."""

    def __init__(self, id: str, number: int) -> None:
        self._name = f"{id} {number}"
        self._batches = itertools.count()

    def next_batch(self) -> str:
        return uuid.uuid5(uuid.NAMESPACE_OID, f"{self._name} {next(self._batches)}").hex


current_attempt: ContextVar[Attempt | None] = ContextVar("pijobs_statistics_attempt", default=None)
_collected: ContextVar[Batch | None] = ContextVar("pijobs_statistics_batch", default=None)


class Batch:
    """Records that are not enqueued yet."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._rows: dict[tuple[int, Series], Amount] = {}
        self._attempt = current_attempt.get()

    def add(self, line: Series, value: Amount) -> None:
        key = (minute(), line)
        self._rows[key] = self._rows.get(key, Amount(0, 0)) + value
        if len(self._rows) >= MOST_ROWS:
            self.flush()

    def flush(self) -> None:
        """Enqueue all records. Raises no error: statistics must not stop a login."""
        if not self._rows:
            return
        rows, self._rows = self._rows, {}
        batch = self._attempt.next_batch() if self._attempt else uuid.uuid4().hex
        arguments = {
            "batch": batch,
            "rows": [[at, *line, value.count, value.total] for (at, line), value in rows.items()],
        }
        try:
            handle = self._queue.enqueue(JOB, (), arguments)
            if handle.state is State.DEAD:  # the storage does not answer; it ran and failed in this process
                log.error("statistics: %d rows wait for a retry of %s: %s", len(rows), handle.id, handle.reason)
        except Exception as error:
            log.error("statistics: %d rows are lost: %s", len(rows), describe(error))


def record(name: str, value: float = 1, **tags: object) -> None:
    """Count something. It is written at the end of the request, the job or the block.

    :param name: lower case, digits, underscores and dots; a constant of the program, not data.
    :param value: rounded to three decimal places; sums are exact.
    :param tags: at most five, each with few possible values (a result, a realm); never a user.
    :raises ValueError: for an invalid name, value or name of a tag.
    :raises RuntimeError: outside of an app's context and of :func:`collect`.
    """
    line, single = series(name, tags), amount(value)
    _batch().add(line, single)


def flush() -> None:
    """Enqueue the present records now, for long running code."""
    if (batch := _present()) is not None:
        batch.flush()


@contextmanager
def collect(queue: Queue) -> Iterator[None]:
    """Collect the records of the block, and enqueue them at its end."""
    batch = Batch(queue)
    token = _collected.set(batch)
    try:
        yield
    finally:
        _collected.reset(token)
        batch.flush()


def _present() -> Batch | None:
    batch = _collected.get()
    if batch is None and flask.has_app_context():
        batch = flask.g.get(_G)
    return batch


def _batch() -> Batch:
    batch = _present()
    if batch is None and not flask.has_app_context():
        raise RuntimeError("expected an app's context, or 'with pijobs_statistics.collect(queue):', found neither")
    if batch is None:
        batch = Batch(current_queue())
        setattr(flask.g, _G, batch)
        # Use the signal: an app that has answered a request accepts no new teardown function.
        flask.appcontext_tearing_down.connect(_end, flask.current_app._get_current_object())  # type: ignore[attr-defined]
    return batch


def _end(app: flask.Flask, **_: Any) -> None:
    batch = flask.g.pop(_G, None)
    if batch is not None:
        batch.flush()
