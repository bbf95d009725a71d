"""Tells systemd that the worker has started, is alive, and stops (sd_notify(3)). Does nothing without systemd."""

from __future__ import annotations

import os
import socket

from pijobs.base import clock


class Notifier:
    """The service manager's socket, from the environment.

    The watchdog covers the main thread only: a worker whose main thread is stuck can't be stopped by a signal
    and can't replace a dead child. Timeouts end hanging jobs, and an outage of the storage needs no restart.
    """

    def __init__(self) -> None:
        self._address = os.environ.get("NOTIFY_SOCKET", "")
        self._pause = _watchdog_seconds() / 2
        self._pinged = 0.0

    def started(self) -> None:
        """``Type=notify`` waits for this."""
        self._send("READY=1")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def alive(self) -> None:
        """Feed the watchdog, at most twice in ``WatchdogSec``. Call it often."""
        if self._pause and clock.monotonic() - self._pinged >= self._pause:
            self._pinged = clock.monotonic()
            self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        # "@" stands for the abstract name space.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.sendto(message.encode(), address)
        except OSError:
            # Nobody listens any more. That must not stop the worker.
            self._address = ""


def _watchdog_seconds() -> float:
    """``WatchdogSec`` of the unit; 0 without it, or if it is meant for another process (sd_watchdog_enabled(3))."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    wanted = os.environ.get("WATCHDOG_USEC", "")
    return int(wanted) / 1_000_000 if wanted.isdecimal() else 0.0
