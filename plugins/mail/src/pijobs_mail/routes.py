"""SMTP servers over HTTP, with privacyIDEA's paths, parameters and answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Response

from pijobs import State
from pijobs.definitions import CENSORED
from pijobs.errors import AttemptEnd, DefinitionError, DefinitionNotFound
from pijobs.flask import current_queue
from pijobs.server.api import ApiError, answer, parameters
from pijobs.server.rights import requires
from pijobs_mail import message as messages
from pijobs_mail.errors import MessageError
from pijobs_mail.message import Letter
from pijobs_mail.send import as_arguments, submit
from pijobs_mail.servers import open_store, with_port

#: privacyIDEA's codes: a resource that is not there, the server itself, a parameter.
_NOT_FOUND, _SERVER, _PARAMETER = 601, 903, 905


def make_blueprint() -> Blueprint:
    blueprint = Blueprint("smtpserver", __name__, url_prefix="/smtpserver")
    blueprint.get("/")(list_servers)
    blueprint.post("/send_test_email")(send_test_email)
    blueprint.post("/<identifier>")(save_server)
    blueprint.delete("/<identifier>")(delete_server)
    return blueprint


@requires("viewer")
def list_servers() -> Response:
    """All definitions by identifier, secrets censored."""
    store = open_store(current_queue().settings)
    return answer({identifier: store.censored(definition) for identifier, definition in store.list().items()})


@requires("admin")
def save_server(identifier: str) -> Response:
    """Create or change a definition."""
    values = _without_identifier(parameters())
    try:
        open_store(current_queue().settings).save(identifier, with_port(values))
    except DefinitionError as error:
        raise ApiError(400, _PARAMETER, str(error)) from None
    return answer(True)


@requires("admin")
def delete_server(identifier: str) -> Response:
    """Delete a definition. Mails that wait for it end as dead letters that say so."""
    try:
        open_store(current_queue().settings).delete(identifier)
    except DefinitionNotFound as error:
        raise ApiError(404, _NOT_FOUND, str(error)) from None
    return answer(True)


@requires("admin")
def send_test_email() -> Response:
    """Send a real mail by a definition, saved or not; ``recipient`` gets it."""
    values = parameters()
    recipient, identifier = values.pop("recipient", None), str(values.get("identifier") or "")
    if not recipient:
        raise ApiError(400, _PARAMETER, "recipient: expected the address that the mail goes to, found none")
    definition, saved = _definition(identifier, _without_identifier(values))
    try:
        letter = _test_letter(str(recipient), identifier, definition)
        arguments = as_arguments(letter, definition["sender"])
    except MessageError as error:
        raise ApiError(400, _PARAMETER, str(error)) from None
    # A saved one is named, not carried: its password stays out of the queue.
    source = {"server": identifier} if saved else {"definition": definition}
    _submit(definition["enqueue_job"], "mail.send" if saved else "mail.test", {**source, **arguments})
    return answer(True)


def _definition(identifier: str, posted: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """What was posted, on top of what is saved under the identifier, and whether they are the same."""
    store = open_store(current_queue().settings)
    stored = _without_identifier(store.list().get(identifier, {}))
    lost = stored.pop("unreadable", {})
    if any(posted.get(name) in (None, CENSORED) for name in lost):
        raise ApiError(400, _PARAMETER, f"{', '.join(lost)}: expected it anew, since the stored one can't be read")
    changes = {name: value for name, value in posted.items() if not (stored and value == CENSORED)}
    try:
        definition = _without_identifier(store.check(with_port({**stored, **changes})))
    except DefinitionError as error:
        raise ApiError(400, _PARAMETER, str(error)) from None
    return definition, definition == stored


def _test_letter(recipient: str, identifier: str, definition: Mapping[str, Any]) -> Letter:
    name = identifier or str(definition["server"])
    queued = definition["enqueue_job"] and current_queue().storage is not None
    way = "It went through the job queue." if queued else "It was sent in the request."
    letter = Letter(
        to=messages.as_recipients(recipient),
        subject=f"Test mail of SMTP server {name}",
        text=f"This is a test mail. The SMTP server {name} works.\n{way}\n",
    )
    letter.check()
    if not definition["sender"]:
        raise MessageError("sender: expected the address that the mail comes from, found none")
    return letter


def _submit(queued: bool, job: str, arguments: Mapping[str, Any]) -> None:
    try:
        handle = submit(current_queue(), queued, job, arguments)
    except AttemptEnd as error:
        raise ApiError(502, _SERVER, f"the mail could not be sent: {error}") from None
    if handle.state in (State.DEAD, State.EXPIRED):
        raise ApiError(502, _SERVER, f"the mail could not be sent: {handle.reason or handle.state}")


def _without_identifier(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in ("identifier", "id")}
