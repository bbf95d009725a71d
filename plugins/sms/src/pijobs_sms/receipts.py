"""What gateways tell of an SMS after they took it: delivered or not.

The record of an instance has ended by then, and lies in the queue's storage or nowhere (an SMS that was sent in the
request); so this is kept in the database of the definitions, as the limits are.
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

#: Seconds that a receipt is kept, and waited for: longer than the records of dead letters are.
KEEP = 8 * 86400
#: Seconds between two looks for those that are too old.
_TIDY = 3600
_LONGEST = 100  # characters of an id, and of a reason
#: Ids that a gateway may give to the parts of one SMS; a text has 255 parts at most.
MOST_PARTS = 255
#: Instances of one query.
_MOST = 500

metadata = sa.MetaData()
table = sa.Table(
    "pijobs_sms_receipt",
    metadata,
    # The hash of a gateway's name and its id of the SMS, or of one part of it.
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("instance", sa.String(_LONGEST), nullable=False, index=True),
    # NULL: nothing was told yet.
    sa.Column("delivered", sa.Boolean),
    sa.Column("reason", sa.String(_LONGEST), nullable=False),
    # Seconds since the epoch: when it was sent, or told.
    sa.Column("at", sa.BigInteger, nullable=False, index=True),
    mysql_engine="InnoDB",
    mariadb_engine="InnoDB",
)


class Receipts:
    """What one installation is told."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._tidied = 0.0

    @classmethod
    def of(cls, settings: Settings) -> Receipts:
        """Those of an installation."""
        return settings.resource(cls, lambda: cls(Database.of(settings)))

    def expect(self, gateway: str, message_ids: Collection[str], instance: str) -> None:
        """A gateway took an SMS, and will tell of it by these ids of its own.

        :raises DatabaseError: what it tells will be unknown.
        """
        for message_id in islice(filter(None, message_ids), MOST_PARTS):
            self._put(_name(gateway, message_id[:_LONGEST]), instance, None, "")

    def tell(self, gateway: str, message_id: str, *, delivered: bool, reason: str = "") -> str | None:
        """A gateway tells of an SMS.

        :param message_id: the gateway's own, which may be written in hexadecimal where it was decimal; or the id of the
            instance.
        :param reason: why it was not delivered, without a secret.
        :returns: the id of the instance; None for an SMS that is not known.
        :raises DatabaseError: it is not kept.
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

    def told(self, instances: Collection[str]) -> dict[str, str]:
        """By instance, for people; those of which nothing was told are left out.

        :raises DatabaseError: it can't be read.
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
    """As :meth:`Receipts.expect`. The SMS was sent: a database that is away is no reason to send it again."""
    try:
        Receipts.of(ctx.settings).expect(gateway, message_ids, ctx.id)
    except DatabaseError as error:
        ctx.log.warning("gateway %s: what it tells of the delivery will be unknown: %s", gateway, error)


def _words(parts: Collection[tuple[bool | None, str, int]]) -> str:
    """Of all parts of an SMS; empty while something is missing."""
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
    """As it is; and as servers of SMPP write it that change between decimal and hexadecimal numbers."""
    message_id = message_id[:_LONGEST]
    yield message_id
    if len(message_id) > 20 or not re.fullmatch("[0-9a-fA-F]+", message_id):
        return
    numbers = [int(message_id, 16)] + ([int(message_id)] if message_id.isdecimal() else [])
    forms = [form.format(number) for number in numbers for form in ("{}", "{:x}", "{:08x}", "{:010}")]
    yield from dict.fromkeys(form for form in forms if form != message_id.lower())


def of_instances(settings: Settings, instances: Mapping[str, str]) -> Mapping[str, str]:
    """What was told of those instances that are SMS. Nothing, where the database is away: they are shown without it."""
    ids = [one for one, job in instances.items() if job == "sms.send"]
    try:
        return Receipts.of(settings).told(ids) if ids else {}
    except DatabaseError as error:
        log.info("what gateways told of SMS can't be read: %s", error)
        return {}
