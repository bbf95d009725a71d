"""Routes for SMTP servers, with privacyIDEA's paths, parameters and answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Response

from pijobs import Handle
from pijobs.flask import current_queue
from pijobs.server.api import ApiError, answer, parameters
from pijobs.server.audited import audit
from pijobs.server.definitions import PARAMETER, DefinitionRoutes, submit_test
from pijobs.server.described import Parameter, Taken, takes_what
from pijobs.server.rights import requires
from pijobs_mail.compose import message as messages
from pijobs_mail.compose.message import Letter
from pijobs_mail.errors import MessageError
from pijobs_mail.send import as_arguments
from pijobs_mail.servers.definitions import open_store
from pijobs_mail.servers.server_address import with_port

SERVERS = DefinitionRoutes(open_store, with_port)


def make_blueprint() -> Blueprint:
    blueprint = Blueprint("smtpserver", __name__, url_prefix="/smtpserver")
    blueprint.post("/send_test_email")(send_test_email)
    SERVERS.add_to(blueprint)
    return blueprint


@requires("admin")
@takes_what(Taken(lambda: [Parameter("recipient", "who gets it", required=True), *SERVERS.parameters()]))
def send_test_email() -> Response:
    """Send a real mail to ``recipient`` with a definition, saved or unsaved."""
    SERVERS.refuse_secrets_in_the_address()
    values = parameters()
    audit("definition.test", on=f"smtpserver {values.get('identifier') or '(not saved)'}")
    send_test(values)
    return answer(True)


def send_test(posted: Mapping[str, Any]) -> Handle:
    """Send a test mail.

    :param posted: ``recipient``, and a definition, or the fields that differ from the one saved as ``identifier``.
    :raises ApiError: the mail can't be sent, or it was sent in this call and failed.
    """
    values = dict(posted)
    recipient, identifier = values.pop("recipient", None), str(values.get("identifier") or "")
    if not recipient:
        raise ApiError(400, PARAMETER, "recipient: expected the address that the mail goes to, found none")
    definition, saved = SERVERS.merged(identifier, values)
    try:
        letter = _test_letter(str(recipient), identifier, definition)
        arguments = as_arguments(letter, definition["sender"])
    except MessageError as error:
        raise ApiError(400, PARAMETER, str(error)) from None
    # Pass a saved definition by name, so that its password is not in the queue.
    source = {"server": identifier, "failover": False} if saved else {"definition": definition}
    return submit_test("the mail", definition, "mail.send" if saved else "mail.test", {**source, **arguments})


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
