"""Ends of attempts that the storage does not take as they are."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from pijobs.base.redact import describe
from pijobs.errors import StorageUnavailable
from pijobs.jobs import State
from pijobs.storage.values import End
from pijobs.worker.session import Session

log = logging.getLogger("pijobs.job")


def store_one_by_one(session: Session, ends: Sequence[End]) -> None:
    """An end that the storage can't take keeps neither the others nor the worker: it is stored without what was to
    be told of it, and if that fails, too, it counts as a crash.

    :raises StorageUnavailable:
    """
    for end in ends:
        for way in (end, _bare(end)):
            try:
                session.step([way], want=0)
                break
            except StorageUnavailable:
                raise
            except Exception as error:
                log.error("job %s: its end could not be stored: %s", end.id, describe(error))
        else:
            session.abandon(end.id, end.token)


def _bare(end: End) -> End:
    """The same end without what was to be told of it."""
    # Without its new arguments another attempt would do the old work again.
    state = State.DEAD if end.body is not None else end.state
    reason = "how it ended could not be stored as it was"
    return End(end.id, end.token, state, counted=end.counted, due=end.due, reason=reason, error="Unstorable")
