"""What a session of SQLAlchemy does when its transaction has been committed, and does not if it is rolled back.

A session commits in levels: a savepoint that is released hands what it holds to the transaction around it, one that is
rolled back takes it with it. What happens after the commit must not fail it: everything is written already.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import event

log = logging.getLogger(__name__)

KEY = "pijobs"
#: Told of what was added for it, after the commit.
Committed = Callable[[list[Any]], None]


@dataclass
class _Promised:
    """Of one session."""

    #: (transaction, who is told, what)
    items: list[tuple[Any, Committed, Any]] = field(default_factory=list)
    #: What is committed, and told as soon as the session can be used again.
    ready: list[tuple[Committed, Any]] = field(default_factory=list)


def plain(session: Any) -> Any:
    """The session behind a ``scoped_session``, an ``AsyncSession``, or the ``db.session`` of Flask-SQLAlchemy."""
    if callable(registry := getattr(session, "registry", None)) and not hasattr(session, "sync_session"):
        session = registry()
    return getattr(session, "sync_session", session)


def add(session: Any, committed: Committed, item: Any) -> None:
    """Have ``committed`` called with this and all else that was added for it, after the commit.

    :param session: a plain one.
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
