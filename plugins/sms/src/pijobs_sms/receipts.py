"""Delivery receipts: whether an SMS was delivered after the gateway accepted it.

The instance has ended by then. Its record is in the queue's storage, or, for an SMS sent in the request, nowhere. So
the database of the definitions keeps the receipts, as it does the limits.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from datetime import datetime, timezone
from itertools import islice

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from pijobs import JobContext, Settings
from pijobs.base import clock
from pijobs.database import Database
from pijobs.errors import DatabaseConflict, DatabaseError

log = logging.getLogger(__name__)

#: Seconds to keep and await receipts: longer than the records of dead letters.
KEEP = 8 * 86400
#: Seconds between two removals of old receipts.
_TIDY = 3600
_LONGEST = 100  # most characters of an id, and of a reason
#: Most ids of one SMS; a text has at most 255 parts.
MOST_PARTS = 255
#: Most instances of one query.
_MOST = 500

metadata = sa.MetaData()
table = sa.Table(
    "pijobs_sms_receipt",
    metadata,
    # The hash of the gateway's name and its id of the SMS, or of one of its parts.
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("instance", sa.String(_LONGEST), nullable=False, index=True),
    # NULL: no receipt yet.
    sa.Column("delivered", sa.Boolean),
    sa.Column("reason", sa.String(_LONGEST), nullable=False),
    # Seconds since the epoch: time of sending, or of the receipt.
    sa.Column("at", sa.BigInteger, nullable=False, index=True),
    mysql_engine="InnoDB",
    mariadb_engine="InnoDB",
)


class Receipts:
    """The receipts of an installation."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._tidied = 0.0

    @classmethod
    def of(cls, settings: Settings) -> Receipts:
        """The receipts of an installation."""
        return settings.resource(cls, lambda: cls(Database.of(settings)))

    def expect(self, gateway: str, message_ids: Collection[str], instance: str) -> None:
        """Expect receipts for an SMS by these ids of the gateway.

        :raises DatabaseError: if they will be unknown.
        """
        for message_id in islice(filter(None, message_ids), MOST_PARTS):
            self._put(_name(gateway, message_id[:_LONGEST]), instance, None, "")

    def tell(self, gateway: str, message_id: str, *, delivered: bool, reason: str = "") -> str | None:
        """Keep a receipt of a gateway.

        :param message_id: the gateway's id, which may be hexadecimal instead of decimal; or the id of the instance.
        :param reason: why it was not delivered, without secrets.
        :returns: the id of the instance; None for an unknown SMS.
        :raises DatabaseError: if it was not kept.
        """
        self._database.ensure(metadata)
        for spelling in _spellings(message_id):
            name = _name(gateway, spelling)
            with self._database.read() as connection:
                instance = connection.execute(sa.select(table.c.instance).where(table.c.name == name)).scalar()
            if instance is not None:
                self._put(name, instance, delivered, reason)
                return str(instance)
        if not re.fullmatch(r"[0-9a-f]{32}", message_id):
            return None
        self._put(_name("", message_id), message_id, delivered, reason)
        return message_id

    def states(self, instances: Collection[str]) -> dict[str, str]:
        """States by instance, for people, without instances that have no receipt.

        :raises DatabaseError: if it can't be read.
        """
        if not self._database.has(metadata):
            return {}
        known: dict[str, list[tuple[bool | None, str, int]]] = {}
        query = sa.select(table.c.instance, table.c.delivered, table.c.reason, table.c.at)
        with self._database.read() as connection:
            for instance, *row in connection.execute(query.where(table.c.instance.in_([*instances][:_MOST]))):
                known.setdefault(instance, []).append((row[0], row[1], row[2]))
        return {instance: words for instance, rows in known.items() if (words := _words(rows))}

    def _put(self, name: str, instance: str, delivered: bool | None, reason: str) -> None:
        self._database.ensure(metadata)
        now = int(clock.time())
        values = {"instance": instance, "delivered": delivered, "reason": reason[:_LONGEST], "at": now}

        def work(connection: Connection) -> None:
            changed = connection.execute(table.update().where(table.c.name == name).values(**values)).rowcount
            if not changed:
                connection.execute(table.insert().values(name=name, **values))

        self._database.run(work)
        if clock.monotonic() - self._tidied > _TIDY or not self._tidied:
            self._tidied = clock.monotonic()
            with suppress(DatabaseConflict), self._database.begin() as connection:
                connection.execute(table.delete().where(table.c.at < now - KEEP))


def expect(ctx: JobContext, gateway: str, message_ids: Collection[str]) -> None:
    """Like :meth:`Receipts.expect`, without raising errors: the SMS was sent, and must not be sent again."""
    try:
        Receipts.of(ctx.settings).expect(gateway, message_ids, ctx.id)
    except DatabaseError as error:
        ctx.log.warning("gateway %s: what it tells of the delivery will be unknown: %s", gateway, error)


def _words(parts: Collection[tuple[bool | None, str, int]]) -> str:
    """The state of all parts of an SMS; empty while a receipt is missing."""
    for delivered, reason, at in parts:
        if delivered is False:
            return f"not delivered, told at {_moment(at)}" + (f": {reason}" if reason else "")
    if not all(delivered for delivered, _, _ in parts):
        return ""
    return f"delivered, told at {_moment(max(at for _, _, at in parts))}"


def _moment(at: int) -> str:
    return datetime.fromtimestamp(at, timezone.utc).isoformat().replace("+00:00", "Z")


def _name(gateway: str, message_id: str) -> str:
    return hashlib.sha256(f"{gateway}\0{message_id.lower()}".encode()).hexdigest()


def _spellings(message_id: str) -> Iterator[str]:
    """The id as it is, and in the other base: some SMPP servers switch between decimal and hexadecimal numbers."""
    message_id = message_id[:_LONGEST]
    yield message_id
    if len(message_id) > 20 or not re.fullmatch("[0-9a-fA-F]+", message_id):
        return
    numbers = [int(message_id, 16)] + ([int(message_id)] if message_id.isdecimal() else [])
    forms = [form.format(number) for number in numbers for form in ("{}", "{:x}", "{:08x}", "{:010}")]
    yield from dict.fromkeys(form for form in forms if form != message_id.lower())


def of_instances(settings: Settings, instances: Mapping[str, str]) -> Mapping[str, str]:
    """The states of instances that are SMS; empty while the database does not answer."""
    ids = [one for one, job in instances.items() if job == "sms.send"]
    try:
        return Receipts.of(settings).states(ids) if ids else {}
    except DatabaseError as error:
        log.info("the delivery receipts can't be read: %s", error)
        return {}
