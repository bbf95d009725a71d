"""Advice if a server can't be used: for the errors of the engine, and for each step of the probe."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from pathlib import Path

from cryptography import x509

from pijobs_mail.engine.delivery import Endpoint, Outcome
from pijobs_mail.engine.replies import Step
from pijobs_mail.engine.verdicts import is_greylisting

_USE_SMTPS = (
    "a port that speaks TLS from the first byte, such as 465, needs smtps:// before the host, and the field tls off"
)
_USE_STARTTLS = (
    "a port that begins in clear, such as 587, needs smtp:// in place of smtps://, and the field tls (STARTTLS) on"
)
ADVICE: Mapping[str, str] = {
    "dns": "check the name in the field server, and the resolver of this machine",
    "tcp": "check the port, and that no firewall is in between; providers often block 25: try 587 or smtps:// with 465",
    "tls": "check the port: STARTTLS (the field tls) is for 587 and 25, smtps:// for 465; ask the server's operator "
    "where it speaks TLS",
    "certificate ended": "the server's operator must renew the certificate; if that was done, check this machine's "
    "clock",
    "certificate name": "put a name that the certificate is for into the field server; else its operator must get "
    "one for this name",
    "certificate authority": "put the file of its authority (of a self-signed one: itself) into the field ca_file, if "
    "you trust it",
    "ca file of a server": "the CA file contains a server's certificate, which can't sign others: put that of the "
    "authority that issued it into the field ca_file",
    "ca file": "check the field ca_file, or PI_JOB_QUEUE_MAIL_CA_FILE: a PEM file that this user may read",
    "greeting": "this port may not be SMTP, or refuses this machine: ask the server's operator for the reason that it "
    f"gives; {_USE_SMTPS}",
    "no greeting": _USE_SMTPS,
    "tls in clear": _USE_STARTTLS,
    "features": "the server refused our EHLO; set PI_JOB_QUEUE_MAIL_EHLO_NAME to this machine's name in DNS",
    "token": "check the oauth_ fields, and that the secret or refresh token has not expired",
    "no login": "turn on the field tls, or use smtps://: many servers offer a login inside of TLS only; where none is "
    "needed leave username empty",
    "login": "check username and password; Microsoft 365 and Google take XOAUTH2, or a password for applications, only",
    "smime": "check certificate, private_key and private_key_password, and that this user may read both files",
    "helo": "the server refuses our name in EHLO; set PI_JOB_QUEUE_MAIL_EHLO_NAME to this machine's name in DNS",
    "sender": "read the reply: it is about the sender. Check the field sender, and that the login may send as it",
    "machine": "the server refuses this machine's address, or its name in DNS: read the reply, and ask "
    "the server's operator to accept mails from it",
    "recipient": "read the reply: it is about the recipient, or the server asks for a login before it relays",
    "text": "read the reply: it is about the text; filters also judge by the sender and this machine",
    "greylisting": "the server defers mails of senders that it does not know yet, and accepts them some minutes later: "
    "queued mails arrive. Ask its operator to exclude this machine from that",
    "later": "the server defers the mail, and says why in its reply; queued mails are tried again",
    "no final reply": "the server got the mail and does not reply: it may have been sent. Maybe a filter is slow or "
    "hangs; ask its operator. A worker waits ten minutes for the reply",
    "second": "the server accepted one mail over the connection and not the next; set mails_per_connection to 1",
    "mail": "the server accepts no mail; its reply has the reason",
}
#: Words that show who a reply is about, at any step.
_WORDS = {
    "helo": re.compile("helo|ehlo", re.IGNORECASE),
    "machine": re.compile(
        r"\bclient host|\bblocked using|\bspamhaus|\bblack-?list|\bPTR\b|\breverse (?:dns|host)", re.IGNORECASE
    ),
    "sender": re.compile(r"\bsender (?:address|verify|domain|rejected)|\bsend as\b", re.IGNORECASE),
}
#: OpenSSL's names for unencrypted input instead of TLS.
_CLEAR = ("WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")
#: OpenSSL's codes for a certificate with an unknown authority (X509_V_ERR_UNABLE_…).
_NO_AUTHORITY = (2, 20, 21)


def for_handshake(endpoint: Endpoint, error: Exception) -> str | None:
    """Key of the advice if a server answered the first bytes of TLS unencrypted."""
    clear = isinstance(error, ssl.SSLError) and error.reason in _CLEAR
    return "tls in clear" if clear and endpoint.security == "tls" else None


def for_certificate(endpoint: Endpoint, error: ssl.SSLCertVerificationError) -> str | None:
    """Key of the advice if the CA file contains the certificate of a server instead of an authority."""
    unknown = error.verify_code in _NO_AUTHORITY and endpoint.ca_file
    return "ca file of a server" if unknown and _has_no_authority(str(endpoint.ca_file)) else None


def for_mail(outcome: Outcome) -> str:
    """Key of the advice for a mail that was not accepted."""
    reply = outcome.reply
    if is_greylisting(reply):
        return "greylisting"
    for key, words in _WORDS.items():  # Postfix reports at RCPT what is wrong with earlier steps
        if words.search(reply.text):
            return key
    if reply.temporary:
        return "later"
    return {Step.MAIL: "sender", Step.RCPT: "recipient"}.get(outcome.step, "text")


def with_advice(message: str, key: str | None) -> str:
    return f"{message}; {ADVICE[key]}" if key else message


def _has_no_authority(path: str) -> bool:
    """Whether no certificate in the file can sign another one, or itself."""
    try:
        found = x509.load_pem_x509_certificates(Path(path).read_bytes())
    except (OSError, ValueError):
        return False
    return bool(found) and not any(_can_sign(certificate) for certificate in found)


def _can_sign(certificate: x509.Certificate) -> bool:
    if certificate.issuer == certificate.subject:
        return True
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False
