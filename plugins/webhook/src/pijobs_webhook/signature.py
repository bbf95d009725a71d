"""Signatures of Standard Webhooks (https://www.standardwebhooks.com, version 1.0.0 of the specification).

``webhook-signature`` is ``v1,`` and the Base64 of an HMAC-SHA256 of ``<id>.<timestamp>.<body>``; with several keys,
several of these, separated by blanks. A key is ``whsec_`` and the Base64 of 24 to 64 bytes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Mapping

_BEGINS = "whsec_"
_SIZES = range(24, 65)  # bytes


def is_key(key: object) -> bool:
    """Whether it is a valid key of the specification."""
    try:
        return isinstance(key, str) and key.startswith(_BEGINS) and len(_bytes_of(key)) in _SIZES
    except (ValueError, binascii.Error):
        return False


def headers(message_id: str, timestamp: int, body: bytes, keys: Iterable[str]) -> Mapping[str, str]:
    """The headers that a receiver verifies.

    :param message_id: the same for each attempt, so that a receiver can drop repetitions.
    :param timestamp: of the attempt, in seconds since the epoch; receivers refuse old ones.
    :param keys: keys to sign with; empty: no signature.
    """
    signed = f"{message_id}.{timestamp}.".encode() + body
    signatures = " ".join(f"v1,{_hmac(key, signed)}" for key in keys)
    values = {"webhook-id": message_id, "webhook-timestamp": str(timestamp)}
    return {**values, "webhook-signature": signatures} if signatures else values


def _hmac(key: str, signed: bytes) -> str:
    return base64.b64encode(hmac.new(_bytes_of(key), signed, hashlib.sha256).digest()).decode()


def _bytes_of(key: str) -> bytes:
    return base64.b64decode(key[len(_BEGINS) :], validate=True)
