"""Encrypts the secrets of all definitions with another key."""

from __future__ import annotations

import base64
import json
from collections import Counter
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from pijobs.database import Database
from pijobs.definitions.secrets import bound_to
from pijobs.definitions.tables import metadata, table
from pijobs.errors import DecodeError
from pijobs.payload.keys import KeyRing
from pijobs.settings import Settings


def key_ids(settings: Settings) -> Counter[str]:
    """How many secrets there are under each key; unreadable ones under "?".

    :raises DatabaseError: if the database does not answer.
    """
    found: Counter[str] = Counter()
    for row in _rows(Database.of(settings)):
        found.update(_key_of(secret) for secret in _secrets(row.secrets).values())
    return found


def reencrypt(settings: Settings) -> int:
    """Encrypt all readable secrets with the newest key; returns how many had another one.

    :raises DatabaseError: what was done until then stays done.
    """
    database, ring = Database.of(settings), KeyRing.of(settings)
    return sum(
        database.run(lambda connection, row=row: _renew(connection, ring, row))  # type: ignore[misc]
        for row in _rows(database)
        if {_key_of(secret) for secret in _secrets(row.secrets).values()} - {ring.newest.id}
    )


def _rows(database: Database) -> list[Any]:
    if not database.has(metadata):
        return []
    with database.read() as connection:
        return list(connection.execute(sa.select(table)).all())


def _renew(connection: Connection, ring: KeyRing, row: Any) -> int:
    this = table.c.kind == row.kind, table.c.identifier == row.identifier
    # Read again, and locked until the end of the transaction.
    text = connection.execute(sa.select(table.c.secrets).where(*this).with_for_update()).scalar()
    secrets, done = _secrets(text or "{}"), 0
    for name, secret in secrets.items():
        if _key_of(secret) == ring.newest.id:
            continue
        try:
            place = bound_to(row.kind, row.identifier, name)
            plain = ring.get(secret[0]).decrypt(base64.b64decode(secret[1], validate=True), place)
        except (DecodeError, ValueError, TypeError, IndexError):
            continue  # key_ids counts it
        secrets[name] = [ring.newest.id, base64.b64encode(ring.newest.encrypt(plain, place)).decode()]
        done += 1
    if done:
        connection.execute(table.update().where(*this).values(secrets=json.dumps(secrets)))
    return done


def _secrets(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _key_of(secret: Any) -> str:
    return secret[0] if isinstance(secret, list) and len(secret) == 2 and isinstance(secret[0], str) else "?"
