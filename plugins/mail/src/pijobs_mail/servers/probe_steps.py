"""The steps of a look at an SMTP server, by smtplib, so that the engine does not check itself."""

from __future__ import annotations

import smtplib
import socket
import ssl
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from pijobs.base import clock
from pijobs.base.network import look_up, tls_context
from pijobs_mail.engine import auth, hints, oauth
from pijobs_mail.engine.delivery import Endpoint
from pijobs_mail.engine.replies import ProtocolError, Reply
from pijobs_mail.engine.wire import Wire
from pijobs_mail.errors import MailError, MaybeSent, ServerTrouble

#: Days before the end of a certificate from which on it is told of.
SOON = 21

LONGEST = 300  # characters of an answer that are shown

#: By OpenSSL's code of what it has against a certificate (X509_V_ERR_…): not yet, or no longer, valid; name; address.
CERTIFICATE = {9: "ended", 10: "ended", 62: "name", 64: "name"}


class Wrong(OSError):
    """:param advice: key of the advice that fits better than that of the step."""

    def __init__(self, message: str, advice: str) -> None:
        self.advice = advice
        super().__init__(message)


class Client(smtplib.SMTP):
    """Reads replies as the engine does: cut, and each within the time-out as a whole."""

    _wire: Wire | None = None

    def getreply(self) -> tuple[int, bytes]:
        assert self.sock is not None
        if self._wire is None or not self._wire.is_of(self.sock):
            self._wire = Wire(self.sock)
        try:
            reply = self._wire.reply(float(self.timeout))
        except ProtocolError:
            raise OSError("what it says is no SMTP") from None
        lines = (" ".join(filter(None, [reply.enhanced, line])) for line in reply.lines)
        return reply.code, "\n".join(lines).encode()


def addresses(place: Endpoint) -> str:
    found = look_up(place.host, place.port, place.timeout)
    return f"{place.host} is {', '.join(dict.fromkeys(str(each[4][0]) for each in found))}"


def connect(client: smtplib.SMTP, place: Endpoint) -> str:
    client.sock = socket.create_connection((place.host, place.port), place.timeout)
    return f"connected to {client.sock.getpeername()[0]} port {place.port}"


def encrypt(client: smtplib.SMTP, place: Endpoint) -> str:
    assert client.sock is not None
    try:
        context = tls_context(place.ca_file, verify=place.verify)
    except OSError as error:
        raise Wrong(f"the CA file {place.ca_file} can't be used: {words_of(error)}", "ca file") from None
    try:
        client.sock = context.wrap_socket(client.sock, server_hostname=place.host)
    except ssl.SSLCertVerificationError as error:
        if key := hints.for_certificate(place, error):
            raise Wrong(words_of(error), key) from None
        if CERTIFICATE.get(error.verify_code) != "name":
            raise
        raise Wrong(f"{words_of(error)}; it is for {_look_at_names(place)}", advice_for("tls", error)) from None
    except ssl.SSLError as error:
        raise Wrong(words_of(error), hints.for_handshake(place, error) or "tls") from None
    client.file = None
    if not place.verify:
        return f"{client.sock.version()}, certificate NOT VERIFIED, since the field verify is off: turn it on"
    certificate, cipher = client.sock.getpeercert() or {}, client.sock.cipher()
    ends = datetime.fromtimestamp(ssl.cert_time_to_seconds(str(certificate["notAfter"])), timezone.utc)
    spoken = f"{client.sock.version()} {cipher[0] if cipher else ''}"
    return f"{spoken}, certificate for {_names(certificate)}, {until(ends)}"


def _names(certificate: Mapping[str, Any]) -> str:
    return ", ".join(str(name[1]) for name in certificate.get("subjectAltName", ()))[:LONGEST] or "no name"


