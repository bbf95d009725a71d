"""Records in the audit log what the user of a request does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import flask

from pijobs.audit import AuditLog, Entry
from pijobs.definitions import DefinitionStore
from pijobs.flask import current_installation
from pijobs.server.host import host_sign_in

#: Most characters of a reason.
LONGEST_REASON = 200


def audit(
    act: str, outcome: str = "done", *,
    on: str = "", about: str = "", fields: Iterable[str] = (), reason: str = "", who: str | None = None,
) -> None:  # fmt: skip
    """Record what the client of this request did, in our audit log and in the host's, if it has one.

    :param who: name of the actor; default: the account that is signed in.
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
    """The parameter or form field ``reason``, as one line of at most :data:`LONGEST_REASON` characters."""
    return " ".join(str(values.get("reason") or "").split())[:LONGEST_REASON]


def save_definition(store: DefinitionStore, identifier: str, values: Mapping[str, Any]) -> None:
    """Save a definition, and record the names of the changed fields in the audit log, but not their values.

    :raises DefinitionError: with all faults, such as data that others on the network could read.
    """
    before = store.list().get(identifier)
    store.save(identifier, values)
    after = store.list().get(identifier, {})
    changed = sorted(name for name in after if before is None or before.get(name) != after[name])
    act = "definition.create" if before is None else "definition.change"
    audit(act, on=f"{store.kind} {identifier}", fields=changed)


def delete_definition(store: DefinitionStore, identifier: str, reason: str) -> None:
    """Delete a definition, and record it in the audit log.

    :raises DefinitionNotFound: if the identifier is unknown.
    """
    store.delete(identifier)
    audit("definition.delete", on=f"{store.kind} {identifier}", reason=reason)
