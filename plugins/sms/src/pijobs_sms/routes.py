"""The HTTP routes of SMS gateways, like those of SMTP servers."""

from __future__ import annotations

from flask import Blueprint, Response, request

from pijobs import Handle
from pijobs.errors import DefinitionNotFound, DefinitionUnreadable
from pijobs.flask import current_queue
from pijobs.server.api import ApiError, answer, parameters, required
from pijobs.server.audited import audit
from pijobs.server.definitions import NOT_FOUND, PARAMETER, DefinitionRoutes, submit_test
from pijobs.server.described import Parameter, takes
from pijobs.server.rights import count_guess, requires
from pijobs_sms import webhook
from pijobs_sms.errors import PhoneError
from pijobs_sms.gateways import open_store
from pijobs_sms.numbers import normalize

#: privacyIDEA's error code for a missing right.
RIGHT = 303


def make_blueprint() -> Blueprint:
    blueprint = Blueprint("smsgateway", __name__, url_prefix="/smsgateway")
    blueprint.post("/send_test_sms")(send_test_sms)
    # Gateways send receipts to an address with the password.
    take_receipt.secret_in_address = True  # type: ignore[attr-defined]
    blueprint.add_url_rule("/<identifier>/receipt", view_func=take_receipt, methods=["GET", "POST"])
    DefinitionRoutes(open_store).add_to(blueprint)
    return blueprint


def take_receipt(identifier: str) -> Response:
    """Take a gateway's delivery receipt. ``password`` is its ``receipt_password``."""
    try:
        definition = open_store(current_queue().settings).get(identifier)
    except (DefinitionNotFound, DefinitionUnreadable):
        definition = {}
    right = webhook.is_from_gateway(definition, request)
    count_guess(f"SMS gateway {identifier}", right=right)
    if not right:
        raise ApiError(
            403, RIGHT, "expected the receipt_password of a gateway as parameter 'password', found another one"
        )
    return answer(webhook.take(current_queue().settings, definition, request))


@requires("admin")
@takes(Parameter("identifier", "of a saved gateway", required=True), Parameter("phone", "who gets it", required=True))
def send_test_sms() -> Response:
    """Send a real SMS by the saved gateway ``identifier``; ``phone`` gets it."""
    values = parameters()
    audit("definition.test", on=f"smsgateway {values.get('identifier')}")
    send_test(required(values, "identifier"), required(values, "phone"))
    return answer(True)


def send_test(identifier: str, phone: str) -> Handle:
    """Send a test SMS by a saved gateway.

    :raises ApiError: if it can't be sent, or was sent in this request and failed.
    """
    try:
        definition = open_store(current_queue().settings).get(identifier)
        number = normalize(phone, definition["region"], definition["countries"])
    except DefinitionNotFound as error:
        raise ApiError(404, NOT_FOUND, str(error)) from None
    except PhoneError as error:
        raise ApiError(400, PARAMETER, str(error)) from None
    text = f"This is a test. The SMS gateway {identifier} works."
    arguments = {"gateway": identifier, "phone": number, "text": text}
    return submit_test("the SMS", definition, "sms.send", arguments)
