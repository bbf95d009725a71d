"""Who asks and from where, for the audit log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import flask

from pijobs.audit import AuditLog, Entry
from pijobs.definitions import DefinitionStore
from pijobs.flask import current_installation
from pijobs.server.host import host_sign_in

#: Characters of a reason.
LONGEST_REASON = 200


def audit(
    act: str, outcome: str = "done", *,
    on: str = "", about: str = "", fields: Iterable[str] = (), reason: str = "", who: str | None = None,
) -> None:  # fmt: skip
    """Tell the audit log what the client of this request did, and the host's, where the host has one.

    :param who: default: who signed in.
    """
    person = flask.g.get("pijobs_visitor") or flask.g.get("account")
    entry = Entry(
        act, outcome, who=who if who is not None else getattr(person, "name", ""), role=getattr(person, "role", ""),
        address=flask.request.remote_addr or "", on=on, about=about, fields=tuple(fields), reason=reason,
    )  # fmt: skip
    AuditLog.of(current_installation().settings).record(entry)
    host = host_sign_in()
    if host is not None and host.audit is not None:
        host.audit(entry)


def given_reason(values: Mapping[str, Any]) -> str:
    """The parameter or field ``reason``, in one line."""
    return " ".join(str(values.get("reason") or "").split())[:LONGEST_REASON]


def save_definition(store: DefinitionStore, identifier: str, values: Mapping[str, Any]) -> None:
    """Save a definition, and tell the audit log the names of what changed; values are nobody's business.

    :raises DefinitionError: with all faults; what would go in clear is one.
    """
    before = store.list().get(identifier)
    store.save(identifier, values)
    after = store.list().get(identifier, {})
    changed = sorted(name for name in after if before is None or before.get(name) != after[name])
    act = "definition.create" if before is None else "definition.change"
    audit(act, on=f"{store.kind} {identifier}", fields=changed)


def delete_definition(store: DefinitionStore, identifier: str, reason: str) -> None:
    """Delete a definition, and tell the audit log.

    :raises DefinitionNotFound: for an identifier that is not there.
    """
    store.delete(identifier)
    audit("definition.delete", on=f"{store.kind} {identifier}", reason=reason)
