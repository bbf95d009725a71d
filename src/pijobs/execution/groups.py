"""The policy of a group: how many of its instances may run at once, and when its circuit breaker opens. Pure.

The storage enforces two numbers, ``running < limit`` and ``now >= blocked_until``; this module computes both after each
outcome. A group begins with a small limit, gains one per success up to its bound, and is halved when its destination
fails. After :data:`OPEN_AFTER` failures in a row the breaker opens: nothing runs for a while that doubles each time;
then a single instance probes (half-open), and its outcome closes the breaker or opens it again.

A destination that says "too many at once" is not down: the limit is halved. From there it may grow by one in
:data:`REGAIN`, even if attempts fail in between. A destination that accepts nothing at a limit of one is down.

An unproven group (no success since its last failure) holds at most a fifth of the workers, so that a hanging
destination cannot take them all. A proven one leaves a fifth of the workers to the others, because it may begin to
hang with all workers that it holds. If there are fewer than five workers, it may have all of them.

Many attempts may fail together when the destination goes down under them. Those that began before the breaker opened
contain no new information; only a probe makes its pause longer.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from pijobs.jobs import Limits

START = 2
OPEN_AFTER = 3
#: First and longest time that an open breaker blocks (ms).
OPEN_FIRST, OPEN_LONGEST = 5_000, 60_000
#: How many other instances try a destination before an instance that found it down tries again.
MOST_OTHERS = 50
#: Time after which the limit of a slowed group may grow by one (ms).
REGAIN = 5_000
#: Bound of a group without limits.
DEFAULT_BOUND = 64
#: An unproven group may hold one worker in this many; a proven one leaves one in this many to the others.
SHARE = 5

Breaker = Literal["closed", "open"]


_Limit = Annotated[int, msgspec.Meta(ge=1, le=2**31)]
_Number = Annotated[int, msgspec.Meta(ge=0, le=2**31)]
#: ms on the storage's clock.
_Moment = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class Policy(msgspec.Struct, frozen=True):
    """The state of a group between two outcomes."""

    limit: _Limit = START
    #: Failures of the destination in a row.
    failures: _Number = 0
    #: How many times in a row the breaker opened.
    opened: _Number = 0
    #: Start of its failure (ms on the storage's clock); 0: it works, or an older release recorded the start.
    since: _Moment = 0
    #: When the breaker last opened (ms).
    opened_at: _Moment = 0
    proven: bool = False
    #: The last failure, or the last warning, in words without secrets.
    reason: str | None = None
    #: The limit after the last slowdown, the time of it (ms), and the reason.
    slowed_to: _Limit | None = None
    slowed_at: _Moment = 0
    slowed_reason: str | None = None

    @property
    def breaker(self) -> Breaker:
        """An open breaker whose time is over is half-open: its limit is 1 until the probe has ended."""
        return "open" if self.opened else "closed"

    def ceiling(self, now: int) -> int | None:
        """The present limit after a slowdown (now in ms); None: there was none."""
        return None if self.slowed_to is None else self.slowed_to + max(0, now - self.slowed_at) // REGAIN

    def dumps(self) -> str:
        return msgspec.json.encode(self).decode()

    @classmethod
    def loads(cls, text: str) -> Policy:
        """The policy from the storage. A missing or unreadable text, such as one that another release wrote, gives a
        new policy. Unknown names are ignored."""
        try:
            return msgspec.json.decode(text, type=cls) if text else cls()
        except msgspec.DecodeError:
            return cls()


#: How the text of a policy ends if nothing is wrong with its group, whatever its limit.
HEALTHY = Policy(proven=True).dumps().partition(",")[2]


def start_limit(limits: Limits | None) -> int:
    """The limit of a new group."""
    return min(START, bound(limits))


def bound(limits: Limits | None) -> int:
    """The highest limit that the group may reach."""
    return limits.concurrency if limits is not None and limits.concurrency is not None else DEFAULT_BOUND


def after_success(
    policy: Policy, limits: Limits | None, *, workers: int, now: int, warning: str | None = None
) -> Policy:
    """The limit grows by one. A breaker closes, and the group starts again.

    :param workers: number of workers that share the queue, as far as known.
    :param warning: a warning about the destination, in words without secrets.
    """
    most = min(max(START, workers - workers // SHARE), bound(limits))
    limit = min(start_limit(limits) if policy.opened else policy.limit + 1, most)
    ceiling = policy.ceiling(now)
    if ceiling is None or ceiling >= most:
        return Policy(limit=limit, proven=True, reason=warning)
    reason = warning or policy.slowed_reason
    return msgspec.structs.replace(
        policy, limit=min(limit, ceiling), failures=0, since=0, opened=0, opened_at=0, proven=True, reason=reason
    )


def after_failure(
    policy: Policy, *, now: int, began: int, workers: int, retry_after: int | None = None, reason: str | None = None
) -> tuple[Policy, int | None]:
    """The policy, and until when the group is blocked (ms; None: no change).

    :param began: when the attempt began (ms).
    :param workers: number of workers that share the queue, as far as known.
    :param retry_after: ms after which the destination wants another attempt, if it said so.
    :param reason: what is wrong with it, in words without secrets.
    """
    if policy.opened and began < policy.opened_at:
        return policy, None
    unproven = max(1, workers // SHARE)
    failures, since = policy.failures + 1, policy.since if policy.failures else now
    if failures < OPEN_AFTER and not policy.opened:
        limit = max(1, min(policy.limit // 2, unproven))
        failed = msgspec.structs.replace(
            policy, limit=limit, failures=failures, since=since, proven=False, reason=reason
        )
        return failed, None if retry_after is None else now + retry_after
    pause = pause_of(policy.opened)
    times = policy.opened + 1
    opened = msgspec.structs.replace(
        policy, limit=1, failures=failures, since=since, opened=times, opened_at=now, proven=False, reason=reason
    )
    return opened, now + max(pause, retry_after or 0)


def pause_of(opened: int) -> int:
    """How long an open breaker blocks (ms), after it opened this many times in a row."""
    return int(min(OPEN_FIRST * 2 ** min(opened, 10), OPEN_LONGEST))


def round_of_others(policy: Policy, others: int) -> int:
    """The time (ms) in which this many others try a destination that stays down, one after the other."""
    return sum(pause_of(policy.opened + number) for number in range(min(others, MOST_OTHERS)))


def after_slowdown(
    policy: Policy, *, now: int, began: int, workers: int, down: bool, retry_after: int | None = None,
    reason: str | None = None,
) -> tuple[Policy, int | None]:  # fmt: skip
    """The policy after a slowdown; arguments and result as in :func:`after_failure`.

    :param down: whether it accepted nothing of this attempt.
    """
    if policy.slowed_to is not None and began < policy.slowed_at:
        return policy, None
    if down and (policy.opened or policy.limit == 1):
        return after_failure(policy, now=now, began=began, workers=workers, retry_after=retry_after, reason=reason)
    limit = max(1, policy.limit // 2)
    slowed = msgspec.structs.replace(
        policy, limit=limit, reason=reason, slowed_to=limit, slowed_at=now, slowed_reason=reason
    )
    return slowed, None if retry_after is None else now + retry_after
