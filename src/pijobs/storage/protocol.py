"""Which releases work together on one storage.

A storage tells two numbers: the protocol that is written into it, and the oldest one whose releases can read that.
Every release works on the protocol of the release before it as well, and writes nothing that this one could not read,
until ``pijobs schema upgrade`` raises the number: so two neighbouring releases work on one queue, and one command,
given when the last process of the older release has ended, takes what is new into use.

The numbers are those of the tables in SQL, which had one before there was a protocol.
"""

from __future__ import annotations

from pijobs.errors import StorageVersion

#: What 0.1.0 speaks. It tells no number in Redis; a storage that tells none is of this protocol.
FIRST = 2
#: What this release can speak. 3: envelopes that name their queue.
NEWEST = 3
#: The oldest one that this release can speak.
OLDEST = 2


def judge(number: int, oldest_reader: int, place: str) -> int:
    """The protocol of a storage, if this release can work with it.

    :param number: what the storage tells.
    :param oldest_reader: likewise.
    :raises StorageVersion: it can't.
    """
    if oldest_reader > NEWEST:
        raise StorageVersion(
            f"{place} has protocol {number}, for releases from protocol {oldest_reader} on; this release of pijobs "
            f"speaks {OLDEST} to {NEWEST}: install a newer one here, or give 'pijobs schema downgrade' with that one"
        )
    if number < OLDEST:
        raise StorageVersion(
            f"{place} has protocol {number}; this release of pijobs speaks {OLDEST} to {NEWEST}: give 'pijobs schema "
            "upgrade' with the release before this one"
        )
    return min(number, NEWEST)
