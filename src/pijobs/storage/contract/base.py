"""Clock, connection and version: for every user of a storage."""

from __future__ import annotations

from abc import ABC, abstractmethod

from pijobs.storage import protocol


class Base(ABC):
    """Clock, connection and version."""

    #: The URL of :func:`pijobs.storage.open_storage`, without password.
    display_url: str
    #: The path of the SQLite file; None for other storages.
    file: str | None = None
    #: The protocol in which it is written, see :mod:`pijobs.storage.protocol`. Checked with each new connection, and
    #: when a session opens. Before the first check, the protocol that all releases can read.
    protocol: int = protocol.FIRST

    @abstractmethod
    def now(self, *, timeout: float = 0.2) -> int:
        """The storage's time. After a first answer this is an estimate without a round trip: last known time of
        the storage plus the time since then on the monotonic clock. Falls back to the host's clock.

        :param timeout: seconds to wait for the first answer, if there was none yet.
        """

    @abstractmethod
    def ping(self) -> None:
        """Send a request; raise :class:`StorageUnavailable` if there is no answer. Synchronises :meth:`now`."""

    def try_out(self) -> None:  # noqa: B027 - a storage without a server has nothing to test
        """Test everything that the queue needs from the storage, invisible to workers and people: is the server new
        enough, has its user all rights, is it not a read-only replica?

        :raises StorageUnfit: with the version, the command or the right that is missing.
        :raises StorageUnavailable: it does not answer, or is read-only now.
        """

    def diagnose(self) -> dict[str, str]:
        """Facts about the server of the storage, for ``pijobs config check``: version and configuration."""
        return {}

    @abstractmethod
    def set_protocol(self, number: int, *, oldest_reader: int) -> None:
        """Change the protocol of the storage, and the oldest one that can read it. For ``pijobs schema``."""

    @abstractmethod
    def close(self) -> None:
        """Close all connections and end all helper threads. The storage can be used again afterwards."""
