"""What an operator switches, by a page or by the API: done, logged, and told to the audit log."""

from __future__ import annotations

import logging

import flask

from pijobs.errors import StateConflict
from pijobs.observe import quiet, switches
from pijobs.server.audited import audit
from pijobs.storage.contract import Storage

log = logging.getLogger(__name__)


def pause(storage: Storage, group: str | None, reason: str) -> None:
    """Start no more jobs, of a group or at all."""
    reason = switches.pause(storage, group, by=_who(), reason=reason)
    log.warning("%s is paused by %s: %s", _named(group), _who(), reason)
    audit("queue.pause" if group is None else "group.pause", on=group or "", reason=reason)


def resume(storage: Storage, group: str | None) -> bool:
    """End a pause. Returns whether the group is down, so that one instance tries it now."""
    down = switches.resume(storage, group)
    log.warning("%s is resumed by %s", _named(group), _who())
    audit("queue.resume" if group is None else "group.resume", on=group or "")
    return down


def flush(storage: Storage, group: str) -> tuple[bool, int]:
    """Try a destination now. Returns whether it is down, and how many instances are due now."""
    found = switches.flush(storage, group)
    log.warning("%s is flushed by %s", _named(group), _who())
    audit("group.flush", on=group)
    return found


def bypass(storage: Storage, group: str | None, reason: str) -> None:
    """Have new calls, of a group or all, run in the request."""
    reason = switches.bypass(storage, group, by=_who(), reason=reason)
    log.warning("%s is bypassed by %s: %s", _named(group), _who(), reason)
    audit("bypass.begin", on=group or "", reason=reason)


def end_bypass(storage: Storage, group: str | None) -> None:
    """Give new calls to the queue again.

    :raises StateConflict: nobody bypasses it; a mistyped name must not look as if it were done.
    """
    if (group or "") not in storage.depths().bypasses:
        raise StateConflict(f"nobody bypasses {'the queue' if group is None else 'this group'}")
    storage.end_bypass(group)
    log.warning("%s: the bypass is ended by %s", _named(group), _who())
    audit("bypass.end", on=group or "")


def take_no_more(storage: Storage, host: str, pid: int | None, *, end: bool = False) -> int:
    """Have the workers of a host take no more, or, at the ``end``, take work again. Returns how many processes.

    :raises StateConflict: for a worker of a release that does not know it.
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
