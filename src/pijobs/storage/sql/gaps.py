"""Nobody is dead because the storage was away, or because its clock was set: see ``Storage.beat``."""

from __future__ import annotations

from pijobs.storage.sql.transactions import Tx


def keep_through_a_gap(tx: Tx, seen: int | None, lease: int) -> None:
    """Called by each sign of life, before any session counts as dead.

    :param seen: the last sign of life of any session.
    """
    if seen is None:
        return
    if seen > tx.now + lease // 4:
        tx.change(tx.st.keep_rest, b_queue=tx.queue, b_now=tx.now)
        return
    silence = tx.now - seen
    gap = lease // 2
    if silence <= gap or _was_reachable(tx, max(seen, tx.now - lease - gap), gap):
        return
    if silence > lease:
        tx.change(tx.st.extend, b_queue=tx.queue, b_until=tx.now + lease, until=tx.now + lease)
    else:
        tx.change(tx.st.credit, b_queue=tx.queue, b_credit=silence - gap)


def _was_reachable(tx: Tx, since: int, gap: int) -> bool:
    """Whether enqueues leave no gap. They must reach further back than the lease by a gap; otherwise an outage that
    ended within it would not be noticed."""
    while tx.now - since > gap:
        enqueued = tx.rows(tx.st.last_enqueue, after=since * 1000 + 999, until=(since + gap) * 1000 + 999)[0][0]
        if enqueued is None:
            return False
        since = enqueued // 1000
    return True
