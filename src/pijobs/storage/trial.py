"""One complete life of test instances, to find out whether the queue can use a storage. It uses everything once, before
the first job depends on it, and so finds a server that is too old, a user without a right, or a read-only replica. Each
storage uses a separate place for this, and leaves nothing behind.
"""

from __future__ import annotations

import json
from typing import Any

from pijobs.base import clock
from pijobs.errors import StorageUnavailable, StorageUnfit
from pijobs.jobs import State
from pijobs.storage.contract import Storage
from pijobs.storage.sessions import SessionInfo
from pijobs.storage.values import End, NewInstance

#: Names in a trial.
JOB, GROUP, SESSION, TOTAL = "pijobs.trial", "trial", "trial-session", "trial"
IDS = tuple(f"trial-{number}" for number in range(6))
#: Milliseconds, longer than any trial.
LONG = 600_000


#: Seconds for which the outcome of a trial is valid.
BELIEVED = 60.0


class Fitness:
    """Whether a storage can be used, found out by trials, which run no more often than needed.

    :param storage: None: no trial is needed.
    """

    def __init__(self, storage: Storage | None) -> None:
        self._storage = storage
        self._tried = float("-inf")
        self._trouble: StorageUnavailable | None = None

    def require(self, *, anew: bool = True) -> None:
        """:param anew: whether to run a trial when it is due, which may take seconds.
        :raises StorageUnavailable: when the last trial failed; see :meth:`Storage.try_out`.
        """
        if not anew:
            if self._trouble is not None:
                raise self._trouble
            return
        now = clock.monotonic()
        # After a failure, try again at once, because it may be repaired.
        if self._storage is not None and (self._trouble is not None or now - self._tried >= BELIEVED):
            self._tried, self._trouble = now, None
            try:
                self._storage.try_out()
            except StorageUnavailable as error:
                self._trouble = error
                raise


def live_once(storage: Storage, *, timeout: float = 10.0) -> None:
    """Everything that servers, workers and people ask of a storage, once.

    :param timeout: seconds for each enqueue.
    :raises StorageUnfit: if an answer of the storage is wrong.
    :raises StorageUnavailable: as the storage raises it.
    """
    life = _Life(storage, timeout)
    life.of_a_server()
    life.of_a_worker()
    life.of_people()
    life.of_a_spool()
    storage.close_session(SESSION)


def enqueue_once(storage: Storage, *, timeout: float) -> None:
    """The first step of a life: the part of a server.

    :raises StorageUnavailable: as the storage raises it.
    """
    _Life(storage, timeout).enqueue(IDS[0], deadline=LONG, key="trial", subject="trial", limit=1)


class _Life:
    def __init__(self, storage: Storage, timeout: float) -> None:
        self._storage = storage
        self._timeout = timeout
        self._created = storage.now()

    def of_a_server(self) -> None:
        storage = self._storage
        info = SessionInfo(
            id=SESSION, host="", pid=0, started=storage.now(), version="", worker_type="thread", workers=1,
            keys=(), jobs=(),
        )  # fmt: skip
        storage.open_session(info, lease=LONG)
        self.enqueue(IDS[0], deadline=LONG, key="trial", subject="trial", limit=10)
        self.enqueue(IDS[1], key="trial")
        _must(storage.get(IDS[0]).state is State.CANCELLED, "a newer instance replaces the one with its key")
        self.enqueue(IDS[2], due=LONG)
        due = storage.now()
        _must(storage.enqueue_periodic(self._new(IDS[3], priority=5), due=due), "a periodic instance is stored")
        _must(storage.last_periodic(JOB) == due, "the due time of a periodic job is kept")

    def of_a_worker(self) -> None:
        storage = self._storage
        storage.wait(0.01)
        leases = storage.step(SESSION, (), want=2).leases
        _must([lease.id for lease in leases] == [IDS[3], IDS[1]], "what waits is leased in its order")
        _must(storage.beat(SESSION, lease=LONG).alive, "a session lives after its sign of life")
        entry = json.dumps({"at": storage.now(), "error": "trial"})
        ends = [
            End(IDS[3], leases[0].token, State.DONE),
            End(IDS[1], leases[1].token, State.SCHEDULED, due=storage.now() + LONG, reason="trial", entry=entry),
        ]
        _must(not storage.step(SESSION, ends, want=0).lost, "leases that are held can be ended")
        group = storage.group(GROUP)
        version = group.version if group else 0
        _must(storage.set_group(GROUP, version=version, limit=5, blocked_until=None, policy="{}"), "a limit is kept")
        _must(storage.count("trial", limit=1, per=LONG) is None, "one event is counted")
        storage.add_totals({TOTAL: 1.0})
        _must(storage.totals().get(TOTAL) == 1.0, "totals are kept")

    def of_people(self) -> None:
        storage = self._storage
        storage.pause()
        storage.resume()
        storage.pause(GROUP)
        storage.resume(GROUP)
        storage.cancel(IDS[1], reason="trial")
        self.enqueue(IDS[4])
        lease = storage.step(SESSION, (), want=1).leases[0]
        storage.step(SESSION, [End(IDS[4], lease.token, State.DEAD, reason="trial")], want=0)
        storage.retry(IDS[4])
        _must(storage.body(IDS[4]) == b"body", "a body comes back as it was stored")
        storage.remove(IDS[3])
        storage.page(State.QUEUED, name=JOB)
        storage.page(State.CANCELLED, subject="trial")
        storage.page(State.SCHEDULED, group=GROUP)
        _must(storage.depths().counts.get((JOB, State.QUEUED)) == 1, "what waits is counted")
        _must([record.info.id for record in storage.sessions()] == [SESSION], "sessions are listed")
        _must([record.name for record in storage.groups()] == [GROUP], "groups are listed")

    def of_a_spool(self) -> None:
        storage = self._storage
        self.enqueue(IDS[5])
        _must(IDS[5] in [one.id for one in storage.take_out(5, hold=LONG)], "what waits can be taken out")
        storage.forget([IDS[5]])

    def enqueue(self, instance_id: str, **more: Any) -> None:
        stored = self._storage.enqueue(self._new(instance_id, **more), timeout=self._timeout)
        _must(stored.fresh, "an instance is stored")

    def _new(self, id: str, *, deadline: int | None = None, due: int | None = None, **more: Any) -> NewInstance:
        # Of two with one key the newer stays. They need different milliseconds, and an estimated time may go back.
        self._created += 1
        now = self._created
        return NewInstance(
            id=id, name=JOB, envelope=b"envelope", body=b"body", group=GROUP, created=now,
            deadline=None if deadline is None else now + deadline, due=None if due is None else now + due, **more,
        )  # fmt: skip


def _must(happened: bool, what: str) -> None:
    if not happened:
        raise StorageUnfit(f"the storage can't be used: expected in a trial that {what}, found otherwise")
