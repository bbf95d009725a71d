"""A smartphone with a push token of privacyIDEA: it enrols, and signs the challenges that are pushed to it."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

if TYPE_CHECKING:
    from pijobs_privacyidea.instance import Instance


class Phone:
    """:ivar device: the token by which Firebase knows it."""

    def __init__(self, instance: Instance, device: str) -> None:
        self.instance = instance
        self.device = device
        self._key = rsa.generate_private_key(65537, 2048)

    def enrol(self, user: str, pin: str) -> None:
        begun = self.instance.ask("/token/init", type="push", genkey=1, user=user, pin=pin)["detail"]
        self.serial = begun["serial"]
        public = self._key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self.instance.ask(
            "/ttype/push", serial=self.serial, enrollment_credential=begun["enrollment_credential"],
            fbtoken=self.device, pubkey=base64.urlsafe_b64encode(public).decode(),
        )  # fmt: skip

    def confirm(self, payload: Mapping[str, str]) -> None:
        """The user presses the button."""
        signature = self._key.sign(f"{payload['nonce']}|{self.serial}".encode(), padding.PKCS1v15(), hashes.SHA256())
        self.instance.ask(
            "/ttype/push", serial=self.serial, nonce=payload["nonce"], signature=base64.b32encode(signature).decode()
        )
