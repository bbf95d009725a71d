"""What a good doctor does to an SMTP server: one step after another, each with its time and, if it fails, advice.

By :mod:`smtplib`, as a second opinion beside the engine; the test mail goes by the engine itself.
"""

from __future__ import annotations

import smtplib
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from pijobs.base import clock
from pijobs.base.network import look_up, tls_context
from pijobs.base.redact import redact
from pijobs.settings import Settings
from pijobs_mail.compose import message as messages
from pijobs_mail.compose.addresses import sender_of
from pijobs_mail.compose.message import Letter, compose, make_message_id
from pijobs_mail.compose.smime import load_signer
from pijobs_mail.engine import auth, hints, oauth
from pijobs_mail.engine.delivery import Deadline, Endpoint, Mail
from pijobs_mail.engine.hints import ADVICE
from pijobs_mail.engine.replies import ProtocolError, Reply, Verdict
from pijobs_mail.engine.transport import Conversation
from pijobs_mail.engine.wire import Wire
from pijobs_mail.errors import MailError, MaybeSent, ServerTrouble, SigningFailed
from pijobs_mail.servers.definitions import DEFINITIONS, endpoint

#: Days before the end of a certificate from which on it is told of.
SOON = 21
_LONGEST = 300  # characters of an answer that are shown
#: Seconds to wait for the word on a test mail: somebody waits for the probe.
PATIENCE = 30.0
#: By OpenSSL's code of what it has against a certificate (X509_V_ERR_…): not yet, or no longer, valid; name; address.
_CERTIFICATE = {9: "ended", 10: "ended", 62: "name", 64: "name"}


@dataclass(frozen=True)
class Step:
    """One finding. :ivar seconds: that it took. :ivar advice: what to do, when it is not ok."""

    name: str
    ok: bool
    seconds: float
    found: str
    advice: str | None = None

    def as_json(self) -> dict[str, Any]:
        return {**vars(self), "seconds": round(self.seconds, 4)}


class _Wrong(OSError):
    """:param advice: key of the advice that fits better than that of the step."""

    def __init__(self, message: str, advice: str) -> None:
        self.advice = advice
        super().__init__(message)


class _Client(smtplib.SMTP):
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


