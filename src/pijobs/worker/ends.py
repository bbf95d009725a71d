"""Outcomes of attempts that the storage can't store as they are."""

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
    """Store outcomes one by one, so that one that can't be stored blocks neither the others nor the worker. Such an
    outcome is stored without its details. If that fails, too, it counts as a crash.

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
                log.error("job %s: its outcome could not be stored: %s", end.id, describe(error))
        else:
            session.abandon(end.id, end.token)


def _bare(end: End) -> End:
    """The same outcome without its details."""
    # Without its new arguments, another attempt would do the old work again.
    state = State.DEAD if end.body is not None else end.state
    reason = "its outcome could not be stored with its details"
    return End(end.id, end.token, state, counted=end.counted, due=end.due, reason=reason, error="Unstorable")
