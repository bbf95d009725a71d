"""What whoever is between this machine and the storage, or the database of definitions, can read or do.

One judgement for our own server, which refuses to start; for the worker's log, readiness and ``pijobs config check``,
which tell it in red: under privacyIDEA mails must go out all the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from pijobs.base.network import is_local
from pijobs.errors import ConfigurationError
from pijobs.settings import PREFIX, Settings
from pijobs.storage.redis.topology import Place

STORAGE = PREFIX + "URL"
_REDIS = ("redis", "unix")

Fault = tuple[str, str]


def faults(settings: Settings, *, queue: bool = True) -> Iterator[Fault]:
    """All that goes in clear: what was found, and what to do.

    :param queue: whether the storage is used.
    """
    if queue:
        yield from filter(None, (login(settings), tls(settings)))
    yield from filter(None, [database(settings)])


def is_remote_kind(settings: Settings) -> bool:
    """Whether the storage is one that may be on another machine."""
    return not settings.storage_url.startswith(("sqlite", "memory"))


def login(settings: Settings) -> Fault | None:
    """Redis lets in whoever reaches it."""
    place = _redis(settings)
    if place is None or place.has_login or not (hosts := _others(place.hosts, settings)):
        return None
    more = _or_allow(hosts)
    return (
        f"Redis is on another machine, {hosts}, and no password is given: who reaches it can delete jobs",
        f"set requirepass or an ACL user in Redis, and name it in {STORAGE} = 'rediss://user:password@host/0'; {more}",
    )


def tls(settings: Settings) -> Fault | None:
    """The storage is spoken to in clear."""
    place = _redis(settings)
    if place is None:
        return _sql(STORAGE, settings.storage_url, settings)
    if place.has_tls or not (hosts := _others(place.hosts, settings)):
        return None
    return (
        f"Redis is on another machine, {hosts}, and spoken to without TLS: its password goes in clear",
        f"use rediss://, or for Sentinel and Cluster '?ssl=true', in {STORAGE}; {_or_allow(hosts)}",
    )


def database(settings: Settings) -> Fault | None:
    """The database of definitions and accounts is spoken to in clear. That of an application is its own affair."""
    row = Settings.database if settings.database else Settings.sqlalchemy_database_uri
    url = settings[row]
    return None if url is None or settings.engine() is not None else _sql(row.name, url, settings)


def _redis(settings: Settings) -> Place | None:
    url = settings.storage_url
    return Place(url, "") if url.startswith(_REDIS) else None


def _sql(name: str, text: str, settings: Settings) -> Fault | None:
    if text.startswith(("sqlite", "memory")):
        return None
    # It imports SQLAlchemy, which who has Redis and no definitions does not need.
    from pijobs.database.reach import without_tls

    product, add, found = without_tls(text)
    if not (hosts := _others(found, settings)):
        return None
    return (
        f"{product} is on another machine, {hosts}, and may be spoken to without TLS: what goes there can be read",
        f"add '?{add}' to {name}; {_or_allow(hosts)}",
    )


def _others(hosts: Collection[str], settings: Settings) -> str:
    """Those of the hosts that are not this machine, and not allowed."""
    allowed = {host.lower() for host in settings.login_without_tls}
    return ", ".join(host for host in hosts if not is_local(host) and host.lower() not in allowed)


def _or_allow(hosts: str) -> str:
    return f"or, if nobody else is on that network, name {hosts} in {Settings.login_without_tls}"


def refuse(settings: Settings, *, queue: bool) -> None:
    """:raises ConfigurationError: for what goes in clear to another machine, all at once."""
    found = [f"{message}; {advice}" for message, advice in faults(settings, queue=queue)]
    if found:
        raise ConfigurationError(f"this server does not speak in clear to other machines: {'; '.join(found)}")
