"""Sentry gets what failed for good, by its own SDK up to its transport, and no argument of a job."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import flask
import pytest
import sentry_sdk
from sentry_sdk.envelope import Envelope
from sentry_sdk.integrations.logging import LoggingIntegration
from sentry_sdk.transport import Transport

from pijobs import FailJob, JobContext, State, job
from pijobs.flask import JobQueue
from pijobs.request.queue import Queue
from pijobs.storage.values import Ended
from pijobs.testing import ManualClock, drain, in_memory
from pijobs.worker import sentry
from pijobs.worker.report import Report

#: An argument that looks like a secret, and one that only its call tells to be one.
OTP, WORDS = "914625", "blue horse staple"


@job("told.send", label=lambda to, **_: f"mail to {to}")
def send(ctx: JobContext, to: str, otp: str, how: str = "fail", words: str = WORDS) -> None:
    text = f"Your code is {otp}."
    ctx.log.info("the text is %s", text)
    if how == "log":
        try:
            raise OSError(text)
        except OSError:
            logging.getLogger("pijobs.job").exception("it could not be sent")
        return
    if how == "capture":
        sentry_sdk.capture_exception(ValueError(f"no {to}"))
        return
    if how == "http":
        # As Sentry's integration of http.client notes it; privacyIDEA's gateways and others get the OTP so.
        data = {"url": f"http://bob:pw@127.0.0.1:81/{words}", "http.query": f"text={words}", "reason": "OK"}
        sentry_sdk.add_breadcrumb(type="http", category="httplib", data=data)
    if how == "again":
        raise OSError(text)
    raise FailJob(f"{to} refused {text} {words}")


class Receiver(Transport):
    """What would go to the network."""

    sent: list[Envelope]

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        Receiver.sent = []

    def capture_envelope(self, envelope: Envelope) -> None:
        self.sent.append(envelope)


@pytest.fixture
def received() -> Iterator[list[Envelope]]:
    """Without the integrations that replace functions of other libraries, for this process runs other tests, too."""
    sentry_sdk.init(
        dsn="https://key@sentry.invalid/1", transport=Receiver, default_integrations=False, shutdown_timeout=0,
        auto_enabling_integrations=False, integrations=[LoggingIntegration()],
    )  # fmt: skip
    scope = sentry_sdk.Scope.get_global_scope()
    sentry.guard()
    yield Receiver.sent
    scope._event_processors.remove(sentry.scrub)
    sentry_sdk.get_client().close()
    scope.set_client(None)


@pytest.fixture
def queue() -> Iterator[Queue]:
    app = flask.Flask("an_app")
    app.config.update(SECRET_KEY="s", PI_JOB_QUEUE_CLASS="pijobs.HueyQueue", PI_JOB_QUEUE_URL="memory://")
    app.config.update(PI_JOB_QUEUE_PLUGINS=[__name__])
    JobQueue(app)
    with app.app_context():
        queue = app.extensions["pijobs"].queue
        in_memory(queue, ManualClock())
        yield queue


def event(received: list[Envelope]) -> dict[str, Any]:
    [envelope] = received
    wire = envelope.serialize()
    assert not [secret for secret in (OTP, WORDS, "alice@") if secret.encode() in wire]
    found: dict[str, Any] = json.loads(wire.split(b"\n")[2])
    return found


def test_what_failed_for_good_is_told_without_its_arguments(queue: Queue, received: list[Envelope]) -> None:
    handle = send.enqueue("alice@example.com", OTP, words=WORDS)
    drain(queue)
    told = event(received)
    [error] = told["exception"]["values"]
    assert error["type"] == "FailJob" and error["value"].startswith("a***@example.com refused")
    assert error["stacktrace"]["frames"][-1]["function"] == "send"
    assert not [frame for frame in error["stacktrace"]["frames"] if "vars" in frame]
    assert (told["transaction"], told["tags"], told["logger"]) == ("told.send", {"job": "told.send"}, "pijobs.job")
    known = {"name": "told.send", "id": handle.id, "attempt": 1, "label": "mail to a***@example.com"}
    assert told["contexts"]["pijobs"].items() >= known.items()


def test_what_is_tried_again_is_no_event(queue: Queue, received: list[Envelope]) -> None:
    send.enqueue("alice@example.com", OTP, "again")
    drain(queue)
    assert received == []


@pytest.mark.parametrize("how", ["log", "capture"])
def test_other_events_of_a_worker_have_no_variables_either(queue: Queue, received: list[Envelope], how: str) -> None:
    send.enqueue("alice@example.com", OTP, how)
    drain(queue)
    assert event(received)["exception"]["values"]


def test_breadcrumbs_are_those_of_one_instance(queue: Queue, received: list[Envelope]) -> None:
    for _ in range(2):
        send.enqueue("alice@example.com", OTP)
    drain(queue)
    counts = [len(json.loads(one.serialize().split(b"\n")[2])["breadcrumbs"]["values"]) for one in received]
    assert len(counts) == 2 and counts[0] == counts[1]


def test_breadcrumbs_tell_no_address_of_a_request(queue: Queue, received: list[Envelope]) -> None:
    word = "horse"
    send.enqueue("alice@example.com", OTP, "http", words=word)
    drain(queue)
    [crumb] = [one for one in event(received)["breadcrumbs"]["values"] if one["type"] == "http"]
    assert crumb["data"] == {"url": "http://127.0.0.1:81", "reason": "OK"}


def test_spans_tell_no_address_of_a_request_and_lines_of_others_no_code() -> None:
    span: dict[str, Any] = {
        "description": f"GET http://sms/send/x?text={OTP}",
        "data": {"url.full": "https://sms?blue", "n": 1},
    }
    line = {"message": "sent %s", "params": [OTP], "formatted": f"sent {OTP}"}
    told: Any = sentry.scrub({"spans": [span], "logentry": line, "extra": {"of": ["alice@example.com"]}}, {})
    assert told == {
        "spans": [{"description": "GET http://sms", "data": {"url.full": "https://sms", "n": 1}}],
        "logentry": {"message": "sent %s", "formatted": "sent ***"}, "extra": {"of": ["a***@example.com"]},
    }  # fmt: skip


def test_an_event_of_an_unknown_shape_is_not_sent() -> None:
    assert sentry.scrub({"exception": [{"value": OTP}]}, {}) is None  # type: ignore[typeddict-item]


def test_an_instance_that_took_down_its_workers_is_told(queue: Queue, received: list[Envelope]) -> None:
    Report(queue).storage_ended(Ended("i", "told.send", "g", State.DEAD, 0, 3, "it took down its workers three times"))
    assert event(received)["message"] == "job told.send is dead: it took down its workers three times"


def test_without_sentry_nothing_is_told(queue: Queue) -> None:
    send.enqueue("alice@example.com", OTP)
    assert [one.state for one in drain(queue)] == [State.DEAD] and not sentry.on()
