"""privacyIDEA's SMTP servers as definitions for the mail engine. All functions need privacyIDEA's app context."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from pijobs.errors import UnknownHere

_TIMEOUT = 10.0  # seconds; privacyIDEA's default
_SECRETS = ("password", "private_key_password")
#: The fields that the engine needs, with their defaults; older releases have fewer.
_FIELDS: Mapping[str, Any] = {
    "server": "", "port": 25, "username": "", "password": "", "sender": "", "tls": False, "timeout": _TIMEOUT,
    "smime": False, "certificate": "", "private_key": "", "private_key_password": "", "dont_send_on_error": False,
}  # fmt: skip


def saved(identifier: str) -> dict[str, Any]:
    """The present definition, with decrypted secrets.

    :raises UnknownHere: if this worker's database does not have it (privacyIDEA keeps no record of deletions), or if
        database or key fail at present.
    """
    from privacyidea.lib.error import ResourceNotFoundError
    from privacyidea.lib.smtpserver import get_smtpserver

    try:
        config = get_smtpserver(identifier).config.get()
    except ResourceNotFoundError:
        raise not_here(f"SMTP server {identifier!r}") from None
    except SQLAlchemyError as error:
        raise UnknownHere(f"privacyIDEA's database does not answer ({type(error).__name__})") from None
    return {**plain(config), **{name: _decrypted(config.get(name), name) for name in _secrets_used(config)}}


def not_here(what: str) -> UnknownHere:
    """The error of a job whose definition this worker does not find; names both possible causes.

    :param what: such as ``"SMTP server 'main'"``.
    """
    return UnknownHere(
        f"{what} is not in the privacyIDEA database of this worker: it was deleted, or the worker has another database"
        " than the server; make it again, or cancel what waits for it"
    )


def unsaved(config: Mapping[str, Any] | None) -> dict[str, Any]:
    """The values of an unsaved definition; its secrets are either in clear or the stored ones."""
    definition = plain(config or {})
    for name in _secrets_used(definition):
        with contextlib.suppress(UnknownHere):  # the secret is in clear
            definition[name] = _decrypted(definition[name], name)
    return definition


def plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that a mail needs, none of them None."""
    definition = {name: default if config.get(name) is None else config[name] for name, default in _FIELDS.items()}
    definition["port"] = int(definition["port"] or 25)
    definition["timeout"] = float(definition["timeout"] or _TIMEOUT)
    return definition


def otp_server() -> str | None:
    """The identifier of the SMTP server for OTPs (``email.identifier``). Needs an app context."""
    from privacyidea.lib.config import get_from_config

    return get_from_config("email.identifier") or None


def otp_validity() -> float:
    """Seconds that an OTP sent by mail is valid: ``email.validtime``. Needs the app context of the request."""
    return configured_seconds("email.validtime", 120)


def configured_seconds(name: str, default: float) -> float:
    """Seconds from privacyIDEA's system configuration; ``default`` for an invalid number, as in privacyIDEA."""
    from privacyidea.lib.config import get_from_config

    try:
        return max(1.0, float(int(get_from_config(name, default))))
    except (TypeError, ValueError):
        return default


def _secrets_used(config: Mapping[str, Any]) -> list[str]:
    """The secrets to decrypt. Leaves out unused ones: an HSM that is not ready must not stop a mail without login."""
    used = {"password": config.get("username"), "private_key_password": config.get("smime")}
    return [name for name in _SECRETS if used[name] and config.get(name)]


def _decrypted(value: str, name: str) -> str:
    from privacyidea.lib.crypto import FAILED_TO_DECRYPT_PASSWORD, decryptPassword

    try:
        secret: str = decryptPassword(value)
    except Exception as error:  # any error of the security module
        raise UnknownHere(f"the security module does not decrypt the {name} ({type(error).__name__})") from None
    if secret == FAILED_TO_DECRYPT_PASSWORD:
        raise UnknownHere(f"the {name} can't be decrypted; does this process read the PI_ENCFILE of the server?")
    return secret
