"""For an application whose database holds our tables, too, and whose migrations are made by Alembic."""

from __future__ import annotations

from typing import Any

#: How the names of all our tables begin, those of the queue and of the bundled plugins.
TABLES = "pijobs_"


def include_object(object: Any, name: str | None, type_: str, reflected: bool, compare_to: Any) -> bool:
    """Alembic's ``include_object`` that leaves our tables alone. Without it ``flask db migrate`` drops them, since no
    model of the application describes them.

    Pass it to ``context.configure(…)`` in ``env.py``, or to ``Migrate(app, db, include_object=include_object)``.
    """
    table = name if type_ == "table" else getattr(getattr(object, "table", None), "name", None)
    return not str(table or "").startswith(TABLES)