@dataclass
class Probe:
    """A look at the server of a definition.

    :param recipient: gets a test mail; None: none is sent.
    :param say: is given each step as soon as it is done.
    """

    definition: Mapping[str, Any]
    settings: Settings
    recipient: str | None = None
    say: Callable[[Step], None] = lambda _: None
    steps: list[Step] = field(default_factory=list)

    def run(self) -> bool:
        """Whether all is well."""
        return all(step.ok for step in self.walk())

    def walk(self) -> Iterator[Step]:
        """Each step as soon as it is done. What can't be reached because a step failed is not among them."""
        place = endpoint(self.definition, self.settings)
        client = _Client(timeout=place.timeout, local_hostname=place.ehlo)
        try:
            for name, work in self._way(client, place):
                step = self._step(name, work)
                self.steps.append(step)
                self.say(step)
                yield step
                if not step.ok:
                    return
        finally:
            client.close()

    def _way(self, client: smtplib.SMTP, place: Endpoint) -> Iterator[tuple[str, Callable[[], str]]]:
        yield "dns", lambda: _addresses(place)
        yield "tcp", lambda: _connect(client, place)
        if place.security == "tls":
            yield "tls", lambda: _encrypt(client, place)
        yield "greeting", lambda: _agreed(client.getreply())
        yield "features", lambda: _features(client)
        if place.security == "starttls":
            yield "tls", lambda: _start_tls(client, place)
            yield "features", lambda: _features(client)
        if place.oauth is not None:
            grant = place.oauth
            yield "token", lambda: f"an access token of {len(oauth.access_token(grant, place.timeout))} bytes"
        if place.username or place.oauth:
            yield "login", lambda: _login(client, place)
        with suppress(OSError, smtplib.SMTPException):  # the good-bye is no finding
            client.quit()
        if self.definition["smime"]:
            yield "smime", self._signer
        if self.recipient:
            yield "mail", lambda: self._mails(place)

    def _step(self, name: str, work: Callable[[], str]) -> Step:
        started, ok, advice = clock.monotonic(), True, None
        try:
            found = work()
        except (OSError, MailError, smtplib.SMTPException, ValueError) as error:
            ok, found, advice = False, _words(error), ADVICE[_advice(name, error)]
        known = [
            str(self.definition[secret])
            for secret in DEFINITIONS.secrets_of(self.definition)
            if self.definition.get(secret)
        ]
        return Step(name, ok, clock.monotonic() - started, redact(found, known), advice)

    def _signer(self) -> str:
        definition = self.definition
        paths = definition["certificate"] or "", definition["private_key"] or ""
        signer = load_signer(*paths, definition["private_key_password"] or "")
        if signer.expires <= datetime.fromtimestamp(clock.time(), timezone.utc):
            raise SigningFailed(f"the certificate ended on {signer.expires:%Y-%m-%d}; no recipient trusts it any more")
        return f"signed by {signer.certificate.subject.rfc4514_string()}, {_until(signer.expires)}"

    def _mails(self, place: Endpoint) -> str:
        """Two over one connection: what a server limits shows at the second."""
        patience, conversation = Deadline(last_word=lambda: PATIENCE), Conversation(place)
        taken: list[str] = []
        try:
            conversation.open(patience)
            for number in (1, 2):
                delivery = conversation.send(self._test_mail(number), patience)
                for outcome in delivery.outcomes.values():
                    if outcome.verdict is not Verdict.ACCEPTED:
                        raise _Wrong(f"not taken at {outcome.step}: {outcome.reply}", hints.about_mail(outcome))
                taken.append(str(delivery.reply))
        except (MailError, _Wrong) as error:
            if not taken:
                raise
            raise _Wrong(f"the first mail was taken: {taken[0]}; the second: {_words(error)}", "second") from None
        finally:
            conversation.close()
        return f"taken: {taken[0]}; a second one over the same connection, too: {taken[1]}"

    def _test_mail(self, number: int) -> Mail:
        assert self.recipient is not None
        sender = str(self.definition["sender"] or "")
        letter = Letter(
            to=(self.recipient,),
            subject=f"Test mail {number} of 2 of pijobs",
            text="This is a test mail of 'pijobs mail probe'. There are two, over one connection.\n",
        )
        content = compose(letter, sender=sender, message_id=make_message_id(sender), date=messages.now())
        return Mail(sender_of(sender).spec, tuple(box.spec for box in letter.recipients), content)


def _addresses(place: Endpoint) -> str:
    found = look_up(place.host, place.port, place.timeout)
    return f"{place.host} is {', '.join(dict.fromkeys(str(each[4][0]) for each in found))}"


def _connect(client: smtplib.SMTP, place: Endpoint) -> str:
    client.sock = socket.create_connection((place.host, place.port), place.timeout)
    return f"connected to {client.sock.getpeername()[0]} port {place.port}"


def _encrypt(client: smtplib.SMTP, place: Endpoint) -> str:
    assert client.sock is not None
    try:
        context = tls_context(place.ca_file, verify=place.verify)
    except OSError as error:
        raise _Wrong(f"the CA file {place.ca_file} can't be used: {_words(error)}", "ca file") from None
    try:
        client.sock = context.wrap_socket(client.sock, server_hostname=place.host)
    except ssl.SSLCertVerificationError as error:
        if key := hints.for_certificate(place, error):
            raise _Wrong(_words(error), key) from None
        if _CERTIFICATE.get(error.verify_code) != "name":
            raise
        raise _Wrong(f"{_words(error)}; it is for {_look_at_names(place)}", _advice("tls", error)) from None
    except ssl.SSLError as error:
        raise _Wrong(_words(error), hints.for_handshake(place, error) or "tls") from None
    client.file = None
    if not place.verify:
        return f"{client.sock.version()}, certificate NOT VERIFIED, since the field verify is off: turn it on"
    certificate, cipher = client.sock.getpeercert() or {}, client.sock.cipher()
    ends = datetime.fromtimestamp(ssl.cert_time_to_seconds(str(certificate["notAfter"])), timezone.utc)
    spoken = f"{client.sock.version()} {cipher[0] if cipher else ''}"
    return f"{spoken}, certificate for {_names(certificate)}, {_until(ends)}"


