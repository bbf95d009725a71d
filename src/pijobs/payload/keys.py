"""Keys for stored data: encryption of bodies, HMAC of keys and subjects, encryption of secrets at rest.

HKDF-SHA256 (RFC 5869) derives each from an entry of ``PI_JOB_QUEUE_KEYS`` or else from ``SECRET_KEY``, with an
``info`` of its own, at first use. A key is identified by its id, a hash that reveals nothing about it.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from pijobs.errors import ConfigurationError, Damaged, DecodeError
from pijobs.settings import PREFIX, Settings

#: Fewest bytes of a secret that can't be guessed; the installers of privacyIDEA make 24.
SHORTEST = 24
_NONCE = 12  # bytes; NIST SP 800-38D recommends 96 bits for GCM


class Key:
    """One secret, with the keys derived from it."""

    def __init__(self, secret: str | bytes) -> None:
        self._secret = secret.encode() if isinstance(secret, str) else secret
        self.id = self._derive(b"pijobs key id", 4).hex()
        #: Bytes of the secret.
        self.size = len(self._secret)
        self._cipher = AESGCM(self._derive(b"pijobs payload", 32))
        self._mac = self._derive(b"pijobs lookup", 32)

    def _derive(self, info: bytes, length: int) -> bytes:
        return HKDF(algorithm=SHA256(), length=length, salt=None, info=info).derive(self._secret)

    def encrypt(self, plain: bytes, associated: bytes) -> bytes:
        """AES-256-GCM; the nonce comes first."""
        nonce = os.urandom(_NONCE)
        return nonce + self._cipher.encrypt(nonce, plain, associated)

    def decrypt(self, sealed: bytes, associated: bytes) -> bytes:
        """:raises Damaged: if either part was changed."""
        try:
            return self._cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], associated)
        except (InvalidTag, ValueError) as error:
            raise Damaged(f"damaged: what is stored does not fit key {self.id}") from error

    def lookup(self, purpose: str, value: str) -> str:
        """HMAC-SHA256, to find a value that is not stored (32 hex digits)."""
        return hmac.digest(self._mac, f"{purpose}\0{value}".encode(), "sha256").hex()[:32]

    def __repr__(self) -> str:
        return f"<Key {self.id}>"


class KeyRing:
    """All keys of an installation, newest first."""

    def __init__(self, secrets: Sequence[str | bytes]) -> None:
        if not secrets:
            raise ConfigurationError(f"expected SECRET_KEY or {PREFIX}KEYS, found neither; set one in pi.cfg")
        self._keys = {key.id: key for key in map(Key, secrets)}

    @classmethod
    def of(cls, settings: Settings) -> KeyRing:
        """The keys of an installation, derived on first use."""
        return settings.resource(cls, lambda: cls(_secrets(settings)))

    @property
    def newest(self) -> Key:
        return next(iter(self._keys.values()))

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(self._keys)

    def get(self, key_id: str) -> Key:
        """:raises DecodeError: for a key that this process does not have (yet)."""
        try:
            return self._keys[key_id]
        except KeyError:
            known = ", ".join(self._keys)
            raise DecodeError(f"unknown key {key_id}; this process has {known}") from None

    def lookups(self, purpose: str, value: str) -> list[str]:
        """The value's HMAC with each key, so that what was stored under an older key is still found."""
        return [key.lookup(purpose, value) for key in self._keys.values()]


def _secrets(settings: Settings) -> Sequence[str | bytes]:
    keys: Sequence[str | bytes] = settings.encryption_keys
    if keys:
        return keys
    secret = settings.secret_key
    secret = secret() if callable(secret) else secret
    return [secret] if secret else []
