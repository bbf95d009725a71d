"""S/MIME, verified by OpenSSL."""

from __future__ import annotations

import datetime as dt
import email
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from certificates import builder
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from pijobs_mail.compose.attachment import Attachment
from pijobs_mail.compose.message import Letter, compose
from pijobs_mail.compose.smime import load_signer
from pijobs_mail.errors import SigningFailed

NOW = dt.datetime(2026, 11, 23, 12, 0, tzinfo=dt.timezone.utc)
KEYS: Mapping[str, Any] = {
    "rsa": lambda: rsa.generate_private_key(65537, 2048),
    "ec": lambda: ec.generate_private_key(ec.SECP256R1()),
}
HTML = '<img src="cid:qr">'
LETTERS = {
    "text": Letter(to=("alice@example.com",), subject="Grüße", text="From me\n.\nGrüße 🔑  \n\n"),
    "parts": Letter(
        to=("alice@example.com",), text="x\n", html=HTML, attachments=(Attachment("qr.png", b"\x89PNG", cid="qr"),)
    ),
}


class Files:
    """A certificate and its key in files."""

    def __init__(self, directory: Path, key: Any, *, password: str = "") -> None:
        self.certificate, self.key = str(directory / "certificate.pem"), str(directory / "key.pem")
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "signer")])
        kind = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
        made = builder(name, name, key.public_key()).sign(key, kind)
        Path(self.certificate).write_bytes(made.public_bytes(serialization.Encoding.PEM))
        secret = serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
        form = serialization.PrivateFormat.PKCS8
        Path(self.key).write_bytes(key.private_bytes(serialization.Encoding.PEM, form, secret))


def composed(letter: Letter) -> bytes:
    return compose(letter, sender="pijobs@example.com", message_id="<fixed@example.com>", date=NOW)


def verified(content: bytes, files: Files) -> bytes:
    """What OpenSSL says was signed."""
    command = ["openssl", "cms", "-verify", "-CAfile", files.certificate, "-purpose", "any"]
    done = subprocess.run(command, input=content, capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("name", LETTERS)
def test_openssl_verifies_what_was_signed(kind: str, name: str, tmp_path: Path) -> None:
    files, plain = Files(tmp_path, KEYS[kind]()), composed(LETTERS[name])
    signed = verified(load_signer(files.certificate, files.key).sign(plain), files)
    assert signed.partition(b"\r\n\r\n")[2] == plain.partition(b"\r\n\r\n")[2]


def test_a_changed_mail_is_noticed(tmp_path: Path) -> None:
    files = Files(tmp_path, KEYS["ec"]())
    signed = load_signer(files.certificate, files.key).sign(composed(LETTERS["text"]))
    assert verified(signed, files)
    with pytest.raises(AssertionError):
        verified(signed.replace(b"From me", b"From us").replace(b"RnJvbSBtZ", b"RnJvbSB1c"), files)


def test_the_headers_for_people_stay_outside(tmp_path: Path) -> None:
    files, plain = Files(tmp_path, KEYS["ec"]()), composed(LETTERS["text"])
    before = email.message_from_bytes(plain)
    after = email.message_from_bytes(load_signer(files.certificate, files.key).sign(plain))
    assert after.get_content_type() == "multipart/signed"
    for name in ("Subject", "From", "To", "Date", "Message-ID", "Auto-Submitted", "MIME-Version"):
        assert after.get_all(name) == before.get_all(name)
    parts = after.get_payload()
    assert isinstance(parts, list)
    assert [part.get_filename() for part in parts] == [None, "smime.p7s"]  # type: ignore[union-attr]


def test_authorities_behind_the_certificate_travel_along(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    files, other = Files(tmp_path, KEYS["ec"]()), Files(tmp_path / "other", KEYS["ec"]())
    with open(files.certificate, "ab") as file:
        file.write(Path(other.certificate).read_bytes())
    signed = load_signer(files.certificate, files.key).sign(composed(LETTERS["text"]))
    printed = subprocess.run(
        ["openssl", "cms", "-cmsout", "-print", "-noout"], input=signed, capture_output=True, check=True
    ).stdout
    assert printed.count(b"d.certificate:") == 2


def test_a_key_with_a_password_signs(tmp_path: Path) -> None:
    files = Files(tmp_path, KEYS["rsa"](), password="hunter2")
    assert load_signer(files.certificate, files.key, "hunter2").sign(composed(LETTERS["text"]))


@pytest.mark.parametrize("password", ["", "wrong-one"])
def test_a_wrong_password_is_told_and_not_shown(password: str, tmp_path: Path) -> None:
    files = Files(tmp_path, KEYS["rsa"](), password="hunter2")
    with pytest.raises(SigningFailed, match="a PEM file and its password") as failure:
        load_signer(files.certificate, files.key, password)
    assert not password or password not in str(failure.value)


def test_a_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    files, other = Files(tmp_path, KEYS["ec"]()), Files(tmp_path / "other", KEYS["ec"]())
    with pytest.raises(SigningFailed, match="key of the certificate"):
        load_signer(files.certificate, other.key)


def test_a_key_that_smime_does_not_know_is_refused(tmp_path: Path) -> None:
    files = Files(tmp_path, ed25519.Ed25519PrivateKey.generate())
    with pytest.raises(SigningFailed, match="RSA or EC key"):
        load_signer(files.certificate, files.key)


@pytest.mark.parametrize(
    ("certificate", "key", "reason"),
    [
        ("", "/x", "certificate: expected a path"),
        ("/nowhere.pem", "/x", "/nowhere.pem: No such file"),
        (__file__, __file__, "expected a PEM file"),
    ],
)
def test_files_that_are_not_there_or_not_right_are_told(certificate: str, key: str, reason: str) -> None:
    with pytest.raises(SigningFailed, match=reason):
        load_signer(certificate, key)


def test_a_renewed_certificate_is_used_without_a_restart(tmp_path: Path) -> None:
    first = load_signer(*(lambda files: (files.certificate, files.key))(Files(tmp_path, KEYS["ec"]())))
    files = Files(tmp_path, KEYS["ec"]())
    assert load_signer(files.certificate, files.key).certificate != first.certificate
