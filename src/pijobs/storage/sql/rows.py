"""Reads rows and writes them back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pijobs.errors import InstanceNotFound
from pijobs.storage.sql import link
from pijobs.storage.sql.arrows import MOVED, Row
from pijobs.storage.sql.transactions import Tx


def to_rows(found: Sequence[link.Row]) -> list[Row]:
    return [Row(*values) for values in found]


def to_row(found: Sequence[link.Row]) -> Row | None:
    return Row(*found[0]) if found else None


def find(tx: Tx, instance_id: str, *, lock: bool) -> Row:
    """:raises InstanceNotFound:"""
    row = to_row(tx.rows(tx.st.by_id if lock else tx.st.get, id=instance_id))
    if row is None:
        raise InstanceNotFound(instance_id)
    return row


def save(tx: Tx, rows: Sequence[Row]) -> None:
    """Write back what an arrow changed."""
    tx.many(tx.st.move, [_values(row) for row in rows if not row.new_body])
    tx.many(tx.st.move_with_body, [{**_values(row), "body": row.body} for row in rows if row.new_body])


def _values(row: Row) -> dict[str, Any]:
    values: dict[str, Any] = {name: getattr(row, name) for name in MOVED}
    values["state"] = int(row.state)
    values["b_seq"] = row.seq
    return values
