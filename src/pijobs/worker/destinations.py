"""Updates the group of an attempt in the storage after its outcome, and defers attempts that its limits forbid."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import msgspec

from pijobs.base.clock import Clock, to_ms
from pijobs.base.redact import describe
from pijobs.context import Permit
from pijobs.errors import AttemptDeferred, StorageUnavailable
from pijobs.execution.groups import Policy, after_failure, after_slowdown, after_success, round_of_others
from pijobs.jobs import Job, Limits, State
from pijobs.storage.contract import Storage
from pijobs.storage.records import GroupRecord
from pijobs.storage.values import End, Lease

log = logging.getLogger(__name__)

#: How long an unused destination is remembered (ms): a working one, and one in trouble.
KEEP, KEEP_TROUBLE = 60_000, 600_000
#: After this many seconds, another worker may have changed a policy.
_FRESH = 1.0
#: Seconds between two counts of the workers of all processes.
_COUNT_EVERY = 10.0
_TRIES = 10


@dataclass(frozen=True, slots=True)
class _Known:
    policy: Policy
    read: float
    #: No instance of the group is leased before this time (ms), as far as known.
    blocked_until: int | None = None
    #: How many other instances of the group wait.
    others: int = 0


class Destinations:
    """The groups of the instances that this process runs.

    :param own: number of workers of this process.
    """

    def __init__(self, clock: Clock, own: int) -> None:
        self._clock = clock
        self._own = own
        self._known: dict[tuple[Storage, str], _Known] = {}
        #: Workers, processes, and when they were counted.
        self._counted: dict[Storage, tuple[int, int, float]] = {}

    def permit(self, storage: Storage, lease: Lease) -> Permit:
        """The permit of an attempt that is about to begin."""
        return Permit(partial(self._enter, storage, lease))

    def ended(
        self, storage: Storage, job: Job, lease: Lease, permit: Permit, end: End, *, deadline: int | None = None
    ) -> End:
        """An attempt has ended.

        :param deadline: of the instance (ms).
        :returns: the outcome, with a later next attempt if another instance must try the destination first.
        """
        if permit.slowed is not None:
            self._slowed(storage, lease, permit)
        elif permit.down is not None:
            self.failed(storage, lease, permit.down.retry_after, reason=end.reason)
        elif end.state is State.DONE:
            self.succeeded(storage, permit.limits or job.limits, lease, warning=permit.warning)
        if permit.down is None or end.state is not State.SCHEDULED:
            return end
        return self._behind_others(storage, job, lease, end, deadline)

    def _behind_others(self, storage: Storage, job: Job, lease: Lease, end: End, deadline: int | None) -> End:
        """While the breaker is open, others try first: maybe only this instance makes its destination
        look down. The longer it made no progress, the more others go first."""
        known = self._known.get((storage, lease.group))
        if known is None or not known.policy.opened or known.blocked_until is None or not known.others:
            return end
        held = 0 if lease.held_since is None else storage.now() - lease.held_since
        longest = max(held, to_ms(job.retry.max_delay))
        if deadline is not None:
            longest = min(longest, max(0, deadline - known.blocked_until) // 4)
        due = known.blocked_until + min(longest, round_of_others(known.policy, known.others))
        return end if end.due is not None and due <= end.due else msgspec.structs.replace(end, due=due)

    def succeeded(self, storage: Storage, limits: Limits | None, lease: Lease, *, warning: str | None = None) -> None:
        """The destination worked.

        :param warning: what is wrong anyway; already redacted.
        """

        def decide(policy: Policy) -> tuple[Policy, int | None]:
            workers, now = self._workers(storage), storage.now()
            return after_success(policy, limits, workers=workers, now=now, warning=warning), None

        known = self._recently(storage, lease.group)
        if known is None or decide(known)[0] != known:  # else it is at its bound: nothing to write
            self._change(storage, lease.group, decide)

    def failed(self, storage: Storage, lease: Lease, retry_after: float | None, *, reason: str | None = None) -> None:
        """The destination is down.

        :param retry_after: seconds, if the destination said when to try again.
        :param reason: for people; already redacted.
        """
        pause = None if retry_after is None else to_ms(retry_after)

        def decide(policy: Policy) -> tuple[Policy, int | None]:
            return after_failure(
                policy, now=storage.now(), began=lease.leased, workers=self._workers(storage), retry_after=pause,
                reason=reason,
            )  # fmt: skip

        self._change(storage, lease.group, decide)

    def _slowed(self, storage: Storage, lease: Lease, permit: Permit) -> None:
        down = permit.down
        pause = None if down is None or down.retry_after is None else to_ms(down.retry_after)

        def decide(policy: Policy) -> tuple[Policy, int | None]:
            return after_slowdown(
                policy, now=storage.now(), began=lease.leased, workers=self._workers(storage), down=down is not None,
                retry_after=pause, reason=permit.slowed,
            )  # fmt: skip

        self._change(storage, lease.group, decide)

    def allowed_at(self, storage: Storage, limits: Limits | None, lease: Lease, name: str | None = None) -> int | None:
        """None if the rate allows a start now (which is counted); else the time when it will. The group is blocked
        until then, so that no other instance is leased in vain.

        :param name: the name of the rate counter; None: the group.
        :raises StorageUnavailable:
        """
        if limits is None or limits.rate is None:
            return None
        allowed = storage.count(f"rate {name or lease.group}", limit=limits.rate, per=to_ms(limits.per))
        if allowed is not None:
            self._change(storage, lease.group, lambda policy: (policy, allowed))
        return allowed

    def _enter(self, storage: Storage, lease: Lease, destination: str, limits: Limits) -> int | None:
        """Implements :meth:`pijobs.JobContext.limit`."""
        try:
            if limits.concurrency is not None and not self._has_room(storage, lease.group, limits.concurrency):
                raise AttemptDeferred(f"group {lease.group} is at its limit of {limits.concurrency}")
            if self.allowed_at(storage, limits, lease, destination) is not None:
                raise AttemptDeferred(f"{destination} is at its rate limit")
            return None if limits.concurrency is None else self._share(storage, lease.group, limits.concurrency)
        except StorageUnavailable:
            raise AttemptDeferred(f"the storage did not tell whether the limits of {destination} allow it") from None

    def _has_room(self, storage: Storage, group: str, most: int) -> bool:
        """Whether no more than ``most`` instances of the group run. After that, the storage enforces it."""
        known = self._recently(storage, group)
        if known is not None and known.limit <= most:
            return True
        record = storage.group(group)
        if record is None or record.limit is None:  # the job has no group
            return True
        if record.limit > most:
            self._change(
                storage, group, lambda policy: (msgspec.structs.replace(policy, limit=min(policy.limit, most)), None)
            )
            record = storage.group(group) or record
        else:
            self._known[storage, group] = _Known(_policy(record), self._clock.monotonic())
        return record.running <= most

    def _share(self, storage: Storage, group: str, most: int) -> int:
        """The share of this process, if the destination accepts that much at once."""
        known = self._recently(storage, group)
        ceiling = known.ceiling(storage.now()) if known is not None else None
        return (most if ceiling is None else min(most, ceiling)) // self._processes(storage)

    def _recently(self, storage: Storage, group: str) -> Policy | None:
        """The policy, if it was read a moment ago."""
        known = self._known.get((storage, group))
        return known.policy if known is not None and self._clock.monotonic() - known.read < _FRESH else None

    def _workers(self, storage: Storage) -> int:
        """The number of workers of all processes that give this storage signs of life.

        :raises StorageUnavailable:
        """
        return max(self._count(storage)[0], self._own)

    def _processes(self, storage: Storage) -> int:
        """The number of these processes. :raises StorageUnavailable:"""
        return max(self._count(storage)[1], 1)

    def _count(self, storage: Storage) -> tuple[int, int]:
        workers, processes, counted = self._counted.get(storage, (0, 0, float("-inf")))
        now = self._clock.monotonic()
        if now - counted >= _COUNT_EVERY:
            sessions = storage.sessions()
            workers, processes = sum(record.info.workers for record in sessions), len(sessions)
            self._counted[storage] = workers, processes, now
        return workers, processes

    def _change(self, storage: Storage, group: str, decide: Callable[[Policy], tuple[Policy, int | None]]) -> None:
        """Read, decide, and write if nobody wrote in between. A failure here only means a late reaction."""
        try:
            for _ in range(_TRIES):
                if self._try(storage, group, decide):
                    return
            log.warning("group %s: other workers changed its limit each time that this worker tried to", group)
        except Exception as error:  # also an unexpected record of the group
            log.warning("group %s: its limit could not be written: %s", group, describe(error))

    def _try(self, storage: Storage, group: str, decide: Callable[[Policy], tuple[Policy, int | None]]) -> bool:
        record = storage.group(group)
        before = _policy(record)
        policy, blocked = decide(before)
        present = record.blocked_until if record else None
        # Keep a longer block that another worker set (breaker, rate, a destination's wish).
        closes = before.opened and not policy.opened
        until = blocked if closes else max(filter(None, (present, blocked)), default=None)
        others = record.waiting if record else 0
        self._known[storage, group] = _Known(policy, self._clock.monotonic(), until, others)
        if record and (policy, until, policy.limit) == (before, present, record.limit):
            return True
        version = record.version if record else 0
        if not storage.set_group(
            group, version=version, limit=policy.limit, blocked_until=until, policy=policy.dumps(),
            keep=KEEP_TROUBLE if policy.failures or policy.opened or policy.reason else KEEP,
        ):  # fmt: skip
            return False
        if policy.breaker != before.breaker:
            why = f": {policy.reason}" if policy.reason else ""
            log.warning("group %s: the circuit breaker is %s%s", group, policy.breaker, why)
        return True


def _policy(record: GroupRecord | None) -> Policy:
    """The policy of the record. Without outcomes, it has the limit from the enqueue."""
    if record is None or record.policy or record.limit is None:
        return Policy.loads(record.policy if record else "")
    return Policy(limit=record.limit)
