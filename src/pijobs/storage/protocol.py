"""Which releases work together on one storage.

A storage has two numbers: the protocol that it is written in, and the oldest one whose releases can read it.
Every release also works with the protocol of the release before it, and writes nothing that the older release can't
read, until ``pijobs schema upgrade`` raises the number. So two neighbouring releases can use one queue. When the last
process of the older release has ended, this command turns the new features on.

The numbers are those of the SQL tables, which had one earlier.
"""

from __future__ import annotations

from pijobs.errors import StorageVersion

#: The protocol of 0.1.0. It stores no number in Redis, so a storage without a number has this protocol.
FIRST = 2
#: The newest protocol of this release. 3: envelopes that name their queue.
NEWEST = 3
#: The oldest protocol that this release can use.
OLDEST = 2


def judge(number: int, oldest_reader: int, place: str) -> int:
    """The protocol of a storage, if this release can work with it.

    :param number: the number in the storage.
    :param oldest_reader: likewise.
    :raises StorageVersion: it can't.
    """
    if oldest_reader > NEWEST:
        raise StorageVersion(
            f"{place} has protocol {number}, for releases from protocol {oldest_reader} on; this release of pijobs "
            f"speaks {OLDEST} to {NEWEST}: install a newer release here, or run 'pijobs schema downgrade' with that one"
        )
    if number < OLDEST:
        raise StorageVersion(
            f"{place} has protocol {number}; this release of pijobs speaks {OLDEST} to {NEWEST}: give 'pijobs schema "
            "upgrade' with the release before this one"
        )
    return min(number, NEWEST)