def _look_at_names(place: Endpoint) -> str:
    """The names of a certificate that is for another host, by a connection that is good for nothing else."""
    client = Client(timeout=place.timeout, local_hostname=place.ehlo)
    try:
        connect(client, place)
        assert client.sock is not None
        if place.security == "starttls":
            agreed(client.getreply())
            features(client)
            agreed(client.docmd("STARTTLS"))
        context = tls_context(place.ca_file, any_name=True)
        client.sock = context.wrap_socket(client.sock, server_hostname=place.host)
        return _names(client.sock.getpeercert() or {})
    except (OSError, smtplib.SMTPException):
        return "others"
    finally:
        client.close()


def start_tls(client: smtplib.SMTP, place: Endpoint) -> str:
    if not client.has_extn("starttls"):
        raise OSError("the field tls asks for STARTTLS, and the server does not offer it")
    agreed(client.docmd("STARTTLS"))
    client.ehlo_resp = None  # RFC 3207 4.2: forget what was offered in clear
    return encrypt(client, place)


def features(client: smtplib.SMTP) -> str:
    agreed(client.ehlo())
    features = client.esmtp_features.items()
    return ", ".join(f"{name.upper()} {_size(value)}".strip() for name, value in features) or "none"


def _size(value: str) -> str:
    """Bytes as people read them: a long number would be masked, like an OTP."""
    return f"{int(value) / 1e6:.1f} MB" if value.isdecimal() and 5 < len(value) < 16 else value


def login(client: smtplib.SMTP, place: Endpoint) -> str:
    assert client.sock is not None
    encrypted = isinstance(client.sock, ssl.SSLSocket)
    if not (encrypted or place.login_without_tls or client.sock.getpeername()[0] in ("127.0.0.1", "::1")):
        raise OSError("login and password go to another machine in clear only where that is allowed; use TLS")
    secret = place.password if place.oauth is None else oauth.access_token(place.oauth, place.timeout)
    offered = client.esmtp_features.get("auth", "").upper().split()

    def ask(command: str) -> Reply:
        code, text = client.docmd(command)
        return Reply(code, None, (text.decode("utf-8", "replace"),))

    try:
        done = auth.log_in(offered, place.username, secret, ask, token=place.oauth is not None)
    except auth.ServerNotVerified as error:
        raise OSError(str(error)) from None
    if done is None:
        raise Wrong(auth.no_common_mechanism(offered), "login" if offered else "no login")
    mechanism, reply = done
    if not reply.accepted and place.oauth is not None:
        oauth.forget(place.oauth)
    return f"{mechanism} as {place.username}: {agreed((reply.code, reply.text.encode()))}"


def agreed(reply: tuple[int, bytes]) -> str:
    """:raises OSError: unless the server agrees."""
    code, text = reply
    shown = f"{code} {' '.join(text.decode('utf-8', 'replace').split())}"[:LONGEST]
    if code >= 300 or code < 200:
        raise OSError(f"the server answered {shown}")
    return shown


def until(ends: datetime) -> str:
    days = (ends - datetime.fromtimestamp(clock.time(), timezone.utc)).days
    renewal = f" - in {days} days: renew it" if days < SOON else ""
    return f"valid until {ends:%Y-%m-%d}{renewal}"


def advice_for(step: str, error: Exception) -> str:
    """Key of the advice for what went wrong at a step."""
    if isinstance(error, MaybeSent) or (step == "mail" and isinstance(error, ServerTrouble) and error.reply is None):
        return "no final reply"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate {CERTIFICATE.get(error.verify_code, 'authority')}"
    return error.advice if isinstance(error, Wrong) else step


def words_of(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not accepted: {error.verify_message.rstrip('.')}"
    if isinstance(error, MailError):
        return str(error)
    if isinstance(error, TimeoutError) or isinstance(error.__context__, TimeoutError):  # which smtplib hides
        return "timed out"
    if isinstance(error, ssl.SSLError):
        return f"no TLS: {error.reason or error}"
    return str(getattr(error, "strerror", None) or error)
