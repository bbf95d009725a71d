"""``send_mail``: direct or queued by the definition's toggle, and refused at the call when it can't be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flask
import pytest
from apps import app_in_memory

from pijobs import FailJob, State
from pijobs.errors import AttemptEnd, DefinitionNotFound
from pijobs.flask import current_queue
from pijobs_mail.errors import MessageError
from pijobs_mail.send import send_mail
from pijobs_mail.servers.definitions import open_store
from pijobs_mail.sink.server import Fault, Sink

MAIL: dict[str, Any] = {"to": "alice@example.com", "subject": "Your code", "text": "Your code is 739105\n"}


@pytest.fixture
def app(tmp_path: Path) -> Iterator[flask.Flask]:
    """An app whose queue is in memory, where nobody works."""
    app = app_in_memory(tmp_path, "mail")
    with app.app_context():
        yield app


def save(sink: Sink, **values: Any) -> None:
    definition = {"server": sink.host, "port": sink.port, "sender": "pijobs@example.com"}
    open_store(current_queue().settings).save("main", {**definition, **values})


@pytest.mark.usefixtures("app")
def test_without_the_box_the_mail_is_there_when_the_call_returns(smtp_sink: Sink) -> None:
    save(smtp_sink)
    handle = send_mail("main", **MAIL)
    assert handle.state is State.DONE
    assert len(smtp_sink.mails) == 1


@pytest.mark.usefixtures("app")
def test_with_the_box_the_mail_is_queued(smtp_sink: Sink) -> None:
    save(smtp_sink, enqueue_job=True)
    handle = send_mail("main", **MAIL)
    assert handle.state is State.QUEUED
    assert smtp_sink.connections == 0


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize("queued", [False, True])
@pytest.mark.parametrize("wrong", [{"to": "no body"}, {"to": ["", " "]}, {"reply_to": "@x"}, {"to": []}])
def test_a_mail_that_can_not_be_is_refused_at_the_call(smtp_sink: Sink, queued: bool, wrong: dict[str, Any]) -> None:
    save(smtp_sink, enqueue_job=queued)
    with pytest.raises(MessageError):
        send_mail("main", **{**MAIL, **wrong})
    assert smtp_sink.connections == 0


@pytest.mark.usefixtures("app")
def test_a_mail_without_any_sender_is_refused_at_the_call(smtp_sink: Sink) -> None:
    save(smtp_sink, sender="", enqueue_job=True)
    with pytest.raises(MessageError, match="sender"):
        send_mail("main", **MAIL)


@pytest.mark.usefixtures("app")
def test_an_unknown_server_is_refused_at_the_call() -> None:
    with pytest.raises(DefinitionNotFound):
        send_mail("nowhere", **MAIL)


@pytest.mark.usefixtures("app")
def test_a_direct_mail_that_fails_tells_its_caller_why(smtp_sink: Sink) -> None:
    save(smtp_sink)
    smtp_sink.fail_at("RCPT", Fault("550 5.1.1 unknown"))
    with pytest.raises(FailJob, match=r"1 of 1 recipients refused: a\*\*\*@example.com: 550 5.1.1 unknown"):
        send_mail("main", **MAIL)


@pytest.mark.usefixtures("app")
def test_a_direct_mail_has_one_attempt(smtp_sink: Sink) -> None:
    save(smtp_sink)
    smtp_sink.fail_at("RCPT", Fault("451 4.7.1 later"))
    with pytest.raises(AttemptEnd):
        send_mail("main", **MAIL)
    assert smtp_sink.connections == 1


@pytest.mark.usefixtures("app")
def test_a_mail_can_override_its_sender_and_go_to_several(smtp_sink: Sink) -> None:
    save(smtp_sink, sender="")
    send_mail("main", **{**MAIL, "to": ["a@example.com", "b@example.com"], "sender": "Desk <desk@example.com>"})
    mail = smtp_sink.wait_for(1, 5)[0]
    assert (mail.sender, mail.recipients) == ("desk@example.com", ("a@example.com", "b@example.com"))
    assert mail.message["From"] == "Desk <desk@example.com>"
