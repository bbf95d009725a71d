"""Counts logins, challenges, and the outcomes of mails, SMS and push messages of privacyIDEA for
``pijobs-statistics``."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from ipaddress import ip_address, ip_network
from typing import Any

import flask

from pijobs import InstanceEvent, State
from pijobs.base.redact import describe
from pijobs.errors import PijobsError
from pijobs.request.queue import Queue
from pijobs_privacyidea.settings import APPLICATIONS
from pijobs_privacyidea.tokens import FIRST_ARRIVED, NONE, Circumstances, circumstances_in, token_of

log = logging.getLogger(__name__)

_LOGINS = ("/validate/check", "/validate/radiuscheck", "/validate/samlcheck", "/auth")
_TRIGGER = "/validate/triggerchallenge"
#: Results by privacyIDEA's ``result.authentication``; a challenge is not a result of a login.
_RESULTS = {"ACCEPT": "accepted", "REJECT": "rejected", "DECLINED": "declined"}
#: The kind of message of each job, if the label does not say it.
_MESSAGES = {"smtpserver.send_email": "mail", "privacyidea.sms": "sms", "privacyidea.second_channel": None}
#: Prefixes of labels.
_KINDS = {"mail": "mail", "SMS": "sms", "push": "push"}
#: Names of privacyIDEA's own clients in ``User-Agent``, and their names in privacyIDEA 3.14
#: (``privacyidea.lib.integrations``). Strangers may send any text.
_KNOWN = {
    "pam-privacyidea": "pam", "privacyidea-pam": "pam", "privacyidea-simplesamlphp": "simplesamlphp",
    **{name: name for name in (
        "privacyidea-cp", "privacyidea-keycloak", "privacyidea-adfs", "privacyidea-ldap-proxy", "privacyidea-app",
        "privacyidea-shibboleth", "privacyidea-nextcloud", "privacyidea-webui", "freeradius", "simplesamlphp", "pam",
        "pam-passkey", "entraid-via-keycloak",
    )},
}  # fmt: skip


def counts() -> bool:
    """Whether the present app's queue has the plugin ``statistics``."""
    from privacyidea.lib.queue import get_job_queue, has_job_queue

    return has_job_queue() and "statistics.apply" in get_job_queue().registry


def count_request(row: Mapping[str, Any]) -> None:
    """Count a login, or a challenge.

    :param row: the row of privacyIDEA's audit.
    """
    path = str(row.get("action") or "").rpartition(" ")[2]
    authentication = str(row.get("authentication") or "")
    challenged = path == _TRIGGER or authentication == "CHALLENGE"
    if path not in (_TRIGGER, *_LOGINS) or not counts():
        return
    from privacyidea.lib.queue import get_job_queue

    import pijobs_statistics as statistics

    good = bool(row.get("success"))
    if challenged:
        name, result = "privacyidea.challenge", "triggered" if good or authentication == "CHALLENGE" else "failed"
    else:
        name, result = "privacyidea.login", _RESULTS.get(authentication, "accepted" if good else "rejected")
    about = Circumstances(
        _realm(row.get("realm")),
        _types(row.get("token_type") or _type_of(row.get("serial"))),
        application(str(row.get("user_agent") or ""), str(row.get("client") or "")),
    )
    with statistics.collect(get_job_queue()):
        statistics.record(name, result=result, **asdict(about))


def present(serial: str | None, token_type: str | None = None) -> Circumstances | None:
    """The circumstances of the message that is being enqueued; None without statistics, or if they are unknown.

    :param serial: serial of the message's token.
    :param token_type: type of the token, if known without the database.
    """
    if not counts():
        return None
    try:
        return _circumstances(serial, token_type)
    except Exception as error:  # an error of database or resolver must not stop a message
        log.warning("a message is counted without realm and token: %s", describe(error))
        return None


def _circumstances(serial: str | None, token_type: str | None) -> Circumstances:
    user, agent, client = None, "", ""
    if flask.has_request_context():
        user = getattr(flask.request, "User", None)
        agent, client = str(flask.request.user_agent), str(flask.g.get("client_ip") or flask.request.remote_addr or "")
    realm = getattr(user, "realm", None)
    if serial is not None and not (realm and token_type) and (token := token_of(serial)) is not None:
        realm, token_type = realm or getattr(token.user, "realm", None), token_type or token.type
    by = application(agent, client) if agent or client else NONE
    return Circumstances(_realm(realm), _types(token_type), by)


def application(agent: str, client: str) -> str:
    """The client of a request: a name of the setting, one of privacyIDEA's own clients, ``browser`` or ``other``.

    :param agent: the ``User-Agent``. :param client: the address.
    """
    from privacyidea.lib.queue import get_job_queue

    first = re.match(r"[\w-]*", agent)
    program = first[0].lower() if first else ""
    for name, marks in get_job_queue().settings[APPLICATIONS].items():
        if any(mark.lower() == program or _within(client, mark) for mark in marks):
            return str(name)
    return _KNOWN.get(program) or ("browser" if program == "mozilla" else "other")


def count_end(queue: Queue, event: InstanceEvent) -> Iterable[tuple[str, Mapping[str, object]]]:
    """The tags of a message's outcome, for the hook of ``pijobs-statistics``."""
    if event.name not in _MESSAGES or event.state not in (State.DONE, State.DEAD, State.EXPIRED):
        return []
    label, history = _label_and_history(queue, event.id)
    if history and json.loads(history[-1]).get("notes", {}).get("first") == FIRST_ARRIVED:
        return []  # there was nothing to send
    kind = _KINDS.get(label.partition(" ")[0], _MESSAGES[event.name])
    return [(f"privacyidea.{kind}", {"result": event.state, **asdict(circumstances_in(label))})] if kind else []


def _label_and_history(queue: Queue, instance: str) -> tuple[str, Sequence[str]]:
    """Label and history of an instance; empty if unknown."""
    try:
        record = queue.places.find(instance)[1]
    except PijobsError:
        return "", ()
    return record.label or "", record.history


def _realm(name: object) -> str:
    """Clients can send realm names that do not exist."""
    from privacyidea.lib.realm import get_realms

    realm = str(name or "").lower()
    return realm if realm in get_realms() else NONE


def _type_of(serials: object) -> str | None:
    """The audit row of an answer to a challenge does not contain the type of its token."""
    token = token_of(serials) if isinstance(serials, str) and serials and "," not in serials else None
    return None if token is None else str(token.type)


def _types(found: object) -> str:
    """The types of a request's tokens, such as ``email+sms``."""
    given = ",".join(map(str, found)) if isinstance(found, (list, tuple, set)) else str(found or "")
    return "+".join(sorted({one.strip().lower() for one in given.split(",") if one.strip()})) or NONE


def _within(client: str, network: str) -> bool:
    try:
        return ip_address(client) in ip_network(network)
    except ValueError:
        return False
