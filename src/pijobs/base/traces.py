"""Spans of OpenTelemetry, in a process that set up its SDK. In other processes nothing is imported, and the only cost
is this check.

Names and attributes follow the semantic conventions for messaging, where these have one. A span contains no argument,
and only the error texts that the log has, too. If a span processor fails, no call and no attempt ends.
"""

from __future__ import annotations

import functools
import logging
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import metadata
from typing import TYPE_CHECKING, Any, TypeVar

from pijobs.base import clock
from pijobs.base.redact import class_name

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer, TracerProvider

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Used instead of a span, if there is none.
NOTHING: AbstractContextManager[Any] = nullcontext()
#: W3C Trace Context, 3.2.2: the header ``traceparent``, version 00.
_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")


def on() -> bool:
    """Whether this process has set up OpenTelemetry. An app that does so has imported it; others may have, too."""
    api = sys.modules.get("opentelemetry.trace")
    return api is not None and not isinstance(api.get_tracer_provider(), api.ProxyTracerProvider)


def present() -> str | None:
    """The current span as a ``traceparent``; None: there is none."""
    if not on():
        return None
    from opentelemetry import trace

    context = _quietly(lambda: trace.get_current_span().get_span_context())
    if context is None or not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def span(
    name: str, kind: str = "INTERNAL", parent: str | None = None, **attributes: Any
) -> AbstractContextManager[Any]:
    """A span around the body, which is current meanwhile. Its value is the span, or None if there is none or it could
    not begin.

    :param kind: of OpenTelemetry.
    :param parent: a ``traceparent``; None: the current span.
    :param attributes: with two underscores where their names have a dot.
    """
    return _span(name, kind, parent, _dotted(attributes)) if on() else NOTHING


def wait(name: str, parent: str | None, began: int, ended: int, **attributes: Any) -> None:
    """A span of a wait that is over; none without a parent.

    :param began: ms since the epoch; likewise ``ended``.
    """
    if parent is None or not on():
        return
    made = _start(name, "INTERNAL", parent, _dotted(attributes), min(began, ended) * 1_000_000)
    if made is not None:
        _quietly(lambda: made.end(ended * 1_000_000))


def fail(made: Any, error: str | None, reason: str | None = None) -> None:
    """Mark a span as failed.

    :param made: the span, or None.
    :param error: the name of a class.
    :param reason: a text that may be shown.
    """
    if made is not None:
        from opentelemetry.trace import Status, StatusCode

        made.set_attribute("error.type", error or "_OTHER")
        made.set_status(Status(StatusCode.ERROR, reason))


@contextmanager
def _span(name: str, kind: str, parent: str | None, attributes: dict[str, Any]) -> Iterator[Span | None]:
    from opentelemetry.trace import use_span

    made = _start(name, kind, parent, attributes)
    if made is None:
        yield None
        return
    try:
        with use_span(made, record_exception=False, set_status_on_exception=False):
            yield made
    except BaseException as error:  # its text may not be shown
        fail(made, class_name(error))
        raise
    finally:
        _quietly(made.end)


def _start(name: str, kind: str, parent: str | None, attributes: dict[str, Any], at: int | None = None) -> Span | None:
    """:param at: ns since the epoch; None: now."""
    from opentelemetry.trace import SpanKind

    return _quietly(lambda: _tracer().start_span(name, _context(parent), SpanKind[kind], attributes, start_time=at))


#: Seconds between two log lines about lost spans.
_REMIND_AFTER = 60.0
_reminded = float("-inf")


def _quietly(do: Callable[[], T]) -> T | None:
    """Errors of an app's samplers and processors must not send a mail twice, nor fail a login."""
    global _reminded
    try:
        return do()
    except Exception as error:
        if clock.monotonic() - _reminded >= _REMIND_AFTER:
            _reminded = clock.monotonic()
            log.warning("spans are lost, because OpenTelemetry fails here (%s)", class_name(error))
        return None


def _context(parent: str | None) -> Context | None:
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

    if (found := _TRACEPARENT.fullmatch(parent or "")) is None:
        return None
    trace_id, span_id, flags = (int(part, 16) for part in found.groups())
    return set_span_in_context(NonRecordingSpan(SpanContext(trace_id, span_id, True, TraceFlags(flags))))


def _tracer() -> Tracer:
    from opentelemetry import trace

    return _tracer_of(trace.get_tracer_provider())


@functools.lru_cache(maxsize=4)
def _tracer_of(provider: TracerProvider) -> Tracer:
    return provider.get_tracer("pijobs", metadata.version("pijobs"))


def _dotted(attributes: dict[str, Any]) -> dict[str, Any]:
    return {name.replace("__", "."): value for name, value in attributes.items() if value is not None}
