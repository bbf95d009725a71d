"""Workers that must lease no more jobs, before a reboot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pijobs.storage.contract import Storage
from pijobs.storage.protocol import FIRST
from pijobs.storage.sessions import SessionRecord


def workers_of(storage: Storage, host: str, pid: int | None) -> list[SessionRecord]:
    """The live worker processes of a host, or one of them."""
    return [one for one in storage.sessions() if one.info.host == host and pid in (None, one.info.pid)]


def too_old_for_quiet(records: Sequence[SessionRecord]) -> int:
    """How many of them run release 0.1.0, which does not support this."""
    return sum(one.info.protocol == FIRST for one in records)


def tell(storage: Storage, records: Sequence[SessionRecord], at: int) -> None:
    """Tell them to lease no more jobs, from their next sign of life on. A worker that stores its facts at this moment
    misses it.

    :param at: milliseconds since the epoch; 0: they take work again.
    """
    for record in records:
        storage.update_session(replace(record.info, quiet=at))
