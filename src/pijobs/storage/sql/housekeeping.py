"""Sessions, their signs of life, and the recovery of what dead ones had leased."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pijobs.storage.sessions import Beat, SessionInfo, SessionRecord
from pijobs.storage.sql.gaps import keep_through_a_gap
from pijobs.storage.sql.rows import save, to_rows, told
from pijobs.storage.sql.schema import Code
from pijobs.storage.sql.transactions import Tx
from pijobs.storage.values import GIVEN_BACK, HOUSEKEEPING_BATCH, UNTOLD, Ended, LossKind


def open_session(tx: Tx, info: SessionInfo, lease: int) -> None:
    """See :meth:`pijobs.storage.contract.Storage.open_session`."""
    _saw_worker(tx, lease)
    tx.insert(tx.st.insert_meta, name="epoch", value=tx.now_us)
    times = {"seen": tx.now, "until": tx.now + lease}
    if not tx.insert(tx.st.insert_session, queue=tx.queue, id=info.id, started=info.started, info=info.dump(), **times):
        tx.change(tx.st.renew, b_queue=tx.queue, b_id=info.id, **times)


def update_session(tx: Tx, info: SessionInfo) -> None:
    """See :meth:`pijobs.storage.contract.Storage.update_session`."""
    tx.change(tx.st.update_session, b_queue=tx.queue, b_id=info.id, info=info.dump())


def _saw_worker(tx: Tx, lease: int) -> tuple[int | None, int]:
    """The last sign of life of any session, and the epoch.

    It also keeps two processes from housekeeping at the same moment, because they wait for this row."""
    found = tx.timed_rows(tx.st.seen)
    if not found:  # somebody emptied the table
        tx.insert(tx.st.insert_queue, name=tx.queue, paused=0)
        found = tx.timed_rows(tx.st.seen)
    _, seen, epoch = found[0]
    keep_through_a_gap(tx, seen, lease)
    tx.change(tx.st.saw_worker, b_queue=tx.queue, seen=tx.now)
    return seen, epoch or 0


def beat(
    tx: Tx, session: str, lease: int, abandoned: Sequence[tuple[str, str]], unknown: Sequence[tuple[str, str]]
) -> Beat:
    """See :meth:`pijobs.storage.contract.Storage.beat`."""
    before, epoch = _saw_worker(tx, lease)
    found = tx.rows(tx.st.session_seen, session=session)
    if found:
        before = found[0][0]
        tx.change(tx.st.renew, b_queue=tx.queue, b_id=session, seen=tx.now, until=tx.now + lease)
    ended: list[Ended] = []
    if abandoned or unknown:
        ended += _give_up(tx, session, set(abandoned), set(unknown))
    ended += _recover(tx)
    held = [(instance_id, token) for instance_id, token in tx.rows(tx.st.held_in, session=session)]
    return Beat(bool(found), [*ended, *tx.parked], held, tx.now, before, epoch)


def _give_up(tx: Tx, session: str, abandoned: set[tuple[str, str]], unknown: set[tuple[str, str]]) -> list[Ended]:
    held = to_rows(tx, tx.rows(tx.st.running_in, session=session))
    crashed = [row for row in held if (row.id, row.token) in abandoned][:HOUSEKEEPING_BATCH]
    untold = [row for row in held if (row.id, row.token) in unknown and row not in crashed]
    for row in untold:
        row.reason = UNTOLD
        tx.arrows.back(row, Code.QUEUED, tx.now)
    ended = [tx.arrows.crash(row) for row in crashed]
    return told(ended, save(tx, crashed + untold))


def _recover(tx: Tx) -> list[Ended]:
    """Every instance that runs without a live session goes back, so a step needs no lock of a session."""
    rows = to_rows(tx, tx.rows(tx.st.orphans, now=tx.now, n=HOUSEKEEPING_BATCH))
    together = Counter(row.session for row in rows)
    if len(rows) == HOUSEKEEPING_BATCH:
        seen = {row.seq for row in rows}
        for session in (*together,):
            left = [row for row in to_rows(tx, tx.rows(tx.st.running_in, session=session)) if row.seq not in seen]
            together[session] += len(left)
            # An instance that is left over would seem to have run alone.
            rows += left if len(left) == 1 else []
    ended = [tx.arrows.crash(row, alone=together[row.session] == 1) for row in rows]
    ended = told(ended, save(tx, rows))
    tx.change(tx.st.end_dead_sessions, now=tx.now)
    return ended


def close_session(tx: Tx, session: str, crashed: bool) -> list[Ended]:
    """See :meth:`pijobs.storage.contract.Storage.close_session`."""
    tx.know_time()
    held = to_rows(tx, tx.rows(tx.st.running_in, session=session))
    ended = []
    for row in held:
        if crashed:
            ended.append(tx.arrows.crash(row, alone=len(held) == 1))
        else:
            row.reason = GIVEN_BACK
            tx.arrows.back(row, Code.QUEUED, tx.now)
    ended = [*told(ended, save(tx, held)), *tx.parked]
    tx.change(tx.st.end_session, b_queue=tx.queue, b_id=session)
    return ended


def note_loss(tx: Tx, kind: LossKind) -> None:
    """See :meth:`pijobs.storage.contract.Storage.note_loss`."""
    tx.know_time()
    # Of two in one millisecond, the second counts as later.
    at = max([tx.now, *(other + 1 for other, its_kind in tx.rows(tx.st.losses) if its_kind != kind)])
    if not tx.insert(tx.st.insert_meta, name=kind, value=at):
        tx.change(tx.st.change_meta, b_name=kind, value=at)


def sessions(tx: Tx) -> list[SessionRecord]:
    """See :meth:`pijobs.storage.contract.Storage.sessions`."""
    tx.know_time()
    running: dict[str, list[str]] = {}
    for session, instance_id in tx.rows(tx.st.running_ids):
        running.setdefault(session, []).append(instance_id)
    records = []
    for text, seen, until in tx.rows(tx.st.sessions, now=tx.now):
        if info := SessionInfo.read(text):
            records.append(SessionRecord(info, seen, until, tuple(running.get(info.id, ()))))
    return records
