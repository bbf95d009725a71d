"""The leases that a worker process holds.

A lease counts from the moment it was requested, on this host's monotonic clock. So a process that was frozen knows when
it wakes up that its leases have ended, before it asks the storage: :meth:`HeldLeases.holds`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import msgspec

from pijobs.base import threads
from pijobs.base.clock import Clock
from pijobs.context import Permit
from pijobs.storage.sessions import Beat, SessionInfo
from pijobs.storage.values import End, Lease

#: How many unknown, returned leases are remembered, in case the answer with them comes late.
_DISOWNED = 1000


class Held(msgspec.Struct, frozen=True):
    """A lease, until when its attempt may run (monotonic seconds), and its permit."""

    lease: Lease
    #: Id of the session that it was leased to.
    session: str
    limit: float | None = None
    permit: Permit | None = None
    #: The storage has given it to another worker.
    lost: bool = False

    @property
    def irrevocable(self) -> bool:
        return self.permit is not None and self.permit.once


class HeldLeases:
    """The leases of one process at one storage."""

    def __init__(self, info: SessionInfo, clock: Clock) -> None:
        self.info = info
        self._clock = clock
        self._held: dict[str, Held] = {}
        self._abandoned: list[tuple[str, str]] = []
        #: Leases of this session that this process did not run, at the last sign of life.
        self._unknown: set[tuple[str, str]] = set()
        self._disowned: deque[str] = deque(maxlen=_DISOWNED)
        self._lock = threads.Lock()
        #: When the leases end unless the next sign of life is answered (monotonic seconds).
        self._until = float("-inf")

    def begin(self, lease: Lease, timeout: float | None, permit: Permit | None = None) -> None:
        """An attempt begins. Renew its lease for at most ``timeout`` seconds (None: no limit). After that its instance
        goes back."""
        limit = None if timeout is None else self._clock.monotonic() + timeout
        with self._lock:
            if held := self._held.get(lease.token):
                self._held[lease.token] = Held(held.lease, held.session, limit, permit, held.lost)

    def finish(self, lease: Lease) -> None:
        """The attempt has ended in time. Renew its lease until the storage can store the outcome."""
        with self._lock:
            held = self._held.get(lease.token)
            if held is not None and held.limit is not None:
                self._held[lease.token] = msgspec.structs.replace(held, limit=None)

    def holds(self, lease: Lease) -> bool:
        """Whether this process may still run the instance, as far as it knows without asking the storage."""
        held = self._held.get(lease.token)  # a single read needs no lock
        if held is None or held.lost or held.session != self.info.id:
            return False
        return self._clock.monotonic() < self._until

    def interrupted(self, lease: Lease) -> bool:
        """An attempt was interrupted. Returns whether that counts as a crash, because the effect may have happened and
        must not happen twice. Such a crash is reported to the storage here."""
        with self._lock:
            held = self._held.get(lease.token)
            if held is None or not held.irrevocable:
                return False
            del self._held[lease.token]
            self._abandoned.append((lease.id, lease.token))
        return True

    def abandon(self, instance_id: str, token: str) -> None:
        """Give up a lease whose outcome can't be stored. It counts as a crash, reported with the next sign of life."""
        with self._lock:
            if self._held.pop(token, None) is not None:
                self._abandoned.append((instance_id, token))

    def _cut_off(self) -> list[tuple[str, str]]:
        """The leases that count as a crash if the session ends now."""
        with self._lock:
            return [
                *self._abandoned,
                *((one.lease.id, one.lease.token) for one in self._held.values() if one.irrevocable),
            ]

    @property
    def running(self) -> list[Lease]:
        """The leases that this process holds."""
        with self._lock:
            return [held.lease for held in self._held.values()]

    def _took(self, ends: Sequence[End], leases: Sequence[Lease], session: str) -> list[Lease]:
        """Some outcomes were stored, and these leases came. Returns the leases without those that were disowned.

        :param session: the session that asked; another one may be open meanwhile.
        """
        with self._lock:
            for end in ends:
                self._held.pop(end.token, None)
            accepted = [lease for lease in leases if lease.token not in self._disowned]
            for lease in accepted:
                self._held[lease.token] = Held(lease, session)
        return accepted

    def _drop(self, leases: Sequence[Lease]) -> None:
        with self._lock:
            for lease in leases:
                self._held.pop(lease.token, None)

    def _tokens(self, session: str) -> list[str]:
        with self._lock:
            return [token for token, held in self._held.items() if held.session == session]

    def _compare(self, beat: Beat, before: Sequence[str], abandoned: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
        """Compare these leases with those that the storage has. Returns what did not run here twice in a row.

        :param before: the tokens that this process held when it asked.
        """
        with self._lock:
            self._abandoned = [pair for pair in self._abandoned if pair not in abandoned]
            tokens = {token for _, token in beat.held}
            for token in before:
                if token in self._held and token not in tokens:
                    self._held[token] = msgspec.structs.replace(self._held[token], lost=True)
            unknown = {(instance_id, token) for instance_id, token in beat.held if token not in self._held}
            twice, self._unknown = unknown & self._unknown, unknown
            self._disowned.extend(token for _, token in twice)
        return twice

    def _take_stuck(self) -> list[Lease]:
        """Give up the leases of attempts that ran past their timeout."""
        now = self._clock.monotonic()
        with self._lock:
            stuck = [held.lease for held in self._held.values() if held.limit is not None and held.limit <= now]
            for lease in stuck:
                del self._held[lease.token]
                self._abandoned.append((lease.id, lease.token))
        return stuck

    def _limits(self) -> list[float]:
        """Seconds until attempts run past their timeouts."""
        with self._lock:
            limits = [held.limit for held in self._held.values() if held.limit is not None]
        return [limit - self._clock.monotonic() for limit in limits]
