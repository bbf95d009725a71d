"""Takes instances out, for another storage."""

from __future__ import annotations

from collections.abc import Sequence

from pijobs.errors import InstanceNotFound
from pijobs.storage.sql.arrows import KINDS
from pijobs.storage.sql.rows import find
from pijobs.storage.sql.schema import WAITING, Code
from pijobs.storage.sql.statements.instances import NEW_COLUMNS
from pijobs.storage.sql.transactions import Tx
from pijobs.storage.values import NewInstance


def take_out(tx: Tx, number: int, hold: int) -> list[NewInstance]:
    """See :meth:`pijobs.storage.contract.Storage.take_out`."""
    tx.know_time()
    # Each state in the order of its index; a sort over both would read everything that waits.
    found = [row for query in tx.st.never_leased.values() for row in tx.rows(query, n=number, now=tx.now)]
    held, taken = [], []
    for _place, seq, state, *fields in sorted(found, key=lambda row: (row[0], row[1]))[:number]:
        if not all(isinstance(value, KINDS.get(name, object)) for name, value in zip(NEW_COLUMNS, fields, strict=True)):
            continue  # a worker's audit, or 'pijobs check --repair', ends it by name
        new = NewInstance(*fields)
        due = max(new.due or 0, tx.now + hold)
        code = Code.SCHEDULED if state == Code.SCHEDULED else Code.HELD
        held.append({"b_seq": seq, "state": int(code), "due": due, "alarm": due, "lane": new.priority})
        taken.append(new)
    tx.many(tx.st.hold, held)
    return taken


def forget(tx: Tx, ids: Sequence[str]) -> None:
    """See :meth:`pijobs.storage.contract.Storage.forget`."""
    for instance_id in sorted(ids):
        try:
            row = find(tx, instance_id, lock=True)
        except InstanceNotFound:
            continue
        if row.state in WAITING:
            tx.many(tx.st.delete, [{"b_seq": row.seq}])
