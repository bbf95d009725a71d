"""Runs a job in the calling process because no storage accepted it: once, and in a new context.

The job must not use the caller's app context: it contains a database session, and a commit of the job would also commit
what the caller has begun.
"""

from __future__ import annotations

import json
import logging
import sys
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import msgspec

from pijobs.base import clock
from pijobs.base.clock import to_ms
from pijobs.base.redact import describe
from pijobs.errors import InstanceRefused, StorageError
from pijobs.execution.runner import Runner
from pijobs.execution.verdict import history_line
from pijobs.jobs import ENDED, State
from pijobs.payload.codec import Call, Codec
from pijobs.request.spool import on_clock
from pijobs.storage.contract import Storage
from pijobs.storage.values import End, Lease, NewInstance

log = logging.getLogger(__name__)

#: How many outcomes a process keeps while the storage is away.
MOST_UNTOLD = 100
#: Seconds that a request may spend on storing outcomes of earlier requests. The next one stores the rest.
TELLING = 0.1


def fresh_context() -> AbstractContextManager[Any]:
    """A new app context of the present app, if there is an app."""
    flask = sys.modules.get("flask")
    if flask is None or not flask.has_app_context():
        return nullcontext()
    return cast(AbstractContextManager[Any], flask.current_app._get_current_object().app_context())


def run(runner: Runner, new: NewInstance, call: Call, began: float) -> tuple[End, BaseException | None]:
    """Run the only attempt. :returns: the outcome (``done``, ``dead`` or ``expired``), and the exception.

    :param began: when the call was made (monotonic seconds).
    """
    lease = Lease(
        new.id, "", new.name, new.envelope, new.body, new.group, new.priority, attempts=0, crashes=0, held_since=None,
        due=new.created, leased=new.created,
    )  # fmt: skip
    outcome = runner.attempt(cast(Storage, _Away(new.created, began)), lease, call)
    return _ended(outcome.end), outcome.error


def immediately(
    runner: Runner, storage: Storage, codec: Codec, most: int, new: NewInstance
) -> tuple[State, str | None]:
    """Make all attempts at once, without waits, because nobody would make the next one later.

    :param most: the most attempts.
    """
    body, reason = new.body, None
    for attempts in range(most):
        lease = Lease(
            new.id, "", new.name, new.envelope, body, new.group, new.priority, attempts=attempts, crashes=0,
            held_since=None, due=new.created, leased=new.created,
        )  # fmt: skip
        end = runner.attempt(storage, lease, codec.decode(new.envelope, body)).end
        if end.state in ENDED:
            return end.state, end.reason
        body, reason = end.body or body, end.reason
    return State.DEAD, f"immediate mode does not wait; last: {reason}"


def refusal(new: NewInstance, error: Exception) -> tuple[NewInstance, End]:
    """A dead letter for a refused call, so that people find it in the usual place. It has no body and a deadline in the
    past, because a retry would be refused, too."""
    reason, name = describe(error), type(error).__name__
    entry = history_line({"at": new.created, "event": "refused", "error": name, "reason": reason})
    end = End(new.id, "", State.DEAD, counted=False, reason=f"refused at enqueue: {reason}", error=name, entry=entry)
    return msgspec.structs.replace(new, body=b"", deadline=new.created), end


def _ended(end: End) -> End:
    """There is no second attempt."""
    if end.state in ENDED:
        return msgspec.structs.replace(end, envelope=None, body=None)
    reason = f"it ran in the request, where there is one attempt: {end.reason or 'it was deferred'}"
    entry = end.entry and history_line({**json.loads(end.entry), "outcome": State.DEAD.value})
    return msgspec.structs.replace(
        end, state=State.DEAD, counted=True, due=None, reason=reason, entry=entry, envelope=None, body=None
    )


class Ends:
    """Records the outcomes of jobs that ran in this process: in the spool, or in the storage when it answers.

    :param timeout: seconds that one record may take.
    """

    def __init__(self, spool: Storage | None, storage: Storage, codec: Callable[[], Codec], timeout: float) -> None:
        self._spool, self._storage, self._codec, self._timeout = spool, storage, codec, timeout
        #: The newest outcomes that no storage has.
        self._untold: deque[tuple[NewInstance, End]] = deque(maxlen=MOST_UNTOLD)

    def record(self, new: NewInstance, end: End, *, away: bool) -> None:
        """:param away: whether the storage does not answer at present."""
        if end.state is not State.DEAD:
            new = msgspec.structs.replace(new, body=b"")  # it would be deleted anyway
        if away and self._spool is not None:
            try:
                mine = on_clock(new, self._codec(), self._spool.now() - self._storage.now())
                self._spool.record_end(mine, end, timeout=self._timeout)
                return
            except StorageError as error:
                log.error("the spool does not answer: %s", error)
        self._untold.append((new, end))
        if not away:
            self.tell()

    def tell(self) -> None:
        """The storage answers: store the kept outcomes, within the time that a request may spend."""
        enough = clock.monotonic() + TELLING
        while self._untold and clock.monotonic() < enough:
            try:
                new, end = self._untold.popleft()
            except IndexError:  # another thread was faster
                return
            try:
                self._storage.record_end(new, end, timeout=self._timeout)
            except InstanceRefused as error:
                log.warning("job %s %s: its outcome is not recorded: %s", new.name, new.id, error)
            except StorageError as error:
                self._untold.appendleft((new, end))
                log.debug("the outcomes of jobs are kept until the storage answers: %s", error)
                return


class _Away:
    """Replaces a storage that does not answer during an attempt: its clock runs, and nothing is counted."""

    def __init__(self, created: int, began: float) -> None:
        self._created, self._began = created, began

    def now(self, *, timeout: float = 0.0) -> int:
        return self._created + to_ms(clock.monotonic() - self._began)

    def count(self, key: str, *, limit: int, per: int) -> None:
        """Always allowed."""

    def note_progress(self, *_: str) -> bool:
        """Not recorded."""
        return False
