"""Delivery receipts by SMPP, in a deliver_sm."""

from __future__ import annotations

import logging
import re

from pijobs.base import clock
from pijobs.errors import DatabaseError
from pijobs_sms.receipts import Receipts
from pijobs_sms.smpp.pdus import Delivery, Pdu, Status

log = logging.getLogger(__name__)

#: Whether it was delivered, by ``message_state`` (5.2.28), and by texts (appendix B). Other states are not final.
_STATES = {2: True, 3: False, 4: False, 5: False, 8: False}
_WORDS = {"DELIVRD": True, "EXPIRED": False, "DELETED": False, "UNDELIV": False, "REJECTD": False}
_NAMES = {2: "DELIVRD", 3: "EXPIRED", 4: "DELETED", 5: "UNDELIV", 8: "REJECTD"}
#: Seconds between two looks for the id of the SMS, which another process may store after the receipt has arrived.
_PAUSES = (0.2, 1.0)


def take_receipt(receipts: Receipts, gateway: str, pdu: Pdu) -> int:
    """Keep the receipt in a deliver_sm. Returns the status of our answer.

    Accepts and ignores other messages (somebody writes to us), and receipts for unknown SMS.
    """
    try:
        delivery = Delivery.of(pdu.body)
    except ValueError as error:
        log.info("SMS gateway %s: %s", gateway, error)
        return Status.ESME_RSYSERR
    text = delivery.text[:500].decode("latin-1")
    message_id = delivery.message_id or _field("id", text)
    word = _NAMES.get(delivery.state, "") if delivery.state else _field("stat", text).upper()
    delivered = _STATES.get(delivery.state, _WORDS.get(word))
    if not delivery.is_receipt or not message_id or delivered is None:
        return Status.ESME_ROK
    code = _field("err", text).lstrip("0")
    reason = f"{word}, error {code}" if code else word
    try:
        instance = _told(receipts, gateway, message_id, delivered, reason)
    except DatabaseError as failure:
        log.warning("SMS gateway %s: a receipt waits for the database: %s", gateway, failure)
        return Status.ESME_RX_T_APPN
    log.info("SMS gateway %s: the state of %s is %s", gateway, instance or "an SMS that is not known", word)
    return Status.ESME_ROK


def _told(receipts: Receipts, gateway: str, message_id: str, delivered: bool, reason: str) -> str | None:
    for pause in (*_PAUSES, 0):
        instance = receipts.tell(gateway, message_id, delivered=delivered, reason="" if delivered else reason)
        if instance is not None:
            return instance
        clock.sleep(pause)
    return None


def _field(name: str, text: str) -> str:
    """The fields of a text such as ``id:4711 sub:001 dlvrd:001 … stat:DELIVRD err:000 text:…``."""
    found = re.search(rf"\b{name}:\s*([\w.-]+)", text, re.IGNORECASE)
    return found[1] if found else ""
