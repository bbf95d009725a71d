"""SMTP server definitions: the fields of privacyIDEA's, the queue toggle among them, and the endpoint they make."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal
from urllib.parse import urlsplit

from pijobs import Limits, Told
from pijobs.base.network import is_local, tls_context
from pijobs.definitions import (
    CONNECTION,
    DESCRIPTION,
    FALLBACK,
    LIMITS,
    PASSWORD,
    SECURITY,
    USERNAME,
    Definitions,
    DefinitionStore,
    Field,
    ca_file_setting,
    definitions_check,
    login_without_tls_setting,
    timeout_field,
)
from pijobs.plugins.hookspecs import Check, CheckResult
from pijobs.settings import Setting, Settings
from pijobs.settings.worker import address_of
from pijobs_mail.compose.addresses import sender_of
from pijobs_mail.engine.delivery import Endpoint
from pijobs_mail.engine.oauth import Grant
from pijobs_mail.errors import MessageError
from pijobs_mail.servers.server_address import _HOST, parse_server, parts_of

PREFIX = "PI_JOB_QUEUE_MAIL_"
_SMIME, _OAUTH = "S/MIME", "Login by XOAUTH2"
_RATE = re.compile(r"(\d{1,6})\s*/\s*(s|min|h|d)")
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400}
#: Events that the storage remembers of one rate.
_MOST = 100_000


def _check_server(value: str) -> str | None:
    try:
        parse_server(value)
    except ValueError as error:
        return str(error)
    parts = parts_of(value)
    more = parts.username or parts.password or parts.path.strip("/") or parts.query or parts.fragment
    return "expected no more than a scheme, a host and a port, found a login or a path, too" if more else None


def _check_port(value: int) -> str | None:
    return None if 0 < value < 65536 else f"expected a port from 1 to 65535, found {value}"


def _check_connections(value: int) -> str | None:
    return None if 0 < value <= 200 else f"expected 1 to 200, found {value}"


def _check_mails(value: int) -> str | None:
    return None if 0 < value <= 1000 else f"expected 1 to 1000, found {value}"


def _check_rate(value: str) -> str | None:
    match = _RATE.fullmatch(value.strip())
    if not value or (match and 0 < int(match[1]) <= _MOST):
        return None
    return f"expected mails per s, min, h or d, such as 30/min, at most {_MOST}, found something else"


def _check_path(value: str) -> str | None:
    return None if not value or value.startswith("/") else "expected an absolute path of a PEM file, found another text"


def _check_sender(value: str) -> str | None:
    try:
        sender_of(value)
    except MessageError as error:
        return str(error).partition(": ")[2]
    return None


def _check_token_url(value: str) -> str | None:
    parts = urlsplit(value)
    local = parts.scheme == "http" and parts.hostname in ("localhost", "127.0.0.1", "::1")
    if not value or (parts.hostname and (parts.scheme == "https" or local)):
        return None
    return "expected a URL https://…, found something else"


#: Who is given a login.
_PLACE = ("server", "port", "tls", "verify", "ca_file", "oauth_token_url")
FIELDS = (
    DESCRIPTION,
    Field(
        "server", str, required=True, check=_check_server, section=CONNECTION,
        help="host, host:port, or smtp:// or smtps:// URL",
    ),
    Field(
        "port", int, default=25, check=_check_port, section=CONNECTION,
        help="25; 465 for smtps://; a port in the URL wins",
    ),
    Field("sender", str, default="", check=_check_sender, section=CONNECTION, help="address that mails come from"),
    timeout_field(600, "seconds for connecting and for each reply"),
    USERNAME,
    replace(PASSWORD, belongs_to=_PLACE),
    Field(
        "tls", bool, default=False, label="STARTTLS", section=SECURITY,
        help="a server that does not offer it gets no mail",
    ),
    Field(
        "verify", bool, default=True, label="Verify the certificate", section=SECURITY,
        help="off: others on the network can read everything",
    ),
    Field(
        "ca_file", str, default="", check=_check_path, section=SECURITY,
        help="path of further authorities for its certificate, PEM",
    ),
    Field(
        "max_connections", int, default=10, check=_check_connections, section=LIMITS, help="at once, over all workers",
    ),
    Field(
        "mails_per_connection", int, check=_check_mails, section=LIMITS,
        help="over one connection; empty: 100 to a Postfix, else 10: Exim delivers 10 at once and the others later",
    ),
    Field(
        "rate", str, default="", check=_check_rate, section=LIMITS,
        help="mails over all workers, such as 30/min or 5000/d; empty: no limit",
    ),
    FALLBACK,
    Field("smime", bool, default=False, section=_SMIME, label="Sign mails", help="by S/MIME"),
    Field("certificate", default="", section=_SMIME, help="path of the certificate, and of authorities after it, PEM"),
    Field("private_key", default="", section=_SMIME, help="path of its key, PEM"),
    Field("private_key_password", default="", secret=True, section=_SMIME, help="password of the key"),
    Field(
        "dont_send_on_error", bool, default=False, label="Don't send on error", section=_SMIME,
        help="send nothing rather than unsigned",
    ),
    Field("oauth_token_url", default="", check=_check_token_url, section=_OAUTH, help="where access tokens come from"),
    Field("oauth_client_id", default="", section=_OAUTH, help="id of the application"),
    Field(
        "oauth_client_secret", default="", secret=True, section=_OAUTH, belongs_to=_PLACE,
        help="secret of the application",
    ),
    Field(
        "oauth_refresh_token", default="", secret=True, section=_OAUTH, belongs_to=_PLACE,
        help="of a user; empty: client credentials",
    ),
    Field("oauth_scope", default="", section=_OAUTH, help="what the token is for"),
)  # fmt: skip


def in_clear(definition: Mapping[str, Any], settings: Settings) -> Iterator[str]:
    """Why others on the network can read a server's mails, in sentences."""
    place = endpoint(definition, settings)
    if place.security == "plain" and not place.login_without_tls and not is_local(place.host):
        yield Told(
            "the connection to SMTP server {name!r} has no TLS: others on the network can read "
            "its mails; use STARTTLS or smtps://, or name {host} in {setting}",
            name=definition["identifier"], host=place.host, setting=LOGIN_WITHOUT_TLS,
        )  # fmt: skip


