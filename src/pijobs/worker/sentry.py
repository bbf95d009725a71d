"""Sentry, in a worker whose app has set up its SDK: what failed for good is an event there, with the redacted text that
the log has, and without the variables of any frame. Elsewhere nothing is imported."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from pijobs.base.redact import redact
from pijobs.base.traces import NOTHING
from pijobs.logs import shown_error

if TYPE_CHECKING:
    from sentry_sdk.types import Event, Hint


def on() -> bool:
    """Whether this process has set up Sentry."""
    sdk = sys.modules.get("sentry_sdk")
    return sdk is not None and hasattr(sdk, "isolation_scope") and bool(sdk.get_client().is_active())


def isolated() -> AbstractContextManager[Any]:
    """Within the body breadcrumbs and tags are those of one instance."""
    if not on():
        return NOTHING
    import sentry_sdk

    return sentry_sdk.isolation_scope()


def guard() -> None:
    """From now on no event of this process has the variables of a frame, which are arguments of jobs. Also those of
    lines of the log, and of an app's own ``capture_exception``."""
    if on():
        import sentry_sdk

        sentry_sdk.Scope.get_global_scope().add_event_processor(scrub)


def tell(*, name: str, id: str, attempt: int, reason: str, error: BaseException | None, label: str | None) -> None:
    """Tell of an instance that failed for good.

    :param reason: redacted.
    :param error: what the job raised; None: it did not end by itself.
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


def scrub(event: Event, hint: Hint) -> Event:
    """An event without the variables of frames, and with redacted texts of exceptions."""
    found: Any = event
    for part in ("exception", "threads"):
        for one in (found.get(part) or {}).get("values") or ():
            for frame in (one.get("stacktrace") or {}).get("frames") or ():
                frame.pop("vars", None)
            if isinstance(one.get("value"), str):
                one["value"] = redact(one["value"])
    return event
