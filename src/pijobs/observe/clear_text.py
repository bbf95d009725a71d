"""What an eavesdropper between this machine and the storage, or the database of definitions, can read or do.

The same check is for our own server, which refuses to start; for the worker's log, readiness and ``pijobs config
check``, which only report it: under privacyIDEA, mails must be sent anyway.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from pijobs.base.network import is_local
from pijobs.base.told import Told
from pijobs.errors import ConfigurationError
from pijobs.settings import PREFIX, Settings
from pijobs.storage.redis.topology import Place

STORAGE = PREFIX + "URL"
_REDIS = ("redis", "unix")

Fault = tuple[str, str]


def faults(settings: Settings, *, queue: bool = True) -> Iterator[Fault]:
    """Everything that is sent unencrypted: what was found, and what to do.

    :param queue: whether the storage is used.
    """
    if queue:
        yield from filter(None, (login(settings), tls(settings)))
    yield from filter(None, [database(settings)])


def is_remote_kind(settings: Settings) -> bool:
    """Whether the storage is one that may be on another machine."""
    return not settings.storage_url.startswith(("sqlite", "memory"))


def login(settings: Settings) -> Fault | None:
    """Redis requires no login."""
    place = _redis(settings)
    if place is None or place.has_login or not (hosts := _others(place.hosts, settings)):
        return None
    return (
        Told(
            "Redis is on another machine, {hosts}, and no password is given: anybody who reaches it can delete jobs",
            hosts=hosts,
        ),
        Told(
            "set requirepass or an ACL user in Redis, and name it in "
            "{setting} = 'rediss://user:password@host/0'; {more}",
            setting=STORAGE,
            more=_or_allow(hosts),
        ),
    )


def tls(settings: Settings) -> Fault | None:
    """The connection to the storage is not encrypted."""
    place = _redis(settings)
    if place is None:
        return _sql(STORAGE, settings.storage_url, settings)
    if place.has_tls or not (hosts := _others(place.hosts, settings)):
        return None
    return (
        Told(
            "Redis is on another machine, {hosts}, and the connection has no TLS: its password is sent unencrypted",
            hosts=hosts,
        ),
        Told(
            "use rediss://, or for Sentinel and Cluster '?ssl=true', in {setting}; {more}",
            setting=STORAGE,
            more=_or_allow(hosts),
        ),
    )


def database(settings: Settings) -> Fault | None:
    """The connection to the database of definitions and accounts is not encrypted. An application's own database is not
    checked."""
    row = Settings.database if settings.database else Settings.sqlalchemy_database_uri
    url = settings[row]
    return None if url is None or settings.engine() is not None else _sql(row.name, url, settings)


def _redis(settings: Settings) -> Place | None:
    url = settings.storage_url
    return Place(url, "") if url.startswith(_REDIS) else None


def _sql(name: str, text: str, settings: Settings) -> Fault | None:
    if text.startswith(("sqlite", "memory")):
        return None
    # It imports SQLAlchemy, which an installation with Redis and without definitions does not need.
    from pijobs.database.reach import without_tls

    product, add, found = without_tls(text)
    if not (hosts := _others(found, settings)):
        return None
    return (
        Told(
            "{product} is on another machine, {hosts}, and the connection may have no TLS: others can read the data",
            product=product,
            hosts=hosts,
        ),
        Told("add '?{add}' to {setting}; {more}", add=add, setting=name, more=_or_allow(hosts)),
    )


def _others(hosts: Collection[str], settings: Settings) -> str:
    """The hosts that are neither this machine nor allowed."""
    allowed = {host.lower() for host in settings.login_without_tls}
    return ", ".join(host for host in hosts if not is_local(host) and host.lower() not in allowed)


def _or_allow(hosts: str) -> Told:
    return Told(
        "or, if nobody else is on that network, name {hosts} in {setting}",
        hosts=hosts,
        setting=Settings.login_without_tls,
    )


def refuse(settings: Settings, *, queue: bool) -> None:
    """:raises ConfigurationError: with everything that is sent unencrypted to another machine."""
    found = [f"{message}; {advice}" for message, advice in faults(settings, queue=queue)]
    if found:
        raise ConfigurationError(f"this server sends nothing unencrypted to other machines: {'; '.join(found)}")
