"""Tells the storage what the outcome of an attempt means for its group, and holds back what its rate forbids."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from pijobs.clock import Clock, to_ms
from pijobs.errors import StorageUnavailable
from pijobs.groups import Policy, after_failure, after_success
from pijobs.jobs import Job
from pijobs.storage.contract import GroupRecord, Lease, Storage

log = logging.getLogger(__name__)

#: A policy read longer ago (seconds) may have been changed by another worker.
_FRESH = 1.0
_TRIES = 5


@dataclass(frozen=True, slots=True)
class _Known:
    policy: Policy
    read: float


class Destinations:
    """The groups that this process works for.

    :param workers: tells how many workers share the queue.
    """

    def __init__(self, clock: Clock, workers: Callable[[], int]) -> None:
        self._clock = clock
        self._workers = workers
        self._known: dict[tuple[Storage, str], _Known] = {}

    def succeeded(self, storage: Storage, job: Job, lease: Lease) -> None:
        """The destination did what was asked."""
        known = self._known.get((storage, lease.group))
        fresh = known is not None and self._clock.monotonic() - known.read < _FRESH
        if fresh and known and after_success(known.policy, job.limits) == known.policy:
            return  # at its bound already: nothing to write
        self._change(storage, lease.group, lambda policy: (after_success(policy, job.limits), None))

    def failed(self, storage: Storage, lease: Lease, retry_after: float | None, *, reason: str | None = None) -> None:
        """The destination is down.

        :param retry_after: seconds, if it said when to come back.
        :param reason: for people; redacted already.
        """
        pause = None if retry_after is None else to_ms(retry_after)
        self._change(
            storage,
            lease.group,
            lambda policy: after_failure(
                policy, now=storage.now(), workers=self._workers(), retry_after=pause, reason=reason
            ),
        )

    def allowed_at(self, storage: Storage, job: Job, lease: Lease) -> int | None:
        """None if the group's rate allows a start now (which is counted); else when it will. The group is blocked
        until then, so that nothing else of it is leased in vain."""
        if job.limits is None or job.limits.rate is None:
            return None
        allowed = storage.count(f"rate {lease.group}", limit=job.limits.rate, per=to_ms(job.limits.per))
        if allowed is not None:
            self._change(storage, lease.group, lambda policy: (policy, allowed))
        return allowed

    def _change(self, storage: Storage, group: str, decide: Callable[[Policy], tuple[Policy, int | None]]) -> None:
        """Read, decide, and write if nobody wrote in between. A failure here costs no more than a late reaction."""
        try:
            for _ in range(_TRIES):
                record = storage.group(group)
                before = Policy.loads(record.policy if record else "")
                policy, blocked = decide(before)
                self._known[storage, group] = _Known(policy, self._clock.monotonic())
                if record and policy == before and blocked is None and record.limit == policy.limit:
                    return
                if self._write(storage, group, record, policy, blocked):
                    if policy.breaker != before.breaker:
                        log.warning("group %s: the circuit breaker is %s", group, policy.breaker)
                    return
        except StorageUnavailable as error:
            log.warning("group %s: its limit could not be written: %s", group, error)

    @staticmethod
    def _write(storage: Storage, group: str, record: GroupRecord | None, policy: Policy, blocked: int | None) -> bool:
        return storage.set_group(
            group,
            version=record.version if record else 0,
            limit=policy.limit,
            blocked_until=blocked,
            policy=policy.dumps(),
        )
