"""Encrypts the secrets of a definition on their way into the database, and decrypts them on their way out."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from pijobs.definitions.declaration import Declaration
from pijobs.definitions.secrets import bound_to
from pijobs.errors import DecodeError
from pijobs.payload.keys import KeyRing
from pijobs.settings import Settings


@dataclass(frozen=True, slots=True)
class Stored:
    """A stored definition.

    :ivar lost: secrets that can't be read, and why.
    :ivar bare: unencrypted secrets, because an older release did not know that they are secret.
    """

    values: dict[str, Any]
    lost: dict[str, str]
    bare: frozenset[str] = frozenset()


class Sealer:
    """Rows of one kind of definitions."""

    def __init__(self, declaration: Declaration, settings: Settings) -> None:
        self._declaration = declaration
        self._settings = settings

    def columns(self, identifier: str, values: Mapping[str, Any]) -> dict[str, str]:
        """The columns of a definition. An empty value needs no key."""
        secrets, content = {}, dict(values)
        for name in self._declaration.secrets_of(values):
            if not _is_empty(values[name]):
                secrets[name] = self.seal(identifier, name, content.pop(name))
        return {"content": json.dumps(content), "secrets": json.dumps(secrets)}

    def seal(self, identifier: str, name: str, value: Any) -> tuple[str, str]:
        """A secret, encrypted with the newest key: id of the key, and Base64."""
        key = KeyRing.of(self._settings).newest
        sealed = key.encrypt(json.dumps(value).encode(), bound_to(self._declaration.kind, identifier, name))
        return key.id, base64.b64encode(sealed).decode()

    def open(self, row: sa.Row[Any]) -> Stored:
        """Damage is reported for this definition only, and does not hide the others."""
        try:
            values, secrets = json_object(row.content), json_object(row.secrets)
        except ValueError:
            return Stored({}, {"definition": "damaged: expected JSON, found something else; save it anew"})
        bare = frozenset(name for name in self._declaration.secrets_of(values) if not _is_empty(values.get(name)))
        stored = Stored(values, {}, bare)
        stored.lost.update(self._declaration.unknown_variant(stored.values))
        # Others belong to another version of the plugin.
        for name in secrets.keys() & self._declaration.fields_of(stored.values).keys():
            try:
                stored.values[name] = json.loads(self._decrypted(row.identifier, name, secrets[name]))
            except DecodeError as error:
                stored.lost[name] = str(error)
        return stored

    def _decrypted(self, identifier: str, name: str, secret: Any) -> bytes:
        try:
            key_id, text = secret
            sealed = base64.b64decode(text, validate=True)
        except (ValueError, TypeError) as error:
            raise DecodeError("damaged: expected a key id and Base64, found something else; save it anew") from error
        ring = KeyRing.of(self._settings)
        if key_id not in ring.ids:
            raise DecodeError(
                f"it was encrypted with key {key_id}, this process has {', '.join(ring.ids)}; "
                "add the old key to PI_JOB_QUEUE_KEYS, or save it anew"
            )
        return ring.get(key_id).decrypt(sealed, bound_to(self._declaration.kind, identifier, name))


def _is_empty(value: Any) -> bool:
    return value in (None, "", {})


def json_object(text: str) -> dict[str, Any]:
    """:raises ValueError: if it is not a JSON object."""
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object, found {type(value).__name__}")
    return value
