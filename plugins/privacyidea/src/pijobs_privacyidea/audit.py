"""Writes undelivered messages to privacyIDEA's audit, where the help desk looks."""

from __future__ import annotations

import logging
import socket
from typing import Any

import flask

from pijobs import InstanceEvent, State
from pijobs.base.redact import describe
from pijobs.errors import PijobsError
from pijobs.request.queue import Queue
from pijobs_privacyidea.tokens import serial_in, token_of

ACTION = "jobqueue not delivered"
#: The jobs whose failures are written: those that send something to a user.
JOBS = ("smtpserver.send_email", "privacyidea.sms", "privacyidea.second_channel")
_LONGEST = 50  # most characters of privacyIDEA's columns, in all releases

log = logging.getLogger(__name__)


def is_failure(event: InstanceEvent) -> bool:
    """Whether a message ended undelivered."""
    return event.name in JOBS and event.state in (State.DEAD, State.EXPIRED)


def tell(app: flask.Flask, queue: Queue, event: InstanceEvent) -> None:
    """Write the end of an instance by the module of ``PI_AUDIT_MODULE``. Raises no error.

    :param app: privacyIDEA's.
    """
    from privacyidea.lib.audit import getAudit

    try:
        with app.test_request_context():
            audit = getAudit(app.config)
            audit.log({**_row(event), **_whose(_serial(queue, event))})
            audit.finalize_log()
            if (engine := getattr(audit, "engine", None)) is not None:
                engine.dispose()  # no connection to an SQLite file may be open when a job forks
    except Exception as error:  # any error of its module, a database or a resolver
        log.error("job %s %s: its end is not in privacyIDEA's audit: %s", event.name, event.id, describe(error))


def _row(event: InstanceEvent) -> dict[str, Any]:
    return {
        "action": ACTION, "success": False, "privacyidea_server": socket.gethostname(),
        "action_detail": f"{event.name} {event.id[:8]}"[:_LONGEST], "info": (event.reason or event.state)[:_LONGEST],
    }  # fmt: skip


def _serial(queue: Queue, event: InstanceEvent) -> str | None:
    """The serial of the message's token; None for a notice, or if unknown."""
    try:
        return serial_in(queue.places.find(event.id)[1].label)
    except PijobsError:
        return None


def _whose(serial: str | None) -> dict[str, Any]:
    token = None if serial is None else token_of(serial)
    if token is None:
        return {}
    found = {"serial": serial, "token_type": token.type}
    if (user := token.user) is not None:
        found |= {"user": user.login, "realm": user.realm, "resolver": user.resolver}
    return found
