"""Reads rows and writes them back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pijobs.errors import InstanceNotFound
from pijobs.storage.sql import connection as link
from pijobs.storage.sql.arrows import MOVED, RESTORED, Row
from pijobs.storage.sql.schema import RANK_STEP, WAITING, Code
from pijobs.storage.sql.transactions import Tx
from pijobs.storage.values import Ended


def to_rows(tx: Tx, found: Sequence[link.Row]) -> list[Row]:
    """The rows that can be read. Others are parked (:attr:`Tx.parked`), before anything else is written."""
    rows = []
    for values in found:
        row = Row(*values)
        if field := row.damage():
            park(tx, row, field)
        else:
            rows.append(row)
    return rows


def park(tx: Tx, row: Row, field: str) -> None:
    """Turn an unreadable row into a readable dead letter, so that it does not affect others."""
    value = getattr(row, field)
    reason = f"damaged: {field} is " + ("missing" if value is None else f'"{printable(value)}"')
    tx.know_time()
    row.make_sound(tx.now_us)
    tx.parked.append(tx.arrows.finish(row, Code.DEAD, reason, "DecodeError"))
    restore(tx, row)


def printable(value: Any) -> str:
    """A stranger's value, cut before it is used."""
    shown = value[:40] if isinstance(value, (str, bytes)) else value
    text = shown.decode("ascii", "replace") if isinstance(shown, bytes) else str(shown)[:40]
    return "".join(letter if letter.isascii() and letter.isprintable() else "?" for letter in text)


def restore(tx: Tx, row: Row) -> None:
    """Write back everything that decides about the place of an instance."""
    values = {name: getattr(row, name) for name in RESTORED}
    tx.many(tx.st.restore, [{**_values(row), **values, "rank": row.enqueued - row.priority * RANK_STEP}])


def to_row(found: Sequence[link.Row]) -> Row | None:
    return Row(*found[0]) if found else None


def find(tx: Tx, instance_id: str, *, lock: bool) -> Row:
    """:raises InstanceNotFound:"""
    found = tx.rows(tx.st.by_id if lock else tx.st.get, id=instance_id)
    if not found:
        raise InstanceNotFound(instance_id)
    row = Row(*found[0])
    if lock and (field := row.damage()):
        park(tx, row, field)
    return row


def holder_of(tx: Tx, key: str | None) -> tuple[Row | None, list[Ended]]:
    """The instance that waits with a unique key. An instance past its deadline holds none: it expires here, and is
    reported."""
    row = next(iter(to_rows(tx, tx.rows(tx.st.by_key, ukey=key))), None)
    if row is None or row.state not in WAITING or not row.overdue(tx.now):
        return row, []
    expired = tx.arrows.expire(row)
    _write(tx, [row])
    return None, [expired]


def save(tx: Tx, rows: Sequence[Row], *, by_hand: bool = False) -> list[Ended]:
    """Write back what an arrow changed. Only the newest instance with a key waits: an older one is cancelled and
    reported.

    :param by_hand: an operator runs it again, even if there was a newer one.
    """
    ended: list[Ended] = []
    keyed = [row for row in rows if row.wants_its_key]
    for row in keyed:
        # One after the other: two of them may have the same key.
        ended += _take_key(tx, row, by_hand=by_hand)
        _write(tx, [row])
    _write(tx, [row for row in rows if row not in keyed])
    return ended


def told(ended: list[Ended], superseded: list[Ended]) -> list[Ended]:
    """The last event to report of each instance."""
    again = {one.id for one in superseded}
    return [*(one for one in ended if one.id not in again), *superseded]


def _take_key(tx: Tx, row: Row, *, by_hand: bool) -> list[Ended]:
    if not by_hand:
        newest = next(iter(to_rows(tx, tx.rows(tx.st.newest_call, unique_key=row.unique_key))), row)
        # Newer by the clocks of both servers, and stored later.
        if newest.is_newer_than(row, tx.now) and newest.seq > row.seq:
            return [tx.arrows.finish(row, Code.CANCELLED, f"superseded by {newest.id}")]
    holder, ended = holder_of(tx, row.unique_key)
    if holder is not None and holder.is_newer_than(row, tx.now):
        return [*ended, tx.arrows.finish(row, Code.CANCELLED, f"superseded by {holder.id}")]
    if holder is not None:
        ended.append(tx.arrows.finish(holder, Code.CANCELLED, f"superseded by {row.id}"))
        _write(tx, [holder])
    row.ukey = row.unique_key
    return ended


def _write(tx: Tx, rows: Sequence[Row]) -> None:
    tx.many(tx.st.move, [_values(row) for row in rows if not row.new_body])
    tx.many(
        tx.st.move_with_body,
        [{**_values(row), "envelope": row.envelope, "body": row.body} for row in rows if row.new_body],
    )


def _values(row: Row) -> dict[str, Any]:
    values: dict[str, Any] = {name: getattr(row, name) for name in MOVED}
    values["state"] = int(row.state)
    values["b_seq"] = row.seq
    return values
