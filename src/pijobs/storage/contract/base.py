"""Clock, connection and version: what every user of a storage needs."""

from __future__ import annotations

from abc import ABC, abstractmethod

from pijobs.storage import protocol


class Base(ABC):
    """Clock, connection and version."""

    #: What :func:`pijobs.storage.open_storage` was given, without password.
    display_url: str
    #: The path of the SQLite file that all of it is in; None for others.
    file: str | None = None
    #: What is written into it, see :mod:`pijobs.storage.protocol`. Looked at with each new connection, and when a
    #: session opens; until the storage was asked, what all releases can read.
    protocol: int = protocol.FIRST

    @abstractmethod
    def now(self, *, timeout: float = 0.2) -> int:
        """The storage's time. After a first answer this is an estimate that costs no round trip: last known time of
        the storage plus what passed since on the monotonic clock. Falls back to the host's clock.

        :param timeout: seconds to wait for that first answer, where it has to be asked for.
        """

    @abstractmethod
    def ping(self) -> None:
        """Ask the storage something; :class:`StorageUnavailable` when it does not answer. Synchronises :meth:`now`."""

    def try_out(self) -> None:  # noqa: B027 - a storage without a server has nothing to try
        """Have everything done once that the queue asks of the storage, out of sight of workers and people: is the
        server new enough, may its user do all that it must, is it no replica that only reads?

        :raises StorageUnfit: with the version, the command or the right that is missing.
        :raises StorageUnavailable: when it does not answer, or writes nothing now.
        """

    def diagnose(self) -> dict[str, str]:
        """Facts about the server behind the storage, for ``pijobs config check``: version, what it is set to."""
        return {}

    @abstractmethod
    def set_protocol(self, number: int, *, oldest_reader: int) -> None:
        """Change what is written into the storage, and whom it is for. For ``pijobs schema``."""

    @abstractmethod
    def close(self) -> None:
        """Close all connections and end all helper threads. The storage may be used again afterwards."""
