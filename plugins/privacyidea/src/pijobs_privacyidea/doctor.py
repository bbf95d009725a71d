"""``pijobs privacyidea doctor``: what keeps mails from being sent, or will one day."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from importlib import metadata
from pathlib import Path
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from pijobs import DestinationDown, Settings
from pijobs.base.requirements import unmet
from pijobs.errors import PijobsError, StorageUnavailable
from pijobs.observe.readiness import configuration
from pijobs.settings import PREFIX
from pijobs_mail.compose.addresses import sender_of
from pijobs_mail.servers.definitions import endpoint
from pijobs_privacyidea import definitions
from pijobs_privacyidea.host import Host
from pijobs_privacyidea.mail import first_sender
from pijobs_privacyidea.old_queue import count_old
from pijobs_privacyidea.settings import OTP_SERVERS, OWN_CLASS

COMMAND = "privacyidea-queue-huey"
#: Releases that this plugin is tried with.
TRIED = ("3.11", "3.12", "3.13", "3.14")


class Level(str, Enum):
    OK = "ok"
    WARNING = "warning"
    BAD = "bad"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Finding:
    """One line of the report. :ivar advice: what to do."""

    level: Level
    text: str
    advice: str = ""


def examine(settings: Settings) -> Iterator[Finding]:
    """Everything that is looked at. A part that can't be looked at is a finding, too."""
    yield from _requirements()
    yield from _release()
    yield from _class(settings)
    yield from _environment()
    yield from _command()
    yield from _guarded("the logging configuration", lambda: _logging(settings))
    yield from _guarded("the old queue", lambda: _old_queue(settings))
    yield from _guarded("privacyIDEA", lambda: _inside(settings))
    yield from _guarded("the queue", lambda: _queue(settings))


def _guarded(what: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from list(look())
    except PijobsError as error:
        yield Finding(Level.BAD, f"{what} can't be looked at: {error}", "look at pi.cfg")
    except Exception as error:  # of privacyIDEA, a driver, or a file; the other parts are still of use
        database = isinstance(error, SQLAlchemyError)
        advice = "look at the database, and at SQLALCHEMY_DATABASE_URI" if database else "see the log of privacyIDEA"
        yield Finding(Level.BAD, f"{what} can't be looked at: {type(error).__name__}", advice)


def _requirements() -> Iterator[Finding]:
    """An upgrade of privacyIDEA installs its own versions, and pip only warns."""
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


def _environment() -> Iterator[Finding]:
    """privacyIDEA takes settings from there, too, since 3.12."""
    if found := sorted(name for name in os.environ if name.startswith("PRIVACYIDEA_" + PREFIX)):
        yield Finding(
            Level.BAD,
            f"the environment has {', '.join(found)}: the server takes settings from it, the worker does not",
            "set them in pi.cfg",
        )


def _command() -> Iterator[Finding]:
    """privacyIDEA brings a script of the same name; whoever was installed last has it."""
    beside = Path(sys.executable).with_name(COMMAND)
    for path in dict.fromkeys(filter(None, (str(beside) if beside.exists() else None, shutil.which(COMMAND)))):
        if b"pijobs" in Path(path).read_bytes():
            yield Finding(Level.OK, f"{path} is the one of pijobs")
        else:
            yield Finding(
                Level.BAD,
                f"{path} is privacyIDEA's own script, which can't run with the huey of today",
                "pip install --force-reinstall --no-deps pijobs-privacyidea; or start 'pijobs worker' instead",
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
        yield from _otp(settings, servers, sender)
        yield from _gateways()


def _smtp_servers() -> dict[str, dict[str, Any]]:
    from privacyidea.lib.smtpserver import get_smtpservers

    return {server.config.identifier: server.config.get() for server in get_smtpservers()}


def _gateways() -> Iterator[Finding]:
    from privacyidea.lib.smsprovider.SMSProvider import SMSError, create_sms_instance, get_smsgateway

    from pijobs_privacyidea.sms import CLASS

    for gateway in get_smsgateway(gwtype=CLASS):
        name = f"SMS gateway {gateway.identifier!r}"
        try:
            create_sms_instance(gateway.identifier).check_configuration()
        except SMSError as error:
            yield Finding(Level.BAD, f"{name}: {error}", "make it anew by 'pijobs privacyidea sms-gateway'")
        else:
            yield Finding(Level.OK, f"{name}: queued, sent by {gateway.option_dict['WRAPS']!r}")


def _queue(settings: Settings) -> Iterator[Finding]:
    """What ``pijobs config check`` looks at: storage, workers, keys."""
    from privacyidea.lib.queue import get_job_queue, has_job_queue

    with Host.of(settings).app.app_context():
        if settings.queue_class != OWN_CLASS or not has_job_queue():
            return
        try:
            checks = configuration(get_job_queue())
        except StorageUnavailable as error:
            yield Finding(Level.BAD, f"the storage of the queue does not answer: {error}", f"look at {PREFIX}URL")
            return
        in_use = any(config.get("enqueue_job") for config in _smtp_servers().values())
    for name, result in checks:
        level = Level.WARNING if result.warning else Level.OK if result.ok else Level.BAD
        if name == "worker" and level is Level.WARNING and in_use:
            level = Level.BAD  # mails wait for it already
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
        yield Finding(Level.BAD, f"{name}: {error}", "run this as the user of the worker; save the server again")
        return
    except ValueError as error:
        yield Finding(Level.BAD, f"{name}: {error}", "mend it in privacyIDEA")
        return
    if unreadable := [file for file in _smime_files(definition) if not os.access(file, os.R_OK)]:
        yield Finding(Level.BAD, f"{name}: {', '.join(unreadable)} can't be read", "let the worker's user read it")
    clear = place.username and place.security == "plain" and not place.login_without_tls
    if clear and place.host not in ("localhost", "127.0.0.1", "::1"):
        yield Finding(
            Level.BAD,
            f"{name}: wants its login sent in clear to {place.host}, which pijobs does not do unasked",
            f"use TLS, or name the host in {PREFIX}MAIL_LOGIN_WITHOUT_TLS",
        )
        return
    yield Finding(Level.OK, f"{name}: queued, to {place}")


def _smime_files(definition: dict[str, Any]) -> list[str]:
    return [definition["private_key"], definition["certificate"]] if definition["smime"] else []


def _otp(settings: Settings, servers: dict[str, Any], sender: str | None) -> Iterator[Finding]:
    named = settings[OTP_SERVERS]
    for name in named:
        if name not in servers:
            known = ", ".join(map(repr, servers)) or "none"
            yield Finding(Level.BAD, f"{OTP_SERVERS} names {name!r}, which is no SMTP server", f"there are: {known}")
    if sender and sender not in servers:
        yield Finding(
            Level.BAD,
            f"OTPs are sent by the SMTP server {sender!r} (email.identifier), which does not exist",
            f"make it, or choose another one; there are: {', '.join(map(repr, servers)) or 'none'}",
        )
    elif sender:
        validity = definitions.otp_validity()
        yield Finding(Level.OK, f"OTPs go by SMTP server {sender!r} and expire after {validity:g} s (email.validtime)")
    if named:
        yield Finding(Level.OK, f"all mails of {', '.join(named)} expire after {definitions.otp_validity():g} s")
