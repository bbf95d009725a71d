"""Calls that belong to a transaction of the caller: part of it if the queue or an outbox is in the same database,
otherwise enqueued right after the commit.

An outbox is a storage, like the spool. Its instances are moved to the queue's storage, at once by the server that
committed the transaction, otherwise by a worker.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pijobs.base import guard
from pijobs.errors import ConfigurationError
from pijobs.jobs import State
from pijobs.request.calls import Handle, JobCall, Made, Pending
from pijobs.request.spool import Mover
from pijobs.settings import PREFIX
from pijobs.storage.contract import Storage
from pijobs.storage.values import BATCH, NewInstance

if TYPE_CHECKING:
    from pijobs.request.queue import Queue


class Transactions:
    """The transactional calls of one queue."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    @property
    def outbox(self) -> Storage | None:
        """The storage of calls that are part of a transaction, until they are moved; None: there is none."""
        return None if self.mover is None else self.mover.spool

    @cached_property
    def mover(self) -> Mover | None:
        """:raises ConfigurationError: there is no database for the outbox."""
        queue = self._queue
        if queue.mode != "queued" or not queue.settings.outbox or queue.present_storage().display_url == "memory://":
            return None
        from pijobs.storage.sql.outbox import open_outbox

        outbox = open_outbox(queue.settings, queue.settings.name)
        return Mover(outbox, queue.present_storage(), queue.codec, queue.settings.enqueue_timeout, keeps_house=True)

    def within(self, connection: Any, made: Sequence[Made]) -> list[Handle]:
        """See :meth:`pijobs.request.queue.Queue.enqueue`."""
        url = connection.engine.url
        storage = self._queue.present_storage()
        if not storage.is_in(url):
            raise ConfigurationError(
                f"connection: expected one to the database of the queue, {storage.display_url}, found one to "
                f"{url.render_as_string()}; 'enqueue_on_commit' takes a session of any database"
            )
        guard.before_storing(self._queue)
        return self._join(storage, connection, [self._queue.pending(*one) for one in made])

    def on_commit(self, session: Any, call: JobCall) -> Handle:
        """See :meth:`pijobs.request.queue.Queue.enqueue_on_commit`."""
        from pijobs.request import commits

        given, queue, session = session, self._queue, commits.plain(session)
        made = queue.checked(call)
        if queue.mode != "queued":
            commits.add(session, self._run, call)
            return Handle(secrets.token_hex(16), State.QUEUED, via="commit")
        guard.before_storing(queue)
        one = queue.pending(*made)
        if (storage := self._part_of(session)) is None:
            commits.add(session, self._store, one)
            state = State.QUEUED if one.new.due is None else State.SCHEDULED
            return Handle(one.new.id, state, via="commit", places=lambda: queue.places, reads=queue.result)
        if storage is self.outbox and one.on_conflict != "replace":
            found = f"found {one.on_conflict!r}"
            raise ValueError(f"job {call.name!r}: expected on_conflict='replace', where an outbox is used; {found}")
        if hasattr(given, "sync_session"):  # its statements run only in run_sync
            raise ConfigurationError(
                f"job {call.name!r}: the call is part of the transaction, and asks the database; with an AsyncSession "
                "write 'await session.run_sync(lambda plain: ….enqueue_on_commit(plain, …))'"
            )
        [handle] = self._join(storage, session.connection(), [one])
        if storage is self.outbox:
            commits.add(session, self._carry, one.new)
        return handle

    def _part_of(self, session: Any) -> Storage | None:
        """The storage that can store a call in the session's transaction; None: there is none."""
        url = session.get_bind().engine.url
        storage, outbox = self._queue.present_storage(), self.outbox
        if storage.is_in(url):
            return storage
        if outbox is None or outbox.is_in(url):
            return outbox
        raise ConfigurationError(
            f"session: expected one of the database of {PREFIX}OUTBOX, {outbox.display_url}, found one of "
            f"{url.render_as_string()}"
        )

    def _join(self, storage: Storage, connection: Any, pending: Sequence[Pending]) -> list[Handle]:
        self._queue.enqueuer.refuse_full({one.new.name for one in pending})
        handles = []
        for start in range(0, len(pending), BATCH):
            batch = pending[start : start + BATCH]
            stored = storage.enqueue_within(connection, [(one.new, one.on_conflict) for one in batch])
            handles += [self._queue.stored(one.new, told, "commit") for one, told in zip(batch, stored, strict=True)]
        return handles

    # -- after a commit --------------------------------------------------------------------------------------------

    def _run(self, calls: list[JobCall]) -> None:
        self._queue.enqueue_many(calls)

    def _store(self, pending: list[Pending]) -> None:
        self._queue.enqueuer.store(pending)

    def _carry(self, batch: list[NewInstance]) -> None:
        if self.mover is not None and self._queue.outage.since is None:
            self.mover.carry(batch)
