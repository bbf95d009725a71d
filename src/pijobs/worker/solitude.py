"""Runs an instance whose worker crashed before alone in its process.

One job that takes down its worker makes suspects of all that ran beside it. Each of them runs alone from then on, so
that the next crash shows which one it was, and so that the guilty one takes nobody with it.
"""

from __future__ import annotations

from collections.abc import Callable

from pijobs.base import clock, threads

#: Seconds that a suspect waits for the others of its process to end, while none of them begins.
PATIENCE = 5.0
#: Seconds until it is tried again, by whatever worker, when they did not end in that time.
LATER = 10.0
#: Seconds between two looks at whether the others have ended.
_LOOK = 0.005


class Solitude:
    """One process's.

    :param held: how many leases the process holds, in all its sessions.
    """

    def __init__(self, held: Callable[[], int]) -> None:
        self._held = held
        self._changed = threads.Condition()
        #: The token of the suspect that wants the process for itself, or has it.
        self._owner: str | None = None

    def is_wanted(self) -> bool:
        """Whether nothing else may begin now."""
        return self._owner is not None

    def belongs_to_another(self, token: str) -> bool:
        """Whether this one must not begin now."""
        return self._owner not in (None, token)

    def wait(self, timeout: float) -> None:
        """Wait until the process is free for all again, or for ``timeout`` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._owner is None, timeout)

    def enter(self, token: str, patience: float = PATIENCE) -> bool:
        """Wait until nothing runs beside this one; False if that took too long. The caller must :meth:`leave`."""
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
        """The suspect has ended, or goes back; others may begin. Does nothing for any other token."""
        if self._owner != token:  # and nobody else can make it the owner
            return
        with self._changed:
            if self._owner == token:
                self._owner = None
                self._changed.notify_all()
