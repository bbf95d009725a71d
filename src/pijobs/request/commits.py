"""Calls a function after the transaction of a SQLAlchemy session was committed, and not if it is rolled back.

Sessions commit in levels. A released savepoint passes its items to the enclosing transaction; a savepoint that is
rolled back drops them. Code after the commit must not fail the commit, because everything is written.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import event

log = logging.getLogger(__name__)

KEY = "pijobs"
#: Called with its items after the commit.
Committed = Callable[[list[Any]], None]


@dataclass
class _Promised:
    """The pending items of one session."""

    #: (transaction, function to call, item)
    items: list[tuple[Any, Committed, Any]] = field(default_factory=list)
    #: Committed items, for which the function is called as soon as the session can be used again.
    ready: list[tuple[Committed, Any]] = field(default_factory=list)


def plain(session: Any) -> Any:
    """The session behind a ``scoped_session``, an ``AsyncSession``, or the ``db.session`` of Flask-SQLAlchemy."""
    if callable(registry := getattr(session, "registry", None)) and not hasattr(session, "sync_session"):
        session = registry()
    return getattr(session, "sync_session", session)


def add(session: Any, committed: Committed, item: Any) -> None:
    """Call ``committed`` after the commit, with this item and all others that were added for it.

    :param session: a plain session.
    """
    promised: _Promised = session.info.get(KEY) or _listen(session)
    transaction = session.get_nested_transaction() or session.get_transaction() or session.begin()
    promised.items.append((transaction, committed, item))


def _listen(session: Any) -> _Promised:
    promised = session.info[KEY] = _Promised()

    def after_commit(session: Any) -> None:
        nested = session.get_nested_transaction()
        if nested is None:
            promised.ready += [(committed, item) for _, committed, item in promised.items]
            promised.items.clear()
        else:
            promised.items[:] = [
                (nested.parent if transaction is nested else transaction, committed, item)
                for transaction, committed, item in promised.items
            ]

    def after_transaction_end(session: Any, transaction: Any) -> None:
        promised.items[:] = [one for one in promised.items if not _is_within(one[0], transaction)]
        if transaction.parent is None and promised.ready:
            ready, promised.ready = promised.ready, []
            for committed in dict.fromkeys(one for one, _ in ready):
                _tell(committed, [item for one, item in ready if one == committed])

    event.listen(session, "after_commit", after_commit)
    event.listen(session, "after_transaction_end", after_transaction_end)
    return promised


def _is_within(transaction: Any, outer: Any) -> bool:
    while transaction is not None and transaction is not outer:
        transaction = transaction.parent
    return transaction is outer


def _tell(committed: Committed, items: list[Any]) -> None:
    try:
        committed(items)
    except Exception:
        log.exception("%d jobs of a transaction that was committed could not be enqueued", len(items))
