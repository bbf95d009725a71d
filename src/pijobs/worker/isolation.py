"""Runs an instance whose worker crashed before alone in its process.

When a job kills its worker, all jobs that ran with it are suspects. Each of them runs alone from then on. So the next
crash shows which job it was, and that job affects no others.
"""

from __future__ import annotations

from collections.abc import Callable

from pijobs.base import clock, threads

#: Seconds that a suspect waits for the running jobs of its process to end. No other job begins meanwhile.
PATIENCE = 5.0
#: Seconds until any worker tries it again, if they did not end in that time.
LATER = 10.0
#: Seconds between two checks whether the others have ended.
_LOOK = 0.005


class Isolation:
    """The state of one process.

    :param held: returns how many leases the process holds, in all its sessions.
    """

    def __init__(self, held: Callable[[], int]) -> None:
        self._held = held
        self._changed = threads.Condition()
        #: The token of the suspect that waits to run alone, or runs alone.
        self._owner: str | None = None

    def is_wanted(self) -> bool:
        """Whether no other instance may begin now."""
        return self._owner is not None

    def belongs_to_another(self, token: str) -> bool:
        """Whether this instance must not begin now."""
        return self._owner not in (None, token)

    def wait(self, timeout: float) -> None:
        """Wait until other instances may begin again, for at most ``timeout`` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._owner is None, timeout)

    def enter(self, token: str, patience: float = PATIENCE) -> bool:
        """Wait until no other instance runs; False if that took too long. The caller must :meth:`leave`."""
        end = clock.monotonic() + patience
        with self._changed:
            if not self._changed.wait_for(lambda: self._owner is None, patience):
                return False
            self._owner = token
        while self._held() > 1:
            if clock.monotonic() >= end:
                self.leave(token)
                return False
            clock.sleep(_LOOK)
        return True

    def leave(self, token: str) -> None:
        """The suspect has ended, or was returned. Others may begin. Does nothing for any other token."""
        if self._owner != token:  # and no other thread can make it the owner
            return
        with self._changed:
            if self._owner == token:
                self._owner = None
                self._changed.notify_all()
