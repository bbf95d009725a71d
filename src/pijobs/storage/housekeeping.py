"""The pace of housekeeping: slices, while there is work and time for it. A slice holds the storage for
:data:`LONGEST_SLICE` at most, so that no enqueue waits for it. Its size follows from the time that the last one took.
Removing a record takes less time than running its job, so housekeeping keeps up with any inflow.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from pijobs.base import clock
from pijobs.errors import StorageUnavailable
from pijobs.storage.records import Audit
from pijobs.storage.values import Ended

log = logging.getLogger(__name__)

#: Seconds that one slice should hold the storage, at most.
LONGEST_SLICE = 0.005
#: Seconds that one sign of life spends on housekeeping, at most, and the share of the lease.
LONGEST, SHARE = 1.0, 6
#: Seconds that one sign of life spends on the audit.
AUDIT_TIME = 0.02
FEWEST, FIRST, MOST = 5, 25, 100


@dataclass(frozen=True, slots=True)
class Slice:
    """What one slice did."""

    more: bool
    ended: list[Ended] = field(default_factory=list)


class Housekeeping:
    """The pace of one process at one storage.

    :param tidy: does up to so many of each kind.
    :param audit: does the next part of the audit, and repairs; see :meth:`pijobs.storage.contract.Storage.check`.
    """

    def __init__(self, tidy: Callable[[int], Slice], audit: Callable[[], Audit] = lambda: Audit(last=True)) -> None:
        self._tidy = tidy
        self._audit = audit
        self._size = FIRST

    def keep(self, lease: int) -> list[Ended]:
        """Do at least one slice.

        :param lease: of the session (ms): its next sign of life must not come late.
        """
        ended: list[Ended] = []
        try:
            self._tidy_up(ended, lease)
            ended += self._audit_on()
        except StorageUnavailable as error:
            # The sign of life is already stored; the next one reports the outage.
            log.debug("housekeeping waits for the next sign of life: %s", error)
        return ended

    def _audit_on(self) -> list[Ended]:
        ended: list[Ended] = []
        end = clock.monotonic() + AUDIT_TIME
        while True:
            audit = self._audit()
            for fault in audit.faults:
                log.warning("the storage held what does not fit, which is mended: %s: %s", fault.id, fault.what)
            ended += audit.ended
            if audit.last or clock.monotonic() >= end:
                return ended

    def _tidy_up(self, ended: list[Ended], lease: int) -> None:
        end = clock.monotonic() + min(LONGEST, lease / 1000 / SHARE)
        while True:
            began = clock.monotonic()
            done = self._tidy(self._size)
            ended += done.ended
            self._learn(clock.monotonic() - began)
            if not done.more or clock.monotonic() >= end:
                return

    def _learn(self, took: float) -> None:
        """The time includes the network, so slices are rather too small than too large."""
        if took > LONGEST_SLICE * 0.8:
            self._size = max(FEWEST, self._size // 2)
        elif took < LONGEST_SLICE * 0.3:
            self._size = min(MOST, self._size * 2)
