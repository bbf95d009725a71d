"""Signs mails by S/MIME (RFC 8551) as ``multipart/signed``, which readers without S/MIME can display, too."""

from __future__ import annotations

import base64
import functools
import hashlib
import os
import re
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key, pkcs7

from pijobs_mail.errors import SigningFailed

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@dataclass(frozen=True)
class Signer:
    """A certificate with its key and intermediate certificates."""

    certificate: x509.Certificate
    key: Key
    chain: tuple[x509.Certificate, ...] = ()

    @property
    def expires(self) -> datetime:
        """In UTC."""
        return self.certificate.not_valid_after_utc

    def sign(self, content: bytes) -> bytes:
        """A message with a signature over its body and the headers that describe it.

        :param content: a message in 7 bits, with CRLF line ends.
        :raises SigningFailed: if the key can't sign it.
        """
        outer, inner = _split(content)
        boundary = f"=_{hashlib.sha256(inner).hexdigest()[:32]}"
        try:
            signature = self._signature(inner)
        except (ValueError, TypeError) as error:
            raise SigningFailed(f"the mail can't be signed: {error}") from None
        micalg = 'multipart/signed; protocol="application/pkcs7-signature"; micalg=sha-256'
        lines = [
            outer + b"Content-Type: " + micalg.encode() + b";",
            f' boundary="{boundary}"'.encode(),
            b"",
            b"This mail is signed by S/MIME.",
            b"--" + boundary.encode(),
            inner,
            b"--" + boundary.encode(),
            b'Content-Type: application/pkcs7-signature; name="smime.p7s"',
            b"Content-Transfer-Encoding: base64",
            b'Content-Disposition: attachment; filename="smime.p7s"',
            b"",
            base64.encodebytes(signature).strip().replace(b"\n", b"\r\n"),
            b"--" + boundary.encode() + b"--",
            b"",
        ]
        return b"\r\n".join(lines)

    def _signature(self, signed: bytes) -> bytes:
        builder = pkcs7.PKCS7SignatureBuilder().set_data(signed).add_signer(self.certificate, self.key, hashes.SHA256())
        # Add them last: each of the methods above drops them.
        for certificate in self.chain:
            builder = builder.add_certificate(certificate)
        # Binary: the lines have CRLF already, and the rest must not change.
        return builder.sign(Encoding.DER, [pkcs7.PKCS7Options.DetachedSignature, pkcs7.PKCS7Options.Binary])


def load_signer(certificate: str, private_key: str, password: str = "") -> Signer:
    """Load a signer; cached until a file changes.

    :param certificate: path of a PEM file with the signer's certificate first, then intermediate ones.
    :param private_key: path of a PEM file with an RSA or EC key.
    :raises SigningFailed: if a file is invalid; the text does not contain the password.
    """
    try:
        changed = os.stat(certificate).st_mtime_ns, os.stat(private_key).st_mtime_ns
        return _load(certificate, private_key, password, changed)
    except OSError as error:
        missing = "certificate" if not certificate else "private_key" if not private_key else None
        reason = f"{missing}: expected a path, found none" if missing else f"{error.filename}: {error.strerror}"
        raise SigningFailed(f"mails can't be signed: {reason}") from None


@functools.lru_cache(maxsize=8)
def _load(certificate: str, private_key: str, password: str, _changed: tuple[int, int]) -> Signer:
    key = _key(private_key, password)
    try:
        with open(certificate, "rb") as file:
            first, *chain = x509.load_pem_x509_certificates(file.read())
    except ValueError:
        raise SigningFailed("mails can't be signed: expected a PEM file as certificate, found something else") from None
    if _public(first.public_key()) != _public(key.public_key()):
        raise SigningFailed("mails can't be signed: expected the key of the certificate as private_key, found another")
    return Signer(first, key, tuple(chain))


def _key(path: str, password: str) -> Key:
    with open(path, "rb") as file:
        content = file.read()
    try:
        # The library refuses an unneeded password; privacyIDEA ignores it.
        key = load_pem_private_key(content, password.encode() if password and b"ENCRYPTED" in content else None)
    except (ValueError, TypeError):
        raise SigningFailed(
            "mails can't be signed: expected a PEM file and its password as private_key, found something else"
        ) from None
    if not isinstance(key, (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey)):
        raise SigningFailed("mails can't be signed: expected an RSA or EC key as private_key, found another kind")
    return key


def _public(key: object) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined, no-any-return]


def _split(content: bytes) -> tuple[bytes, bytes]:
    """The headers that stay outside, and the part to sign: the body with the headers that describe it."""
    head, _, body = content.partition(b"\r\n\r\n")
    fields = re.split(rb"\r\n(?![ \t])", head)
    inside = [field for field in fields if field[:8].lower() == b"content-"]
    outside = [field for field in fields if field[:8].lower() != b"content-"]
    return b"".join(field + b"\r\n" for field in outside), b"\r\n".join([*inside, b"", body])
