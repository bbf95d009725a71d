"""Connections to Redis: where to, and one question after the other, each within its time.

redis-py's own client is not used: it repeats commands on its own, and its pool connects inside a request. Its
connections (TCP, TLS, UNIX sockets, authentication) and its Sentinel are.
"""

from __future__ import annotations

import ipaddress
import re
import select
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

import redis
from hiredis import pack_command
from redis.backoff import NoBackoff
from redis.connection import Connection, SSLConnection, parse_url
from redis.retry import Retry
from redis.sentinel import Sentinel

from pijobs.errors import ConfigurationError, StorageUnavailable
from pijobs.storage.redis.scripts import Script

#: Seconds to connect, if the URL does not say ``socket_connect_timeout``.
CONNECT_TIMEOUT = 5.0
SENTINEL_PORT = 26379
#: What redis-py and sockets raise.
FOREIGN = (redis.RedisError, redis.exceptions.RedisClusterException, OSError, UnicodeError)

#: What a URL may carry for redis-py's client and pool, and what decides how we read answers.
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


class Wire:
    """One open connection."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._incoming = select.poll()
        self._incoming.register(connection._sock, select.POLLIN)

    def ask(self, timeout: float, *command: str | bytes | int) -> Any:
        """Send a command and read its answer.

        :param timeout: seconds.
        :raises StorageUnavailable: whatever goes wrong; the connection must not be used again.
        """
        try:
            return self._exchange(timeout, command)
        except FOREIGN as error:
            raise unavailable(error) from error

    def ask_if_allowed(self, timeout: float, *command: str | bytes | int) -> Any:
        """Like :meth:`ask`, but None when the server refuses the command."""
        try:
            return self._exchange(timeout, command)
        except redis.ResponseError:
            return None
        except FOREIGN as error:
            raise unavailable(error) from error

    def run(
        self,
        timeout: float,
        script: Script,
        key: str,
        arguments: Sequence[str | bytes | int],
        *,
        after: Sequence[str | bytes | int] = (),
    ) -> tuple[list[Any], float]:
        """Run a script that the server knows, or teach it. Its answer, and when it was asked for (monotonic seconds).

        :param after: a command that is sent in front of it, in one flight; the script runs when that has been answered.
        """
        sent = time.monotonic()
        end = sent + timeout
        try:
            commands = [("EVALSHA", script.sha, 1, key, *arguments)]
            self._send(timeout, *([after, *commands] if after else commands))
            if after:
                self._receive(end)
                sent = time.monotonic()
            answer: list[Any] = self._receive(end)
        except redis.exceptions.NoScriptError:
            answer = self.ask(end - time.monotonic(), "EVAL", script.source, 1, key, *arguments)
        except FOREIGN as error:
            raise unavailable(error) from error
        return answer, sent

    def is_usable(self) -> bool:
        """Whether nothing came in while nothing was asked: neither an end of file nor a late answer."""
        try:
            # With TLS something may come in that is no answer; only redis-py can tell, which takes longer.
            return not self._incoming.poll(0) or not self._connection.can_read(timeout=0)
        except FOREIGN:
            return False

    def close(self) -> None:
        self._connection.disconnect()

    def _exchange(self, timeout: float, command: Sequence[str | bytes | int]) -> Any:
        end = time.monotonic() + timeout
        self._send(timeout, command)
        return self._receive(end)

    # redis-py has one time-out per connection; here it is what is left of the caller's time.

    def _send(self, timeout: float, *commands: Sequence[str | bytes | int]) -> None:
        self._socket().settimeout(max(timeout, 0.001))
        # hiredis takes tuples of any length, whatever its annotation says.
        parts = [pack_command((*command,)) for command in commands]  # type: ignore[arg-type]
        self._connection.send_packed_command(parts, check_health=False)

    def _receive(self, end: float) -> Any:
        self._socket().settimeout(max(end - time.monotonic(), 0.001))
        return self._connection.read_response()

    def _socket(self) -> Any:
        if self._connection._sock is None:
            raise redis.ConnectionError("the connection was closed")
        return self._connection._sock


class Place:
    """Where Redis is, read from a URL. Reading does not connect.

    :param url: ``redis://``, ``rediss://`` or ``unix://`` as redis-py reads them, or
        ``redis+sentinel://[user:password@]host[:port],…/SERVICE[/DB]``. There the user is that of the server;
        ``sentinel_username`` and ``sentinel_password`` are query parameters, and ``ssl=true`` asks for TLS.
    :param key: any key of ours.
    :param password: instead of one in the URL.
    :raises ConfigurationError: when the URL can't be read; its password is not quoted.
    """

    def __init__(self, url: str, key: str, *, password: str | None = None) -> None:
        self.display_url = without_password(url)
        self._key = key
        self._sentinels: list[tuple[str, int]] = []
        self._sentinel_options: dict[str, Any] = {}
        self._service = ""
        if url.startswith("redis+sentinel://"):
            url = self._read_sentinels(url)
        try:
            self._options: dict[str, Any] = dict(parse_url(url))  # type: ignore[no-untyped-call]
        except ValueError:
            raise ConfigurationError(
                "the Redis URL can't be read: expected redis://host:port/db, rediss://…, unix:///path "
                f"or redis+sentinel://host:port,host:port/service/db, found {self.display_url!r}"
            ) from None
        self._class = self._options.get("connection_class", Connection)
        for name in _OURS:
            self._options.pop(name, None)
        if password is not None:
            self._options["password"] = password
        try:
            self._class(**self._options)  # does not connect
        except TypeError:
            raise ConfigurationError(
                f"the Redis URL can't be read: expected options that redis-py knows after the '?', found others in "
                f"{self.display_url!r}"
            ) from None

    def facts(self) -> dict[str, str]:
        """How safe the way to Redis is, as far as the URL tells: ``local``, ``login`` and ``tls``, yes or no."""
        hosts = [host for host, _ in self._sentinels] or [str(self._options.get("host", "localhost"))]
        local = "path" in self._options or all(is_local(host) for host in hosts)
        known = {
            "local": local,
            "login": bool(self._options.get("password") or self._options.get("credential_provider")),
            "tls": issubclass(self._class, SSLConnection),
        }
        return {name: "yes" if value else "no" for name, value in known.items()}

    def connect(self) -> Wire:
        """Open a connection; may take as long as the operating system lets it.

        In a Redis Cluster any node may be given: it tells which one has our keys.

        :raises StorageUnavailable: with the reason.
        """
        limit = self._options.get("socket_connect_timeout") or CONNECT_TIMEOUT
        options = {
            **self._options,
            "socket_timeout": limit,
            "socket_connect_timeout": limit,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
        }
        try:
            if self._sentinels:
                options["host"], options["port"] = self._master(limit)
            connection = self._class(**options)
            connection.connect()
            try:
                connection.send_command("EXISTS", self._key)
                connection.read_response()
            except redis.exceptions.MovedError as moved:
                connection.disconnect()
                options["host"], options["port"] = moved.host, moved.port
                connection = self._class(**options)
                connection.connect()
        except FOREIGN as error:
            raise unavailable(error) from error
        return Wire(connection)

    def _master(self, limit: float) -> tuple[str, int]:
        options = {
            "socket_timeout": limit,
            "socket_connect_timeout": limit,
            "retry": Retry(NoBackoff(), 0),
            **self._sentinel_options,
        }
        sentinel = Sentinel(self._sentinels, sentinel_kwargs=options)  # type: ignore[no-untyped-call]
        try:
            host, port = sentinel.discover_master(self._service)  # type: ignore[no-untyped-call]
        finally:
            for client in sentinel.sentinels:
                client.close()
        return str(host), int(port)

    def _read_sentinels(self, url: str) -> str:
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
        try:
            self._sentinels = [_host_and_port(host) for host in hosts.split(",") if host]
        except ValueError:
            self._sentinels = []
        if not self._sentinels or not service:
            raise ConfigurationError(
                "the Redis URL can't be read: expected redis+sentinel://host:port,host:port/service/db, "
                f"found {self.display_url!r}"
            )
        self._service = unquote(service)
        scheme = "rediss" if secure else "redis"
        return f"{scheme}://{user}{at}master/{db or 0}" + (f"?{urlencode(query)}" if query else "")


def is_local(host: str) -> bool:
    """Whether only this machine can hear what is said to the host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def without_password(url: str) -> str:
    """The URL with its password taken out, for people; also a password with a "#" or a "/" that is not quoted."""
    scheme, _, rest = re.sub(r"([?&][^=&]*password=)[^&]*", r"\1", url).partition("://")
    login, at, place = rest.rpartition("@")
    name = login.partition(":")[0]
    parts = urlsplit(f"{scheme}://{name}{at}{place}" if name else f"{scheme}://{place}")
    query = [(key, value) for key, value in parse_qsl(parts.query) if "password" not in key]
    return urlunsplit((parts.scheme, parts.netloc, parts.path, urlencode(query), ""))


