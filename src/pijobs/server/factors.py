"""Second factors of accounts: codes of an app (TOTP, RFC 6238), security keys (WebAuthn), and recovery codes.

pyotp, webauthn and segno come with ``pijobs[second-factor]``. They are imported on first use, so no worker loads them.
Secrets are encrypted like those of definitions. Of a recovery code (79 random bits) only the SHA-256 is stored.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from pijobs.base import clock
from pijobs.database import Database, exact_text, long_text
from pijobs.errors import ConfigurationError, DecodeError
from pijobs.payload.keys import KeyRing
from pijobs.settings import Settings

TOTP, SECURITY_KEY, RECOVERY, REQUIRED = "totp", "webauthn", "recovery", "required"
#: The kinds that are a second factor. Recovery codes only replace one of these.
FACTORS = (TOTP, SECURITY_KEY)
PERIOD = 30  # seconds of one code
#: Codes before and after the current one that are accepted, since clocks differ (RFC 6238, section 5.2).
DRIFT = 1
RECOVERY_CODES = 10
MOST = 10  # second factors of one account
_LETTERS, _DIGITS = "abcdefghjkmnpqrstuvwxyz", "23456789"

metadata = sa.MetaData()


table = sa.Table(
    "pijobs_factor",
    metadata,
    sa.Column("id", exact_text(32), primary_key=True),
    sa.Column("name", exact_text(64), nullable=False, index=True),
    sa.Column("kind", exact_text(16), nullable=False),
    sa.Column("label", exact_text(64), nullable=False),
    sa.Column("created", sa.BigInteger, nullable=False),  # seconds since the epoch
    # TOTP: the last step that was used; WebAuthn: the key's counter.
    sa.Column("used", sa.BigInteger, nullable=False),
    sa.Column("key", exact_text(8), nullable=False),
    sa.Column("secret", long_text(), nullable=False),
    mysql_engine="InnoDB",
    mariadb_engine="InnoDB",
)


@dataclass(frozen=True, slots=True)
class Factor:
    """One second factor. :ivar created: seconds since the epoch."""

    id: str
    kind: str
    label: str
    created: int


class Factors:
    """The second factors of an installation's accounts.

    Each method raises :class:`~pijobs.errors.DatabaseError` when the database fails.
    """

    def __init__(self, database: Database, ring: KeyRing, time: Callable[[], float] = clock.time) -> None:
        self._database, self._ring, self._time = database, ring, time

    @classmethod
    def of(cls, settings: Settings) -> Factors:
        """The factors in the installation's database."""
        return settings.resource(cls, lambda: cls(Database.of(settings), KeyRing.of(settings)))

    def of_account(self, name: str) -> list[Factor]:
        """The factors of an account, oldest first, without recovery codes."""
        rows = [row for row in self._rows(name) if row.kind in FACTORS]
        return [Factor(row.id, row.kind, row.label, row.created) for row in sorted(rows, key=lambda row: row.created)]

    def is_wanted(self, name: str) -> bool:
        """Whether the account must give a second factor, or set one up, at sign-in."""
        return any(row.kind in (*FACTORS, REQUIRED) for row in self._rows(name))

    def is_required(self, name: str) -> bool:
        """Whether an admin requires a second factor of the account."""
        return any(row.kind == REQUIRED for row in self._rows(name))

    def require(self, name: str, required: bool) -> None:
        """Set whether the account must have a second factor."""
        with self._begin() as connection:
            connection.execute(table.delete().where(table.c.name == name, table.c.kind == REQUIRED))
            if required:
                self._insert(connection, name, REQUIRED, "", b"")

    def reset(self, name: str, *, also_required: bool = False) -> int:
        """Remove all factors of an account; returns their number. Keeps the requirement, unless ``also_required``."""
        gone = len(self.of_account(name))
        with self._begin() as connection:
            kinds = (*FACTORS, RECOVERY, *((REQUIRED,) if also_required else ()))
            connection.execute(table.delete().where(table.c.name == name, table.c.kind.in_(kinds)))
        return gone

    def remove(self, name: str, id: str) -> bool:
        """Remove a factor; with the last one, also the recovery codes. Returns whether it existed."""
        with self._begin() as connection:
            which = table.c.name == name, table.c.id == id, table.c.kind.in_(FACTORS)
            gone = connection.execute(table.delete().where(*which)).rowcount
        if not self.of_account(name):
            self.reset(name)
        return bool(gone)

    def add(self, name: str, kind: str, label: str, content: dict[str, Any], used: int = 0) -> None:
        """Store a factor. :param content: its secret; stored encrypted. :param used: the last counter that was used."""
        with self._begin() as connection:
            self._insert(connection, name, kind, label, json.dumps(content).encode(), used)

    def contents(self, name: str, kind: str) -> dict[str, tuple[dict[str, Any], int]]:
        """The secret and last used counter of each factor of one kind, by id. Skips what can't be decrypted."""
        found = {}
        for row in self._rows(name):
            if row.kind == kind:
                try:
                    found[row.id] = json.loads(self._opened(row)), row.used
                except DecodeError:
                    continue
        return found

    def advance(self, id: str, used: int, *, beyond: int) -> bool:
        """Store the last used counter; False if another request did so first."""
        with self._begin() as connection:
            which = table.c.id == id, table.c.used <= beyond
            return bool(connection.execute(table.update().where(*which).values(used=used)).rowcount)

    # -- codes -------------------------------------------------------------------------------------------------------

    def add_totp(self, name: str, label: str, secret: str, code: str) -> bool:
        """Store an app's secret, if the code proves that the app has it."""
        step = self._step(secret, code, after=-1)
        if step is None:
            return False
        self.add(name, TOTP, label, {"secret": secret}, step)
        return True

    def takes(self, name: str, code: str) -> str | None:
        """The kind of factor that the code matches; None if it is wrong. Each code is valid once."""
        plain = "".join(code.split()).replace("-", "").lower()
        if plain.isascii() and plain.isdecimal():
            for id, (content, used) in self.contents(name, TOTP).items():
                step = self._step(content["secret"], plain, after=used)
                if step is not None and self.advance(id, step, beyond=step - 1):
                    return TOTP
            return None
        with self._begin() as connection:
            which = table.c.name == name, table.c.kind == RECOVERY, table.c.label == _hash(name, plain)
            return RECOVERY if connection.execute(table.delete().where(*which)).rowcount else None

    def new_recovery_codes(self, name: str) -> list[str]:
        """Replace the recovery codes by ten new ones. They can't be read again."""
        # Start with a letter: takes() reads digits as an app's code.
        codes = [
            secrets.choice(_LETTERS) + "".join(secrets.choice(_LETTERS + _DIGITS) for _ in range(15))
            for _ in range(RECOVERY_CODES)
        ]
        with self._begin() as connection:
            connection.execute(table.delete().where(table.c.name == name, table.c.kind == RECOVERY))
            for code in codes:
                self._insert(connection, name, RECOVERY, _hash(name, code), b"")
        return ["-".join(code[place : place + 4] for place in range(0, 16, 4)) for code in codes]

    def recovery_codes_left(self, name: str) -> int:
        """The number of unused recovery codes."""
        return sum(row.kind == RECOVERY for row in self._rows(name))

    def _step(self, secret: str, code: str, *, after: int) -> int | None:
        if not code.isascii():  # compare_digest accepts ASCII only
            return None
        totp, now = extra("pyotp").TOTP(secret), int(self._time()) // PERIOD
        steps = range(now - DRIFT, now + DRIFT + 1)
        right = [step for step in steps if hmac.compare_digest(totp.generate_otp(step), code)]
        return next((step for step in right if step > after), None)

    # -- keeping -----------------------------------------------------------------------------------------------------

    def reencrypt(self) -> int:
        """Encrypt all readable secrets by the newest key; returns how many had another key."""
        done = 0
        for row in self._rows(None):
            if row.kind in FACTORS and row.key != self._ring.newest.id and row.key in self._ring.ids:
                key, text = self._sealed(row.id, row.name, self._opened(row))
                with self._begin() as connection:
                    connection.execute(table.update().where(table.c.id == row.id).values(key=key, secret=text))
                done += 1
        return done

    def key_ids(self) -> Counter[str]:
        """The number of secrets by key id."""
        return Counter(row.key for row in self._rows(None) if row.kind in FACTORS)

    def _begin(self) -> Any:
        self._database.ensure(metadata)
        return self._database.begin()

    def _rows(self, name: str | None) -> Any:
        if not self._database.has(metadata):
            return []
        query = sa.select(table) if name is None else sa.select(table).where(table.c.name == name)
        with self._database.read() as connection:
            return connection.execute(query).all()

    def _insert(self, connection: Connection, name: str, kind: str, label: str, content: bytes, used: int = 0) -> None:
        id, created = secrets.token_hex(16), int(self._time())
        key, text = self._sealed(id, name, content)
        row = {"id": id, "name": name, "kind": kind, "label": label[:64], "created": created, "used": used}
        connection.execute(table.insert().values(**row, key=key, secret=text))

    def _sealed(self, id: str, name: str, content: bytes) -> tuple[str, str]:
        key = self._ring.newest
        return key.id, base64.b64encode(key.encrypt(content, _bound_to(id, name))).decode() if content else ""

    def _opened(self, row: Any) -> bytes:
        return self._ring.get(row.key).decrypt(base64.b64decode(row.secret), _bound_to(row.id, row.name))


def _bound_to(id: str, name: str) -> bytes:
    """Associated data: a secret copied to another account's row can't be decrypted."""
    return json.dumps(["second factor", id, name]).encode()


def _hash(name: str, code: str) -> str:
    return hashlib.sha256(f"{name}\0{code[:64]}".encode("utf-8", "replace")).hexdigest()


def extra(module: str) -> Any:
    """A module of ``pijobs[second-factor]``.

    :raises ConfigurationError: if it is not installed.
    """
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigurationError(
            f"a second factor needs {module}, which is not installed; pip install 'pijobs[second-factor]'"
        ) from error
