"""Spans of OpenTelemetry, in a process that set up its SDK. Elsewhere nothing is imported, and the only cost is that
look.

Names and attributes follow the semantic conventions for messaging, where these have a word. No argument, and no text of
an error, is in a span but what the log has as well.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import metadata
from typing import TYPE_CHECKING, Any

from pijobs.base.redact import class_name

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer, TracerProvider

#: In the place of a span, where there is none.
NOTHING: AbstractContextManager[Any] = nullcontext()
#: W3C Trace Context, 3.2.2: the header ``traceparent``, version 00.
_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")


def on() -> bool:
    """Whether this process has set up OpenTelemetry. Who does so has imported it; others may have, too."""
    api = sys.modules.get("opentelemetry.trace")
    return api is not None and not isinstance(api.get_tracer_provider(), api.ProxyTracerProvider)


def present() -> str | None:
    """The present span as a ``traceparent``; None: there is none."""
    if not on():
        return None
    from opentelemetry import trace

    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def span(
    name: str, kind: str = "INTERNAL", parent: str | None = None, **attributes: Any
) -> AbstractContextManager[Any]:
    """A span around the body, which is the present one meanwhile; its value is the span, or None.

    :param kind: of OpenTelemetry.
    :param parent: a ``traceparent``; None: the present span.
    :param attributes: with two underscores where their names have a dot.
    """
    return _span(name, kind, parent, _dotted(attributes)) if on() else NOTHING


def wait(name: str, parent: str | None, began: int, ended: int, **attributes: Any) -> None:
    """A span of a wait that is over; none without a parent.

    :param began: ms since the epoch; likewise ``ended``.
    """
    if parent is None or not on():
        return
    made = _tracer().start_span(
        name, context=_context(parent), attributes=_dotted(attributes), start_time=min(began, ended) * 1_000_000
    )
    made.end(ended * 1_000_000)


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
def _span(name: str, kind: str, parent: str | None, attributes: dict[str, Any]) -> Iterator[Span]:
    from opentelemetry.trace import SpanKind

    with _tracer().start_as_current_span(
        name, context=_context(parent), kind=SpanKind[kind], attributes=attributes,
        record_exception=False, set_status_on_exception=False,
    ) as made:  # fmt: skip
        try:
            yield made
        except BaseException as error:  # its text is not ours to tell
            fail(made, class_name(error))
            raise


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
