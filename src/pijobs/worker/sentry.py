"""Sentry, in a worker whose app has set up its SDK. Each instance that failed for good is an event, with the redacted
text of the log, and without the variables of any frame. Breadcrumbs and spans of HTTP requests lose their addresses,
because gateways get number and OTP in them. In other processes nothing is
imported."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from pijobs.base.redact import redact
from pijobs.base.traces import NOTHING
from pijobs.logs.records import shown_error

if TYPE_CHECKING:
    from sentry_sdk.types import Event, Hint


#: Matches all of an address except scheme and host. Its parts may appear separately, too.
_ADDRESS = re.compile(r"(https?://)(?:[^/\s?#]*@)?([^/\s?#]*)\S*")
_PARTS = ("query", "fragment", "path", "query_string", "target")


def on() -> bool:
    """Whether this process has set up Sentry."""
    sdk = sys.modules.get("sentry_sdk")
    return sdk is not None and hasattr(sdk, "isolation_scope") and bool(sdk.get_client().is_active())


def isolated() -> AbstractContextManager[Any]:
    """In this context, breadcrumbs and tags belong to one instance."""
    if not on():
        return NOTHING
    import sentry_sdk

    return sentry_sdk.isolation_scope()


def guard() -> None:
    """Remove the variables of frames, which contain arguments of jobs, from all later events of this process. This
    includes events from log lines, and from an app's own ``capture_exception``."""
    if on():
        import sentry_sdk

        sentry_sdk.Scope.get_global_scope().add_event_processor(scrub)


def tell(*, name: str, id: str, attempt: int, reason: str, error: BaseException | None, label: str | None) -> None:
    """Send an event for an instance that failed for good.

    :param reason: redacted.
    :param error: the job's exception; None: the job did not end by itself.
    :param label: masked.
    """
    if not on():
        return
    import sentry_sdk
    from sentry_sdk.utils import event_from_exception

    event: Event = {"level": "error", "message": f"job {name} is dead: {reason}"}
    hint: Hint = {}
    if error is not None:
        options = {**sentry_sdk.get_client().options, "include_local_variables": False, "add_full_stack": False}
        shown = shown_error(error, reason)
        event, hint = event_from_exception(shown, options, {"type": "pijobs", "handled": False})
    told = {"name": name, "id": id, "attempt": attempt, "label": label}
    event |= {"transaction": name, "logger": "pijobs.job", "tags": {"job": name}, "contexts": {"pijobs": told}}
    sentry_sdk.capture_event(event, hint)


def scrub(event: Event, hint: Hint) -> Event | None:
    """The event without variables of frames, and with redacted texts; None if its structure is unknown."""
    try:
        _scrub(event)
    except Exception:  # Sentry would send the unchanged event
        return None
    return event


def _scrub(event: Any) -> None:
    for one in _values(event, "exception", "threads"):
        for frame in (one.get("stacktrace") or {}).get("frames") or ():
            frame.pop("vars", None)
        if isinstance(one.get("value"), str):
            one["value"] = redact(one["value"])
    told = [*_values(event, "breadcrumbs"), *(event.get("spans") or ()), event.get("logentry") or {}]
    for one in [*told, (event.get("contexts") or {}).get("trace") or {}]:
        one.pop("params", None)
        one.update((name, _shown(one[name])) for name in ("message", "formatted", "description", "data") if name in one)
    if "extra" in event:
        event["extra"] = _shown(event["extra"])


def _values(event: Any, *parts: str) -> Iterator[Any]:
    for part in parts:
        yield from (event.get(part) or {}).get("values") or ()


def _shown(value: Any) -> Any:
    if isinstance(value, str):
        return redact(_ADDRESS.sub(r"\1\2", value))
    if isinstance(value, dict):
        return {name: _shown(one) for name, one in value.items() if str(name).rpartition(".")[2].lower() not in _PARTS}
    return [*map(_shown, value)] if isinstance(value, (list, tuple)) else value
