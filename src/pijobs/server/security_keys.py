"""Security keys (W3C WebAuthn, level 2): creates the browser's options and verifies its answers."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import urlsplit

from pijobs.server.factors import SECURITY_KEY, Factors, extra

#: Errors of a bad answer: the library's own, and those that foreign JSON causes inside it.
_BAD = (ValueError, KeyError, TypeError, AttributeError)


def options_to_add(factors: Factors, name: str, host_url: str, title: str) -> tuple[str, str]:
    """Options, as JSON, for the browser to make a key; and the challenge to keep until its answer."""
    webauthn = extra("webauthn")
    options = webauthn.generate_registration_options(
        rp_id=_host(host_url), rp_name=title, user_name=name, exclude_credentials=_descriptors(factors, name)
    )
    return webauthn.options_to_json(options), _text(options.challenge)


def options_to_prove(factors: Factors, name: str, host_url: str) -> tuple[str, str]:
    """Options, as JSON, for the browser to use a key; and the challenge to keep until its answer."""
    webauthn = extra("webauthn")
    options = webauthn.generate_authentication_options(
        rp_id=_host(host_url), allow_credentials=_descriptors(factors, name)
    )
    return webauthn.options_to_json(options), _text(options.challenge)


def add(factors: Factors, name: str, label: str, answer: str, challenge: str, host_url: str) -> bool:
    """Store the key that the browser made. Returns False if it does not answer the challenge from this site."""
    webauthn = extra("webauthn")
    try:
        made = webauthn.verify_registration_response(
            credential=answer[:20_000], expected_challenge=_bytes(challenge), expected_rp_id=_host(host_url),
            expected_origin=_origin(host_url),
        )  # fmt: skip
    except (*_BAD, webauthn.helpers.exceptions.WebAuthnException):
        return False
    content = {"id": _text(made.credential_id), "public": _text(made.credential_public_key)}
    factors.add(name, SECURITY_KEY, label, content, made.sign_count)
    return True


def proves(factors: Factors, name: str, answer: str, challenge: str, host_url: str) -> bool:
    """Whether a key of the account answered the challenge from this site, and its counter shows no copy of the key."""
    webauthn = extra("webauthn")
    for id, (content, used) in factors.contents(name, SECURITY_KEY).items():
        try:
            found = webauthn.verify_authentication_response(
                credential=answer[:20_000], expected_challenge=_bytes(challenge), expected_rp_id=_host(host_url),
                expected_origin=_origin(host_url), credential_public_key=_bytes(content["public"]),
                credential_current_sign_count=used,
            )  # fmt: skip
        except (*_BAD, webauthn.helpers.exceptions.WebAuthnException):
            continue
        if found.credential_id == _bytes(content["id"]):
            return factors.advance(id, found.new_sign_count, beyond=max(used, found.new_sign_count))
    return False


def _descriptors(factors: Factors, name: str) -> list[Any]:
    structs = extra("webauthn.helpers.structs")
    known = factors.contents(name, SECURITY_KEY).values()
    return [structs.PublicKeyCredentialDescriptor(id=_bytes(content["id"])) for content, _ in known]


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
