"""``pijobs privacyidea doctor``: finds what prevents mails from being sent, now or later."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from itertools import takewhile
from pathlib import Path
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from pijobs import DestinationDown, Settings, State
from pijobs.base.requirements import unmet
from pijobs.errors import PijobsError, StorageUnavailable
from pijobs.observe.readiness import configuration
from pijobs.settings import PREFIX, environment_settings, read_config
from pijobs_mail.compose.addresses import sender_of
from pijobs_mail.servers.definitions import endpoint
from pijobs_privacyidea import definitions
from pijobs_privacyidea.findings import Finding, Level
from pijobs_privacyidea.host import Host
from pijobs_privacyidea.mail import first_sender
from pijobs_privacyidea.old_queue import count_old
from pijobs_privacyidea.settings import OTP_SERVERS, OWN_CLASS

COMMAND = "privacyidea-queue-huey"
#: Releases of privacyIDEA that this plugin is tested with.
TRIED = ("3.11", "3.12", "3.13", "3.14")
#: States of instances that need a worker.
_WAITING = (State.QUEUED, State.SCHEDULED)
_OWN_SERVERS = "mail.smtp_servers"


def examine(settings: Settings) -> Iterator[Finding]:
    """All findings, also one for each part that can't be checked."""
    yield from _requirements()
    yield from _release()
    yield from _class(settings)
    yield from _environment(settings)
    yield from _command()
    yield from _guarded("the logging configuration", lambda: _logging(settings))
    yield from _guarded("the old queue", lambda: _old_queue(settings))
    inside = list(_guarded("privacyIDEA", lambda: _inside(settings)))
    yield from inside
    in_use = any(finding.queued for finding in inside)
    yield from _guarded("the queue", lambda: _queue(settings, in_use=in_use))