def key_prefix(name: str) -> str:
    """What all keys of a queue begin with; the braces keep them on one node of a Redis Cluster."""
    return f"{{pijobs:{quote(name, safe='')}}}:"


def unavailable(error: Exception) -> StorageUnavailable:
    """One of :data:`FOREIGN` in our words; raise it from the foreign one."""
    return StorageUnavailable(_reason(error))


def was_refused(error: StorageUnavailable) -> bool:
    """Whether the server answered, so that surely nothing was done."""
    return isinstance(error.__cause__, (redis.ResponseError, redis.BusyLoadingError))


def _reason(error: Exception) -> str:
    """What people need to know. Texts of the server and of the operating system name addresses, never a password."""
    first = str(error).strip().split("\n")[0][:200]
    if isinstance(error, (redis.TimeoutError, TimeoutError)):
        return "Redis did not answer in time"
    if isinstance(error, redis.AuthenticationError):
        return "Redis refused the user or the password"
    # Redis 6.2 wraps what a command inside a script says, so that redis-py finds no code in front.
    if isinstance(error, redis.exceptions.OutOfMemoryError) or "-OOM " in first:
        return "the memory of Redis is used up (maxmemory)"
    if isinstance(error, redis.ReadOnlyError) or "-READONLY " in first:
        return "this Redis is a read-only replica"
    if isinstance(error, redis.BusyLoadingError):
        return "Redis is still loading its data"
    return f"Redis is not available: {first or type(error).__name__}"


def _host_and_port(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or port.endswith("]"):
        host, port = text, str(SENTINEL_PORT)
    return host.strip("[]"), int(port)
