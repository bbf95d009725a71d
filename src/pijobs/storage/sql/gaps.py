"""Nobody is dead because the storage was away, or because its clock was set: see ``Storage.beat``."""

from __future__ import annotations

from pijobs.storage.sql.transactions import Tx


def keep_through_a_gap(tx: Tx, seen: int | None, lease: int) -> None:
    """Called by each sign of life, before anybody is taken for dead.

    :param seen: the last sign of life of any session.
    """
    if seen is None:
        return
    if seen > tx.now + lease // 4:
        tx.change(tx.st.keep_rest, b_queue=tx.queue, b_now=tx.now)
        return
    silence = tx.now - seen
    if silence <= lease // 2 or _was_reachable(tx, max(seen, tx.now - lease), lease // 2):
        return
    if silence > lease:
        tx.change(tx.st.extend, b_queue=tx.queue, b_until=tx.now + lease, until=tx.now + lease)
    else:
        tx.change(tx.st.credit, b_queue=tx.queue, b_credit=silence - lease // 2)


def _was_reachable(tx: Tx, since: int, gap: int) -> bool:
    """Whether enqueues leave no gap."""
    while tx.now - since > gap:
        enqueued = tx.rows(tx.st.last_enqueue, after=since * 1000 + 999, until=(since + gap) * 1000 + 999)[0][0]
        if enqueued is None:
            return False
        since = enqueued // 1000
    return True