def _guarded(what: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from list(look())
    except StorageUnavailable as error:
        advice = "start the queue's storage, or correct PI_JOB_QUEUE_URL in pi.cfg"
        yield Finding(Level.BAD, f"{what} can't be looked at: {error}", advice)
    except PijobsError as error:
        yield Finding(Level.BAD, f"{what} can't be looked at: {error}", "look at pi.cfg")
    except Exception as error:  # of privacyIDEA, a driver or a file; go on with the other parts
        database = isinstance(error, SQLAlchemyError)
        advice = "look at the database, and at SQLALCHEMY_DATABASE_URI" if database else "see the log of privacyIDEA"
        yield Finding(Level.BAD, f"{what} can't be looked at: {type(error).__name__}", advice)


def _requirements() -> Iterator[Finding]:
    """Check versions: an upgrade of privacyIDEA installs the versions that it needs, and pip only warns."""
    for sentence in unmet("pijobs", "pijobs-mail", "pijobs-privacyidea"):
        found, _, advice = sentence.rpartition(": ")
        yield Finding(Level.BAD, f"{found}; mails are sent in the request, and no worker starts", advice)


def _release() -> Iterator[Finding]:
    version = metadata.version("privacyidea")
    tried = ".".join(version.split(".")[:2]) in TRIED
    level = Level.OK if tried else Level.WARNING
    yield Finding(level, f"privacyIDEA {version}", "" if tried else f"this plugin is tried with {', '.join(TRIED)}")


def _class(settings: Settings) -> Iterator[Finding]:
    found = settings.queue_class
    if found == OWN_CLASS:
        yield Finding(Level.OK, f"{PREFIX}CLASS is {found}")
    else:
        yield Finding(Level.BAD, f"{PREFIX}CLASS is {found!r}", f"set {PREFIX}CLASS = {OWN_CLASS!r} in pi.cfg")


def _environment(settings: Settings) -> Iterator[Finding]:
    """Check for settings in the environment: privacyIDEA reads them since 3.12, but each service has its own."""
    if settings.file is None:  # an app without a file, as in a container
        return
    written = read_config(settings.file, {})
    known = sorted(name for name in environment_settings() if name in settings.table and name not in written)
    if not known:
        return
    takes = _series() >= (3, 12)
    yield Finding(
        Level.WARNING if takes else Level.BAD,
        f"{', '.join(known)}: set in the environment, not in pi.cfg"
        + ("; server, worker and commands need the same one" if takes else ", where this privacyIDEA does not look"),
        "set them in pi.cfg",
    )


def _series() -> tuple[int, int]:
    """The release of privacyIDEA, without its patch level."""
    first, second = metadata.version("privacyidea").split(".")[:2]
    return int(first), int("".join(takewhile(str.isdigit, second)))


def _command() -> Iterator[Finding]:
    """Check the command's script: privacyIDEA has one of the same name, and the last installed package wins."""
    beside = Path(sys.executable).with_name(COMMAND)
    for path in dict.fromkeys(filter(None, (str(beside) if beside.exists() else None, shutil.which(COMMAND)))):
        if b"pijobs" in Path(path).read_bytes():
            yield Finding(Level.OK, f"{path} is the one of pijobs")
        else:
            yield Finding(
                Level.BAD,
                f"{path} is privacyIDEA's own script, which can't run with the huey of today",
                "start 'pijobs worker' instead; or pip install --force-reinstall --no-deps"
                " ./pijobs/plugins/privacyidea",
            )


def _logging(settings: Settings) -> Iterator[Finding]:
    file = settings.log_config
    if file and Path(file).exists() and "RotatingFileHandler" in Path(file).read_text(errors="replace"):
        yield Finding(
            Level.WARNING,
            f"{file} (PI_LOGCONFIG) rotates a file: server and worker would both do so, and lose lines",
            "let both write to a WatchedFileHandler, and rotate by logrotate",
        )


def _old_queue(settings: Settings) -> Iterator[Finding]:
    for name, number in count_old(settings).items():
        advice = "they are never read; delete them by 'pijobs privacyidea purge-old'"
        text = f"{number} jobs of privacyIDEA's own queue class are left in Redis, in its queue {name!r}"
        yield Finding(Level.WARNING, text, advice)


def _inside(settings: Settings) -> Iterator[Finding]:
    from privacyidea.lib.config import get_from_config

    with Host.of(settings).app.app_context():
        servers = _smtp_servers()
        for identifier, config in servers.items():
            yield from _server(settings, identifier, config)
        sender = get_from_config("email.identifier")
        if not sender and get_from_config("email.mailserver"):
            yield Finding(
                Level.WARNING,
                "OTPs are sent by the settings email.mailserver …, which never use the queue",
                "make an SMTP server, and name it as email.identifier",
            )
        if not sender and not get_from_config("email.mailserver"):
            yield Finding(
                Level.WARNING,
                "no SMTP server is named for the OTPs of e-mail tokens",
                "choose one in privacyIDEA (email.identifier), or remove the e-mail tokens",
            )
        yield from _otp(settings, servers, sender)
        yield from _gateways(get_from_config("sms.identifier"))


def _smtp_servers() -> dict[str, dict[str, Any]]:
    from privacyidea.lib.smtpserver import get_smtpservers

    return {server.config.identifier: server.config.get() for server in get_smtpservers()}


def _gateways(chosen: str | None) -> Iterator[Finding]:
    """Check the SMS gateways. :param chosen: the gateway of SMS tokens (``sms.identifier``)."""
    from privacyidea.lib.smsprovider.SMSProvider import SMSError, create_sms_instance, get_smsgateway

    from pijobs_privacyidea.sms import CLASS

    gateways = {gateway.identifier: gateway for gateway in get_smsgateway()}
    if chosen and chosen not in gateways:
        yield Finding(
            Level.BAD,
            f"OTPs are sent by the SMS gateway {chosen!r} (sms.identifier), which does not exist",
            f"make it, or choose another one; there are: {', '.join(map(repr, gateways)) or 'none'}",
        )
    for identifier, gateway in gateways.items():
        if gateway.providermodule != CLASS:
            continue
        name = f"SMS gateway {identifier!r}"
        try:
            create_sms_instance(identifier).check_configuration()
        except SMSError as error:
            yield Finding(Level.BAD, f"{name}: {error}", "make it anew by 'pijobs privacyidea sms-gateway'", True)
        else:
            yield Finding(Level.OK, f"{name}: queued, sent by {gateway.option_dict['WRAPS']!r}", queued=True)


def _queue(settings: Settings, *, in_use: bool) -> Iterator[Finding]:
    """Check storage, workers and keys, as ``pijobs config check`` does.

    :param in_use: whether something is sent by the queue: then a worker must run.
    """
    from privacyidea.lib.queue import get_job_queue, has_job_queue

    with Host.of(settings).app.app_context():
        if settings.queue_class != OWN_CLASS or not has_job_queue():
            return
        try:
            queue = get_job_queue()
            checks = dict(configuration(queue))
            waits = any(n for (_, state), n in queue.storage.depths().counts.items() if state in _WAITING)
        except StorageUnavailable as error:
            yield Finding(Level.BAD, f"the storage of the queue does not answer: {error}", f"look at {PREFIX}URL")
            return
    if (own := checks.get(_OWN_SERVERS)) and own.ok:  # servers of pijobs itself; privacyIDEA's are checked above
        del checks[_OWN_SERVERS]
    for name, result in checks.items():
        level = Level.WARNING if result.warning else Level.OK if result.ok else Level.BAD
        if name == "worker" and level is Level.WARNING and (in_use or waits):
            level = Level.BAD
        yield Finding(level, f"{name}: {result.message}", result.advice if level is not Level.OK else "")


def _server(settings: Settings, identifier: str, config: dict[str, Any]) -> Iterator[Finding]:
    name = f"SMTP server {identifier!r}"
    if not config.get("enqueue_job"):
        yield Finding(Level.OK, f"{name}: sends in the request; its box is off")
        return
    try:
        definition = definitions.saved(identifier)
        place = endpoint(definition, settings)
        sender_of(first_sender(definition["sender"]))
    except DestinationDown as error:
        yield Finding(Level.BAD, f"{name}: {error}", "run this as the user of the worker; save the server again", True)
        return
    except ValueError as error:
        yield Finding(Level.BAD, f"{name}: {error}", "mend it in privacyIDEA", True)
        return
    if unreadable := [file for file in _smime_files(definition) if not os.access(file, os.R_OK)]:
        yield Finding(
            Level.BAD, f"{name}: {', '.join(unreadable)} can't be read", "let the worker's user read it", True
        )
    clear = place.username and place.security == "plain" and not place.login_without_tls
    if clear and place.host not in ("localhost", "127.0.0.1", "::1"):
        yield Finding(
            Level.BAD,
            f"{name}: wants its login sent in clear to {place.host}, which pijobs does not do unasked",
            f"use TLS, or name the host in {PREFIX}MAIL_LOGIN_WITHOUT_TLS",
            True,
        )
        return
    yield Finding(Level.OK, f"{name}: queued, to {place}", queued=True)


def _smime_files(definition: dict[str, Any]) -> list[str]:
    return [definition["private_key"], definition["certificate"]] if definition["smime"] else []


def _otp(settings: Settings, servers: dict[str, Any], sender: str | None) -> Iterator[Finding]:
    named = settings[OTP_SERVERS]
    for name in named:
        if name not in servers:
            there = ", ".join(map(repr, servers)) or "none"
            yield Finding(
                Level.BAD,
                f"{OTP_SERVERS} names {name!r}, which is no SMTP server",
                f"correct it in pi.cfg; there are: {there}",
            )
    if sender and sender not in servers:
        yield Finding(
            Level.BAD,
            f"OTPs are sent by the SMTP server {sender!r} (email.identifier), which does not exist",
            f"make it, or choose another one; there are: {', '.join(map(repr, servers)) or 'none'}",
        )
    elif sender and not servers[sender].get("enqueue_job"):
        yield Finding(
            Level.WARNING,
            f"OTPs are sent by the SMTP server {sender!r} (email.identifier) in the request: its box is off",
            "tick its box (send through the job queue)",
        )
    elif sender:
        validity = definitions.otp_validity()
        yield Finding(Level.OK, f"OTPs go by SMTP server {sender!r} and expire after {validity:g} s (email.validtime)")
    if known := [name for name in named if name in servers]:
        yield Finding(Level.OK, f"all mails of {', '.join(known)} expire after {definitions.otp_validity():g} s")
