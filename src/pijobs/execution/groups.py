"""The policy of a group: how many of its instances may run at once, and when its circuit breaker opens. Pure.

The storage enforces two numbers, ``running < limit`` and ``now >= blocked_until``; this module computes both after each
outcome. A group begins with a small limit, gains one per success up to its bound, and is halved when its destination
fails. After :data:`OPEN_AFTER` failures in a row the breaker opens: nothing runs for a while that doubles each time;
then a single instance probes (half-open), and its outcome closes the breaker or opens it again.

A destination that says "too many at once" is not down: the limit is halved, and from there it may grow by one in
:data:`REGAIN`, also when it fails in between. At a limit of one, a destination that takes nothing is down.

An unproven group (no success since its last failure) holds at most a fifth of the workers, so that a destination
that hangs cannot take them all. A proven one leaves a fifth of them to the others, since it may begin to hang with all
that it holds; of fewer than five workers it may have each.

Many attempts may fail together because the destination went down under them. Those that began before the breaker
opened tell nothing new; only a probe makes its pause longer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

import msgspec

from pijobs.jobs import Limits

START = 2
OPEN_AFTER = 3
#: First and longest time that an open breaker blocks (ms).
OPEN_FIRST, OPEN_LONGEST = 5_000, 60_000
#: Others that may each try a destination before an instance that found it down tries again.
MOST_OTHERS = 50
#: Time in which a group that was slowed down may gain one more (ms).
REGAIN = 5_000
#: Bound of a group whose job names none.
DEFAULT_BOUND = 64
#: One of so many workers is what an unproven group may hold, and what a proven one leaves to the others.
SHARE = 5

Breaker = Literal["closed", "open"]


_Limit = Annotated[int, msgspec.Meta(ge=1, le=2**31)]
_Number = Annotated[int, msgspec.Meta(ge=0, le=2**31)]
#: ms on the storage's clock.
_Moment = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


@dataclass(frozen=True, slots=True)
class Policy:
    """What is remembered of a group between two outcomes."""

    limit: _Limit = START
    #: Failures of the destination in a row.
    failures: _Number = 0
    #: How often in a row the breaker opened.
    opened: _Number = 0
    #: Since when it fails (ms on the storage's clock); 0: it does not, or an older release saw it begin.
    since: _Moment = 0
    #: When it last opened (ms).
    opened_at: _Moment = 0
    proven: bool = False
    #: What the last failure was, or what is wrong all the same, in words without secrets.
    reason: str | None = None
    #: The limit after the destination last wanted fewer at once, when that was (ms), and why.
    slowed_to: _Limit | None = None
    slowed_at: _Moment = 0
    slowed_reason: str | None = None

    @property
    def breaker(self) -> Breaker:
        """An open breaker whose time is over is half-open: its limit is 1 until the probe has ended."""
        return "open" if self.opened else "closed"

    def ceiling(self, now: int) -> int | None:
        """The limit that a destination which wanted fewer at once is given by now (ms); None: it never did."""
        return None if self.slowed_to is None else self.slowed_to + max(0, now - self.slowed_at) // REGAIN

    def dumps(self) -> str:
        return msgspec.json.encode(self).decode()

    @classmethod
    def loads(cls, text: str) -> Policy:
        """The policy kept by the storage; a fresh one for a text that is not there or not understood, such as one that
        another release wrote. Names that are not known are left out."""
        try:
            return msgspec.json.decode(text, type=cls) if text else cls()
        except msgspec.DecodeError:
            return cls()


def start_limit(limits: Limits | None) -> int:
    """The limit of a group that nobody has seen yet."""
    return min(START, bound(limits))


def bound(limits: Limits | None) -> int:
    """The highest limit that the group may ever reach."""
    return limits.concurrency if limits is not None and limits.concurrency is not None else DEFAULT_BOUND


def after_success(
    policy: Policy, limits: Limits | None, *, workers: int, now: int, warning: str | None = None
) -> Policy:
    """One more may run; a breaker closes, and the group begins anew.

    :param workers: number of workers that share the queue, as far as known.
    :param warning: what is wrong all the same, in words without secrets.
    """
    most = min(max(START, workers - workers // SHARE), bound(limits))
    limit = min(start_limit(limits) if policy.opened else policy.limit + 1, most)
    ceiling = policy.ceiling(now)
    if ceiling is None or ceiling >= most:
        return Policy(limit=limit, proven=True, reason=warning)
    reason = warning or policy.slowed_reason
    return replace(
        policy, limit=min(limit, ceiling), failures=0, since=0, opened=0, opened_at=0, proven=True, reason=reason
    )


def after_failure(
    policy: Policy, *, now: int, began: int, workers: int, retry_after: int | None = None, reason: str | None = None
) -> tuple[Policy, int | None]:
    """The policy, and until when the group is blocked (ms; None: no longer than it is).

    :param began: when the attempt began (ms).
    :param workers: number of workers that share the queue, as far as known.
    :param retry_after: ms after which the destination wants to be asked again, if it said so.
    :param reason: what is wrong with it, in words without secrets.
    """
    if policy.opened and began < policy.opened_at:
        return policy, None
    unproven = max(1, workers // SHARE)
    failures, since = policy.failures + 1, policy.since if policy.failures else now
    if failures < OPEN_AFTER and not policy.opened:
        limit = max(1, min(policy.limit // 2, unproven))
        failed = replace(policy, limit=limit, failures=failures, since=since, proven=False, reason=reason)
        return failed, None if retry_after is None else now + retry_after
    pause = pause_of(policy.opened)
    times = policy.opened + 1
    opened = replace(
        policy, limit=1, failures=failures, since=since, opened=times, opened_at=now, proven=False, reason=reason
    )
    return opened, now + max(pause, retry_after or 0)


def pause_of(opened: int) -> int:
    """How long an open breaker blocks (ms), after it opened so often in a row."""
    return int(min(OPEN_FIRST * 2 ** min(opened, 10), OPEN_LONGEST))


def round_of_others(policy: Policy, others: int) -> int:
    """How long it takes (ms) until so many others have tried a destination that stays down, one after the other."""
    return sum(pause_of(policy.opened + number) for number in range(min(others, MOST_OTHERS)))


def after_slowdown(
    policy: Policy, *, now: int, began: int, workers: int, down: bool, retry_after: int | None = None,
    reason: str | None = None,
) -> tuple[Policy, int | None]:  # fmt: skip
    """The policy after the destination wanted fewer at once; arguments and result as of :func:`after_failure`.

    :param down: whether it took nothing of this attempt.
    """
    if policy.slowed_to is not None and began < policy.slowed_at:
        return policy, None
    if down and (policy.opened or policy.limit == 1):
        return after_failure(policy, now=now, began=began, workers=workers, retry_after=retry_after, reason=reason)
    limit = max(1, policy.limit // 2)
    slowed = replace(policy, limit=limit, reason=reason, slowed_to=limit, slowed_at=now, slowed_reason=reason)
    return slowed, None if retry_after is None else now + retry_after
