"""Room on the disk of an SQLite file.

To run and end stored instances, workers must write: into the log, and from there into the file. If enqueues filled the
disk, nobody could do the stored work. So they stop while there is room for the workers. Other programs may fill the
disk, too: when room gets short, a file beside the database reserves some, and is removed when a worker finds the disk
full.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress

from pijobs.base import clock
from pijobs.errors import StorageFull

#: Bytes that are reserved for workers; on a small disk an eighth of it.
RESERVE = 16 * 1024 * 1024
#: Room is short below this multiple.
SHORT = 8
#: Seconds until the next question how much tidying up would free.
TIDY_EVERY = 0.1
#: Seconds between two tries, while somebody reads from the log.
TRY_AGAIN = 0.005
PAGE = 4096


def log_limit(path: str, usual: int) -> int:
    """From this number of pages on, the log is copied back: on a small disk it must not take too much room.

    :param usual: pages.
    """
    try:
        disk = os.statvfs(os.path.dirname(path))
    except OSError:
        return usual
    return max(16, min(usual, disk.f_blocks * disk.f_frsize // PAGE // 64))


def give_way(path: str) -> None:
    """Free the room that the file beside the database reserves."""
    with suppress(OSError):
        os.unlink(path + "-reserve")


class Room:
    """The room on the disk of one file.

    :param tidy: copies the log back into the file; returns how many bytes are unused inside the file, and whether the
        complete log was copied, which is impossible while somebody reads from it.
    """

    def __init__(self, path: str, tidy: Callable[[], tuple[int, bool]]) -> None:
        self._path = path
        self._tidy = tidy
        self._tidied = float("-inf")
        #: Unused bytes inside the file after tidying up.
        self._spare = 0

    def require(self, size: int, timeout: float, number: int = 1) -> None:
        """Costs two system calls while there is room.

        :param size: bytes to store, and the number of instances.
        :param timeout: seconds to wait for those who read from the log.
        :raises StorageFull: when the rest is reserved for the workers.
        """
        size += 2 * PAGE * number  # the record, and its entries in the indexes
        try:
            # Once in the log, and once in the file.
            if self._left() >= 2 * size:
                return
            self._tidy_up(clock.monotonic() + timeout)
            left, reserve = self._left(), self._reserve()
        except OSError:  # opening the file gives a better error
            return
        if left >= 2 * size:
            return
        if self._spare < size or left + reserve * 3 // 4 < size:
            raise StorageFull(
                f"the disk of {self._path} is full: the last {reserve / 1e6:.3g} MB are kept for the workers; "
                "give it more room"
            )
        self._spare -= size

    def _tidy_up(self, end: float) -> None:
        while clock.monotonic() - self._tidied >= TIDY_EVERY:
            self._spare, copied = self._tidy()
            if copied or clock.monotonic() >= end:
                self._tidied = clock.monotonic()
            else:
                clock.sleep(TRY_AGAIN)

    def watch(self) -> None:
        """Reserve some room for later if it gets short."""
        with suppress(OSError):
            self._left()

    def is_short(self) -> bool:
        """Whether to write little at a time: what a large transaction wrote before it failed takes the room that
        copying the log back needs.
        """
        with suppress(OSError):
            disk = os.statvfs(os.path.dirname(self._path))
            return disk.f_bavail * disk.f_frsize < SHORT * _reserve_of(disk)
        return False

    def _left(self) -> int:
        """Bytes besides what is reserved, and besides what copying the log back may take."""
        disk = os.statvfs(os.path.dirname(self._path))
        free = disk.f_bavail * disk.f_frsize
        if 2 * _reserve_of(disk) <= free < SHORT * _reserve_of(disk):
            self._keep(_reserve_of(disk))
        try:
            log = os.stat(self._path + "-wal").st_size
        except FileNotFoundError:
            log = 0
        return free - log - _reserve_of(disk)

    def _keep(self, size: int) -> None:
        path = self._path + "-reserve"
        if os.path.exists(path) or not os.path.exists(self._path):
            return
        file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            os.posix_fallocate(file, 0, size)
        except (OSError, AttributeError):  # AttributeError: macOS has no such call
            os.unlink(path)
        finally:
            os.close(file)

    def _reserve(self) -> int:
        return _reserve_of(os.statvfs(os.path.dirname(self._path)))


def _reserve_of(disk: os.statvfs_result) -> int:
    return min(RESERVE, disk.f_blocks * disk.f_frsize // 8)
