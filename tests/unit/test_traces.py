"""Spans of OpenTelemetry: from a request to the steps of its job."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import flask
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from pijobs import FailJob, JobContext, RetryJob, Settings, job
from pijobs.base import traces
from pijobs.flask import JobQueue
from pijobs.payload.codec import Call, Codec
from pijobs.payload.keys import KeyRing
from pijobs.request.queue import Queue
from pijobs.testing import ManualClock, drain, in_memory
from pijobs_mail.engine.delivery import Endpoint, Mail
from pijobs_mail.engine.transport import Conversation
from pijobs_mail.sink.server import Fault, Sink

Exporter = InMemorySpanExporter


class Failing(SpanProcessor):
    """An app's own, with a fault."""


@job("traced.work")
def work(ctx: JobContext, how: str = "") -> None:
    if how == "fail":
        raise FailJob("expected alice@example.com elsewhere")
    if how == "again" and ctx.attempt == 1:
        raise RetryJob(delay=0, kwargs={"how": "again"})
    if how == "more":
        work.enqueue()


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Exporter:
    exporter, provider = Exporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    return exporter


@pytest.fixture
def queue(clock: ManualClock) -> Iterator[Queue]:
    app = flask.Flask("an_app")
    app.config.update(SECRET_KEY="s", PI_JOB_QUEUE_CLASS="pijobs.HueyQueue", PI_JOB_QUEUE_URL="memory://")
    app.config.update(PI_JOB_QUEUE_PLUGINS=[__name__])
    JobQueue(app)
    with app.app_context():
        queue = app.extensions["pijobs"].queue
        in_memory(queue, clock)
        yield queue


def named(exporter: Exporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


def request() -> Any:
    return traces.span("GET /")


def test_the_trace_of_a_request_goes_on_in_the_job(queue: Queue, spans: Exporter, clock: ManualClock) -> None:
    with request():
        handle = work.enqueue()
    clock.advance(3)
    drain(queue)
    found = named(spans)
    assert len({span.context.trace_id for span in found.values()}) == 1
    enqueue, wait, attempt = (found[f"{what} traced.work"] for what in ("enqueue", "wait", "attempt"))
    assert enqueue.parent == found["GET /"].context
    assert [span.parent and span.parent.span_id for span in (wait, attempt)] == [enqueue.context.span_id] * 2
    assert wait.end_time is not None and wait.start_time is not None and wait.end_time - wait.start_time == 3 * 10**9
    assert attempt.attributes == {
        "messaging.system": "pijobs", "messaging.message.id": handle.id, "messaging.operation.type": "process",
        "pijobs.attempt": 1, "pijobs.state": "done",
    }  # fmt: skip


def test_a_job_that_a_job_enqueues_is_of_the_same_trace(queue: Queue, spans: Exporter) -> None:
    work.enqueue("more")
    drain(queue)
    attempts = [span for span in spans.get_finished_spans() if span.name == "attempt traced.work"]
    assert len(attempts) == 2 and len({span.context.trace_id for span in spans.get_finished_spans()}) == 1


def test_many_calls_are_one_span_and_one_trace(queue: Queue, spans: Exporter) -> None:
    queue.enqueue_many(work.call() for _ in range(3))
    [span] = spans.get_finished_spans()
    assert span.attributes is not None and span.attributes["messaging.batch.message_count"] == 3


def test_the_next_attempt_is_of_the_same_trace(queue: Queue, spans: Exporter, clock: ManualClock) -> None:
    work.enqueue("again")
    drain(queue)
    clock.advance(10)
    drain(queue)
    found = spans.get_finished_spans()
    assert [span.attributes["pijobs.attempt"] for span in found if span.attributes and span.name[0] == "a"] == [1, 2]
    assert len({span.context.trace_id for span in found}) == 1


def test_a_failure_is_told_as_the_log_tells_it(queue: Queue, spans: Exporter) -> None:
    work.enqueue("fail")
    drain(queue)
    span = named(spans)["attempt traced.work"]
    assert span.attributes is not None and span.attributes["error.type"] == "FailJob"
    assert not span.status.is_ok and span.status.description == "expected a***@example.com elsewhere"
    assert span.events == ()


def test_a_call_that_is_refused_fails_without_its_text(queue: Queue, spans: Exporter) -> None:
    with request(), suppress(ValueError), traces.span("inner"):
        raise ValueError("123456")
    span = named(spans)["inner"]
    assert span.attributes == {"error.type": "ValueError"} and span.status.description is None


def test_without_a_request_the_job_begins_a_trace(queue: Queue, spans: Exporter, monkeypatch: Any) -> None:
    with monkeypatch.context() as patch:
        patch.delitem(sys.modules, "opentelemetry.trace")
        work.enqueue()
    drain(queue)
    assert [(span.name, span.parent) for span in spans.get_finished_spans()] == [("attempt traced.work", None)]


@pytest.mark.parametrize("moment", ["on_start", "on_end"])
def test_a_processor_that_fails_stops_no_call_and_no_attempt(
    queue: Queue, spans: Exporter, monkeypatch: Any, moment: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("123456")

    monkeypatch.setattr(Failing, moment, fail, raising=False)
    trace.get_tracer_provider().add_span_processor(Failing())  # type: ignore[attr-defined]
    handle = work.enqueue()
    assert [(one.id, one.state.value) for one in drain(queue)] == [(handle.id, "done")]


@pytest.mark.parametrize("text", ["", "nonsense", f"00-{'0' * 32}-{'1' * 16}-01", f"ff-{'1' * 32}-{'1' * 16}-01"])
def test_what_is_no_trace_is_none(spans: Exporter, text: str) -> None:
    with traces.span("x", parent=text):
        pass
    assert spans.get_finished_spans()[0].parent is None


@pytest.mark.parametrize("label", [None, "mail to a***@example.com"])
def test_the_trace_travels_sealed(label: str | None, core_settings: Settings) -> None:
    codec = Codec(KeyRing.of(core_settings), "q")
    call = Call((1,), {}, label, "00-a-b-01")
    sealed = codec.encode(id="i", name="a.b", call=call, created=1, deadline=None)
    for again in (sealed, codec.reseal(*sealed), codec.reencode(sealed[0], call)):
        found = codec.decode(*again)
        assert (found.label, found.trace) == (label, "00-a-b-01") and b"00-a-b-01" not in again[1]


def test_each_step_with_an_smtp_server_is_a_span(spans: Exporter) -> None:
    with Sink(faults={"RCPT": Fault("550 5.1.1 alice@example.com", times=1)}) as sink:
        conversation = Conversation(Endpoint(host=sink.host, port=sink.port))
        with traces.span("attempt"):
            conversation.open()
            for _ in range(2):
                conversation.send(Mail("a@example.com", ("alice@example.com",), b"Subject: secret\r\n\r\n123456\r\n"))
            conversation.close()
    names = [span.name for span in spans.get_finished_spans()]
    assert names[:3] == ["smtp connect", "smtp EHLO", "smtp MAIL"] and names[-2:] == ["smtp content", "attempt"]
    content = named(spans)["smtp content"]
    assert content.attributes == {"server.address": "127.0.0.1", "server.port": sink.port, "smtp.reply_code": 250}
    assert (
        "alice" not in (told := "".join(span.to_json() for span in spans.get_finished_spans())) and "123456" not in told
    )
