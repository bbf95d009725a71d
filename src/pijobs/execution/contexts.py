"""What makes the context of a job: with a lease in a worker, without one in the request."""

from __future__ import annotations

import logging
from functools import partial

from pijobs.base import clock
from pijobs.base.known_texts import Known, texts_in, values_in
from pijobs.base.numbers import is_number
from pijobs.base.redact import redact, text_of
from pijobs.context import JobContext
from pijobs.errors import MAX_SECONDS, StorageError
from pijobs.execution.verdict import history_line
from pijobs.jobs import Job
from pijobs.logs.records import InstanceLogger
from pijobs.metrics.counting import Metrics
from pijobs.payload.codec import Call
from pijobs.settings import Settings
from pijobs.storage.contract import Storage
from pijobs.storage.values import Lease

log = logging.getLogger(__name__)

#: Seconds between two kept reports of progress, and the most characters of their text.
PROGRESS_EVERY, PROGRESS_LENGTH = 1.0, 200


def context_here(
    job: Job, instance_id: str, call: Call, settings: Settings, metrics: Metrics, lifetime: float | None, group: str
) -> JobContext:
    """The context of a call in the caller's process, without a lease.

    :param lifetime: seconds from now to its deadline; None: it has none.
    """
    secrets = Secrets(call, group)
    return JobContext(
        id=instance_id, name=job.name, attempt=1, deadline=None if lifetime is None else clock.time() + lifetime,
        settings=settings, now=lambda: clock.time(), count=lambda *_: None,
        log=InstanceLogger(job.name, instance_id, 1, secrets), hide=secrets.add,
        measure=partial(metrics.measure, job.name),
    )  # fmt: skip


class Progress:
    """Stores the progress of an attempt, now and then."""

    def __init__(self, storage: Storage, lease: Lease, secrets: Secrets) -> None:
        self._storage, self._lease, self._secrets = storage, lease, secrets
        self._next = float("-inf")

    def __call__(self, done: float, total: float | None, text: str) -> None:
        now = clock.monotonic()
        if now < self._next and done != total:
            return
        self._next = now + PROGRESS_EVERY
        told = redact(text_of(text)[:PROGRESS_LENGTH], self._secrets.known) if text else None
        entry = {
            "event": "progress", "at": self._storage.now(), "attempt": self._lease.attempts + 1,
            "done": shown_number(done), "total": shown_number(total), "text": told,
        }  # fmt: skip
        try:
            self._storage.note_progress(self._lease.id, self._lease.token, history_line(entry))
        except StorageError as error:
            log.debug("job %s %s: its progress is not kept: %s", self._lease.name, self._lease.id, error)


def shown_number(value: object) -> float | None:
    return value if is_number(value) and abs(value) < MAX_SECONDS else None  # type: ignore[arg-type, return-value]


class Secrets:
    """The texts of a call that must not appear outside of its body. They are collected at most once, when needed.

    The name of a group is not one of them, because it is stored unencrypted.
    """

    def __init__(self, call: Call, group: str) -> None:
        self._call, self._group = call, group
        self._further: list[str] = []
        self._known: Known | None = None

    def add(self, *texts: str | None) -> None:
        """Add texts that the job got from elsewhere."""
        self._further += filter(None, texts)
        self._known = None

    @property
    def known(self) -> Known:
        if self._known is None:
            values = [*values_in([self._call.args, self._call.kwargs, self._further])]
            texts = (text for text in texts_in(values) if text not in self._group)
            self._known = Known(texts, parts_of=values)
        return self._known
