"""Pauses, bypasses and quiet workers, for the pages and the API. Logs and audits each change."""

from __future__ import annotations

import logging

import flask

from pijobs.errors import StateConflict
from pijobs.observe import quiet, switches
from pijobs.server.audited import audit
from pijobs.storage.contract import Storage

log = logging.getLogger(__name__)


def pause(storage: Storage, group: str | None, reason: str) -> None:
    """Start no more jobs of a group, or of all groups if None."""
    reason = switches.pause(storage, group, by=_who(), reason=reason)
    log.warning("%s is paused by %s: %s", _named(group), _who(), reason)
    audit("queue.pause" if group is None else "group.pause", on=group or "", reason=reason)


def resume(storage: Storage, group: str | None) -> bool:
    """End a pause. Returns whether the group is down; if so, one instance tries it now."""
    down = switches.resume(storage, group)
    log.warning("%s is resumed by %s", _named(group), _who())
    audit("queue.resume" if group is None else "group.resume", on=group or "")
    return down


def flush(storage: Storage, group: str) -> tuple[bool, int]:
    """Try a destination now. Returns whether it is down, and the number of instances that became due."""
    found = switches.flush(storage, group)
    log.warning("%s is flushed by %s", _named(group), _who())
    audit("group.flush", on=group)
    return found


def bypass(storage: Storage, group: str | None, reason: str) -> None:
    """Run new calls of a group, or all new calls if None, in the request."""
    reason = switches.bypass(storage, group, by=_who(), reason=reason)
    log.warning("%s is bypassed by %s: %s", _named(group), _who(), reason)
    audit("bypass.begin", on=group or "", reason=reason)


def end_bypass(storage: Storage, group: str | None) -> None:
    """Enqueue new calls again.

    :raises StateConflict: if there is no such bypass; so a mistyped name is noticed.
    """
    if (group or "") not in storage.depths().bypasses:
        raise StateConflict(f"nobody bypasses {'the queue' if group is None else 'this group'}")
    storage.end_bypass(group)
    log.warning("%s: the bypass is ended by %s", _named(group), _who())
    audit("bypass.end", on=group or "")


def take_no_more(storage: Storage, host: str, pid: int | None, *, end: bool = False) -> int:
    """Tell the workers of a host to take no more jobs or, with ``end``, to take jobs again. Returns how many processes.

    :raises StateConflict: if a worker is of release 0.1.0, which has no such command.
    """
    found = quiet.workers_of(storage, host, pid)
    if quiet.too_old_for_quiet(found):
        raise StateConflict("these workers are of release 0.1.0, which does not know this; stop them")
    quiet.tell(storage, found, 0 if end else storage.now())
    if found:
        log.warning("the workers of %s are told to take %s by %s", host, "work again" if end else "no more", _who())
        audit("worker.quiet-end" if end else "worker.quiet", on=f"{host} {pid or ''}".strip())
    return len(found)


def _who() -> str:
    return str((flask.g.get("pijobs_visitor") or flask.g.account).name)


def _named(group: str | None) -> str:
    return "The queue" if group is None else f"Group {group}"
