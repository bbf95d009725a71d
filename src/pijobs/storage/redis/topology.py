"""Where Redis is: one server, the master that sentinels name, or the node of a cluster that has our keys.

redis-py's own clients are not used: they repeat commands on their own, and their pools connect inside a request. Its
cluster client is not used either: it follows a queue that is being moved to another node (``ASK``), and would run a
script there on half of its keys. Its connections (TCP, TLS, UNIX sockets, authentication) and its Sentinel are used.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.connection import Connection, SSLConnection, parse_url
from redis.retry import Retry
from redis.sentinel import Sentinel

from pijobs.base.masks import masked_query
from pijobs.base.network import is_local
from pijobs.errors import ConfigurationError, StorageVersion
from pijobs.storage import protocol
from pijobs.storage.redis.connection import FOREIGN, Wire, unavailable

#: Seconds to connect, if the URL does not say ``socket_connect_timeout``.
CONNECT_TIMEOUT = 5.0
#: Seconds for a sentinel, which answers at once or not at all: its host may be down together with that of the master.
SENTINEL_TIMEOUT = 1.0
PORT, SENTINEL_PORT = 6379, 26379

#: The key with the protocol of a queue.
PROTOCOL_FIELDS = ("protocol", "oldest_reader")

#: Options of redis-py's client and pool that a URL may contain, and those that decide how we read answers.
_OURS = (
    "connection_class",
    "decode_responses",
    "health_check_interval",
    "max_connections",
    "protocol",
    "retry_on_error",
    "retry_on_timeout",
    "socket_timeout",
    "timeout",
)
_SENTINEL, _CLUSTER = "redis+sentinel://", "redis+cluster://"


class Place:
    """Where Redis is, read from a URL. Reading does not connect.

    :param url: ``redis://``, ``rediss://`` or ``unix://`` as redis-py reads them;
        ``redis+sentinel://[user:password@]host[:port],…/SERVICE[/DB]``, where the user is that of the server, and
        ``sentinel_username`` and ``sentinel_password`` are query parameters; or
        ``redis+cluster://[user:password@]host[:port],…`` with some nodes of a Redis Cluster, one of which must answer.
        In the last two, ``ssl=true`` asks for TLS.
    :param key: the key with the protocol of the queue.
    :param password: instead of one in the URL.
    :raises ConfigurationError: when the URL can't be read; its password is not quoted.
    """

    def __init__(self, url: str, key: str, *, password: str | None = None) -> None:
        self.display_url = without_password(url)
        self._key = key
        #: Sentinels, or nodes of a cluster; the last one that answered comes first.
        self._hosts: list[tuple[str, int]] = []
        self._sentinel_options: dict[str, Any] = {}
        self._service = ""
        if url.startswith((_SENTINEL, _CLUSTER)):
            url = self._read_hosts(url)
        try:
            self._options: dict[str, Any] = dict(parse_url(url))  # type: ignore[no-untyped-call]
        except ValueError:
            raise self._unreadable(
                f"redis://host:port/db, rediss://…, unix:///path, {_SENTINEL}host:port,host:port/service/db "
                f"or {_CLUSTER}host:port,host:port"
            ) from None
        self._class = self._options.get("connection_class", Connection)
        for name in _OURS:
            self._options.pop(name, None)
        if password is not None:
            self._options["password"] = password
        try:
            self._class(**self._options)  # does not connect
        except (TypeError, ValueError, redis.RedisError):
            raise ConfigurationError(
                f"the Redis URL can't be read: expected options and values that redis-py knows after the '?', "
                f"found others in {self.display_url!r}"
            ) from None

    @property
    def hosts(self) -> list[str]:
        """The hosts on a network: servers or sentinels; none for a UNIX socket."""
        return [] if "path" in self._options else [host for host, _ in self._hosts] or [self._host]

    @property
    def has_login(self) -> bool:
        """Whether we log in to Redis, with a password or a certificate."""
        return any(self._options.get(name) for name in ("password", "credential_provider", "ssl_certfile"))

    @property
    def has_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return issubclass(self._class, SSLConnection)

    def facts(self) -> dict[str, str]:
        """How safe the connection to Redis is, by its URL: ``local``, ``login`` and ``tls``, yes or no."""
        known = {"local": all(map(is_local, self.hosts)), "login": self.has_login, "tls": self.has_tls}
        return {name: "yes" if value else "no" for name, value in known.items()}

    @property
    def _host(self) -> str:
        return str(self._options.get("host", "localhost"))

    def connect(self) -> Wire:
        """Open a connection; may take as long as the operating system allows. In a Redis Cluster any node may be given:
        it says which one has our keys.

        :raises StorageUnavailable: with the reason.
        """
        return self._connect(self._options.get("socket_connect_timeout") or CONNECT_TIMEOUT)

    @property
    def connect_within(self) -> Callable[[float], Wire] | None:
        """:meth:`connect` within so many seconds; None if it has no time limit: a name must be resolved, or several
        hosts are asked."""
        near = "path" in self._options or needs_no_look_up(self._host)
        return self._connect if not self._hosts and near else None

    def _connect(self, limit: float) -> Wire:
        """:param limit: seconds of each step."""
        options = {
            **self._options,
            "socket_timeout": limit,
            "socket_connect_timeout": limit,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
        }
        try:
            if not self._hosts:
                return self._open(options)
            return self._first(lambda host: self._open({**options, **self._server(host, limit)}))
        except FOREIGN as error:
            raise unavailable(error) from error

    def _open(self, options: dict[str, Any]) -> Wire:
        connection = self._class(**options)
        try:
            return self._asked(connection)
        except redis.exceptions.MovedError as moved:
            # Without a name it is another port of the host that answered.
            return self._asked(self._class(**{**options, "host": moved.host or connection.host, "port": moved.port}))

    def _asked(self, connection: Any) -> Wire:
        """Connect, and ask for the protocol; the answer also tells whether the keys are on this node."""
        try:
            connection.connect()
            connection.send_command("HMGET", self._key, *PROTOCOL_FIELDS)
            return Wire(connection, read_protocol(connection.read_response(), self.display_url))
        except (*FOREIGN, StorageVersion):
            connection.disconnect()
            raise

    def _first(self, connect: Callable[[tuple[str, int]], Wire]) -> Wire:
        """The connection of the first host that gives one."""
        trouble: Exception = redis.ConnectionError("no host is known")
        for host in self._hosts:
            try:
                connection = connect(host)
            except FOREIGN as error:
                trouble = error
            else:
                self._hosts = [host, *(one for one in self._hosts if one != host)]
                return connection
        raise trouble

    def _server(self, host: tuple[str, int], limit: float) -> dict[str, Any]:
        """The server behind a host of the URL: itself, or the master that this sentinel names."""
        if self._service:
            host = self._master(host, min(limit, SENTINEL_TIMEOUT))
        return {"host": host[0], "port": host[1]}

    def _master(self, host: tuple[str, int], limit: float) -> tuple[str, int]:
        options = {
            "socket_timeout": limit,
            "socket_connect_timeout": limit,
            "retry": Retry(NoBackoff(), 0),
            **self._sentinel_options,
        }
        sentinel = Sentinel([host], sentinel_kwargs=options)  # type: ignore[no-untyped-call]
        try:
            name, port = sentinel.discover_master(self._service)  # type: ignore[no-untyped-call]
        finally:
            sentinel.sentinels[0].close()
        return str(name), int(port)

    def _read_hosts(self, url: str) -> str:
        """Store the hosts; return the URL of a server behind them for redis-py."""
        parts = urlsplit(url)
        user, at, hosts = parts.netloc.rpartition("@")
        service, _, db = parts.path.strip("/").partition("/")
        query = dict(parse_qsl(parts.query))
        for name in ("username", "password"):
            if value := query.pop(f"sentinel_{name}", None):
                self._sentinel_options[name] = value
        secure = query.pop("ssl", "").lower() in ("1", "true", "yes")
        if secure:
            tls = {name: value for name, value in query.items() if name.startswith("ssl_")}
            self._sentinel_options.update(ssl=True, **tls)
        of_sentinels = url.startswith(_SENTINEL)
        try:
            self._hosts = [
                _host_and_port(one, SENTINEL_PORT if of_sentinels else PORT) for one in hosts.split(",") if one
            ]
        except ValueError:
            self._hosts = []
        if of_sentinels and not (self._hosts and service):
            raise self._unreadable(f"{_SENTINEL}host:port,host:port/service/db")
        if not of_sentinels and (not self._hosts or service not in ("", "0") or db):
            raise self._unreadable(f"{_CLUSTER}host:port,host:port, since a cluster has database 0 only")
        self._service = unquote(service) if of_sentinels else ""
        scheme = "rediss" if secure else "redis"
        return f"{scheme}://{user}{at}master/{db or 0}" + (f"?{urlencode(query)}" if query else "")

    def _unreadable(self, expected: str) -> ConfigurationError:
        return ConfigurationError(f"the Redis URL can't be read: expected {expected}, found {self.display_url!r}")


def needs_no_look_up(host: str) -> bool:
    """Whether connecting needs no DNS server."""
    try:
        return bool(ipaddress.ip_address(host))
    except ValueError:
        return host == "localhost"


def read_protocol(told: Sequence[bytes | None], place: str) -> int:
    """:raises StorageVersion: for a protocol that this release does not support."""
    try:
        number, oldest_reader = (protocol.FIRST if value is None else int(value) for value in told)
    except ValueError:
        raise StorageVersion(f"{place}: expected a number as its protocol, found something else") from None
    return protocol.judge(number, oldest_reader, place)


_HOST = r"(?:\[[^\]]*\]|[^@:/?,]*)(?::\d*)?"
_PARAMETER_WITH_AT = re.compile(rf"{_HOST}(?:,{_HOST})*(?:/[^@?]*)?\?[\w-]+=.*@.*", re.DOTALL)


def without_password(url: str) -> str:
    """The URL with its password taken out, for people; also a password with a "#", "/" or "?" that is not quoted."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return "one without ://"
    # A parameter may contain an "@", too: after its name, and after hosts with numeric ports.
    if _PARAMETER_WITH_AT.fullmatch(rest):
        login, place = "", rest
    else:
        login, _, place = rest.rpartition("@")
    user, colon, _ = login.partition(":")
    # Without the colon, the password was given as a user.
    shown = f"{user}@" if user and colon else "***@" if user else ""
    return masked_query(f"{scheme}://{shown}{place}").partition("#")[0]


def key_prefix(name: str) -> str:
    """What all keys of a queue begin with; the braces keep them on one node of a Redis Cluster."""
    return f"{{pijobs:{quote(name, safe='')}}}:"


def _host_and_port(text: str, usual: int) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or port.endswith("]"):
        host, port = text, str(usual)
    return host.strip("[]"), int(port)