DEFINITIONS = Definitions("smtpserver", FIELDS, in_clear=in_clear)

CA_FILE = ca_file_setting("MAIL", "SMTP servers'")
EHLO_NAME: Setting[str | None] = Setting(
    name=PREFIX + "EHLO_NAME",
    default=None,
    expected="a host name, or None",
    accepts=lambda value: value is None or bool(_HOST.fullmatch(value)),
    help="The name we give to SMTP servers. None: the host's full name, or else its address.",
    example="jobs.example.com",
)
AUTO_SUBMITTED = Setting(
    name=PREFIX + "AUTO_SUBMITTED",
    default=True,
    expected="True or False",
    accepts=lambda value: isinstance(value, bool),
    help="Whether mails carry 'Auto-Submitted: auto-generated', so that nothing answers them automatically.",
    example=False,
)
LOGIN_WITHOUT_TLS = login_without_tls_setting("mail", "SMTP servers", "mails, and login and password", "mail.internal")
SINK: Setting[str | None] = Setting(
    name=PREFIX + "SINK",
    default=None,
    expected="'HOST:PORT' such as '127.0.0.1:1025', or None",
    accepts=lambda value: value is None or address_of(value) is not None,
    help="For development: this server gets all mails, whatever the SMTP servers say. 'pijobs dev' sets it by itself.",
    example="127.0.0.1:1025",
)
SETTINGS = (CA_FILE, EHLO_NAME, AUTO_SUBMITTED, LOGIN_WITHOUT_TLS, SINK)


def open_store(settings: Settings) -> DefinitionStore:
    """The definitions of an installation."""
    return DEFINITIONS.open(settings)


def servers_check(settings: Settings) -> Check:
    """Whether the SMTP servers can be read and used, and protect what is given to them."""

    def look(definition: Mapping[str, Any]) -> Iterator[str]:
        place, identifier = endpoint(definition, settings), definition["identifier"]
        try:
            tls_context(place.ca_file, verify=place.verify)
        except OSError as error:
            raise ValueError(f"its CA file {place.ca_file}: {error.strerror or error}") from None
        if not place.verify:
            yield Told(
                "SMTP server {name!r} is not verified: others on the network can read its mails and its login",
                name=identifier,
            )
        yield from in_clear(definition, settings)

    return definitions_check("smtp_servers", "SMTP server", settings, open_store, ca_file=CA_FILE, look=look)


def sink_checks(settings: Settings) -> list[Check]:
    """One that is red while a sink gets all mails, also those of servers that a host such as privacyIDEA defines."""
    if not settings[SINK]:
        return []
    told = Told("no mail server gets a mail: {setting} gives all to {place}", setting=SINK, place=settings[SINK])
    advice = Told("remove {setting}", setting=SINK)
    return [Check("sink", lambda: CheckResult(True, told, advice, warning=True, alarm=True))]


def limits_of(definition: Mapping[str, Any]) -> Limits:
    """What a server may be given, over all workers."""
    match = _RATE.fullmatch((definition["rate"] or "").strip())
    if match is None:
        return Limits(concurrency=definition["max_connections"])
    return Limits(concurrency=definition["max_connections"], rate=int(match[1]), per=_SECONDS[match[2]])


def endpoint(definition: Mapping[str, Any], settings: Settings) -> Endpoint:
    """How to speak to the server of a definition. ``smtps://`` wins over STARTTLS, which has no place inside of TLS."""
    if (sink := address_of(settings[SINK])) is not None:
        return Endpoint(host=sink[0], port=sink[1])
    definition = DEFINITIONS.complete(definition)  # privacyIDEA's have fewer fields
    scheme, host, port = parse_server(definition["server"])
    security: Literal["plain", "starttls", "tls"] = "starttls" if definition["tls"] else "plain"
    return Endpoint(
        host=host,
        port=port or definition["port"],
        security="tls" if scheme == "smtps" else security,
        username=definition["username"] or "",
        password=definition["password"] or "",
        timeout=float(definition["timeout"]),
        login_without_tls=host in [name.lower() for name in settings[LOGIN_WITHOUT_TLS]],
        verify=definition["verify"],
        ca_file=definition["ca_file"] or settings[CA_FILE],
        ehlo=settings[EHLO_NAME],
        mails=definition["mails_per_connection"],
        oauth=grant(definition, settings),
    )


def grant(definition: Mapping[str, Any], settings: Settings) -> Grant | None:
    """What gives access tokens for the server of a definition; None: it takes a password, or nothing."""
    if not definition.get("oauth_token_url"):
        return None
    return Grant(
        token_url=definition["oauth_token_url"],
        client_id=definition["oauth_client_id"] or "",
        client_secret=definition["oauth_client_secret"] or "",
        refresh_token=definition["oauth_refresh_token"] or "",
        scope=definition["oauth_scope"] or "",
        ca_file=settings[CA_FILE],
    )