def _names(certificate: Mapping[str, Any]) -> str:
    return ", ".join(str(name[1]) for name in certificate.get("subjectAltName", ()))[:_LONGEST] or "no name"


def _look_at_names(place: Endpoint) -> str:
    """The names of a certificate that is for another host, by a connection that is good for nothing else."""
    client = _Client(timeout=place.timeout, local_hostname=place.ehlo)
    try:
        _connect(client, place)
        assert client.sock is not None
        if place.security == "starttls":
            _agreed(client.getreply())
            _features(client)
            _agreed(client.docmd("STARTTLS"))
        context = tls_context(place.ca_file, any_name=True)
        client.sock = context.wrap_socket(client.sock, server_hostname=place.host)
        return _names(client.sock.getpeercert() or {})
    except (OSError, smtplib.SMTPException):
        return "others"
    finally:
        client.close()


def _start_tls(client: smtplib.SMTP, place: Endpoint) -> str:
    if not client.has_extn("starttls"):
        raise OSError("the field tls asks for STARTTLS, and the server does not offer it")
    _agreed(client.docmd("STARTTLS"))
    client.ehlo_resp = None  # RFC 3207 4.2: forget what was offered in clear
    return _encrypt(client, place)


def _features(client: smtplib.SMTP) -> str:
    _agreed(client.ehlo())
    features = client.esmtp_features.items()
    return ", ".join(f"{name.upper()} {_size(value)}".strip() for name, value in features) or "none"


def _size(value: str) -> str:
    """Bytes as people read them: a long number would be masked, like an OTP."""
    return f"{int(value) / 1e6:.1f} MB" if value.isdecimal() and 5 < len(value) < 16 else value


def _login(client: smtplib.SMTP, place: Endpoint) -> str:
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
    except auth.ServerUnknown as error:
        raise OSError(str(error)) from None
    if done is None:
        raise _Wrong(auth.unknown(offered), "login" if offered else "no login")
    mechanism, reply = done
    if not reply.accepted and place.oauth is not None:
        oauth.forget(place.oauth)
    return f"{mechanism} as {place.username}: {_agreed((reply.code, reply.text.encode()))}"


def _agreed(reply: tuple[int, bytes]) -> str:
    """:raises OSError: unless the server agrees."""
    code, text = reply
    shown = f"{code} {' '.join(text.decode('utf-8', 'replace').split())}"[:_LONGEST]
    if code >= 300 or code < 200:
        raise OSError(f"the server answered {shown}")
    return shown


def _until(ends: datetime) -> str:
    days = (ends - datetime.fromtimestamp(clock.time(), timezone.utc)).days
    hurry = f" - in {days} days: renew it" if days < SOON else ""
    return f"valid until {ends:%Y-%m-%d}{hurry}"


def _advice(step: str, error: Exception) -> str:
    """Key of the advice for what went wrong at a step."""
    if isinstance(error, MaybeSent) or (step == "mail" and isinstance(error, ServerTrouble) and error.reply is None):
        return "no word"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate {_CERTIFICATE.get(error.verify_code, 'authority')}"
    return error.advice if isinstance(error, _Wrong) else step


def _words(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not accepted: {error.verify_message.rstrip('.')}"
    if isinstance(error, MailError):
        return str(error)
    if isinstance(error, TimeoutError) or isinstance(error.__context__, TimeoutError):  # which smtplib hides
        return "timed out"
    if isinstance(error, ssl.SSLError):
        return f"no TLS: {error.reason or error}"
    return str(getattr(error, "strerror", None) or error)
