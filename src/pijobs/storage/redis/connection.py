"""One connection to Redis. It sends one command after the other, each with a time limit."""

from __future__ import annotations

import select
from collections.abc import Sequence
from typing import Any

import redis
from hiredis import pack_command

from pijobs.base import clock
from pijobs.errors import InstanceRefused, StorageDamaged, StorageFull, StorageUnavailable
from pijobs.storage.redis.scripts import Script

#: What redis-py and sockets raise.
FOREIGN = (redis.RedisError, redis.exceptions.RedisClusterException, OSError, UnicodeError)


class Wire:
    """One open connection.

    :ivar protocol: the protocol of the queue when it was opened, see :mod:`pijobs.storage.protocol`.
    """

    def __init__(self, connection: Any, protocol: int) -> None:
        self.protocol = protocol
        self._connection = connection
        self._incoming = select.poll()
        self._incoming.register(connection._sock, select.POLLIN)

    def ask(self, timeout: float, *command: str | bytes | int) -> Any:
        """Send a command and read its answer.

        :param timeout: seconds.
        :raises StorageUnavailable: for any failure; the connection must not be used again.
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

    def ask_to_learn(self, timeout: float, *command: str | bytes | int) -> str:
        """The server's refusal of a command; empty if it accepts it."""
        try:
            self._exchange(timeout, command)
        except redis.ResponseError as error:
            return _words(error)
        except FOREIGN as error:
            raise unavailable(error) from error
        return ""

    def run(
        self,
        timeout: float,
        script: Script,
        key: str,
        arguments: Sequence[str | bytes | int],
        *,
        after: Sequence[str | bytes | int] = (),
    ) -> tuple[list[Any], float]:
        """Run a script, and load it first if the server does not have it. Returns the answer, and when it was requested
        (monotonic seconds).

        :param after: a command that is sent before it, in the same packet; the script runs after its answer.
        """
        sent = clock.monotonic()
        end = sent + timeout
        try:
            commands = [("EVALSHA", script.sha, 1, key, *arguments)]
            self._send(timeout, *([after, *commands] if after else commands))
            if after:
                self._receive_first(end)
                sent = clock.monotonic()
            answer: list[Any] = self._receive(end)
        except redis.exceptions.NoScriptError:
            answer = self.ask(end - clock.monotonic(), "EVAL", script.source, 1, key, *arguments)
        except UnicodeError as error:  # nothing was sent
            raise InstanceRefused(f"Redis can't hold a text ({type(error).__name__})") from error
        except FOREIGN as error:
            if _is_too_large(error):
                self.close()  # so does the server
                raise InstanceRefused(str(error)) from error
            raise unavailable(error) from error
        return answer, sent

    def is_usable(self) -> bool:
        """Whether nothing arrived unasked: neither an end of file nor a late answer."""
        if self._connection._sock is None:  # redis-py would connect
            return False
        try:
            # With TLS something may arrive that is no answer; only redis-py can see that, which takes longer.
            return not self._incoming.poll(0) or not self._connection.can_read(timeout=0)
        except FOREIGN:
            return False

    def close(self) -> None:
        self._connection.disconnect()

    def _exchange(self, timeout: float, command: Sequence[str | bytes | int]) -> Any:
        end = clock.monotonic() + timeout
        self._send(timeout, command)
        return self._receive(end)

    # redis-py has one time-out per connection; here it is the rest of the caller's time.

    def _send(self, timeout: float, *commands: Sequence[str | bytes | int]) -> None:
        self._socket().settimeout(max(timeout, 0.001))
        # hiredis takes tuples of any length, whatever its annotation says.
        packed = b"".join(pack_command((*command,)) for command in commands)  # type: ignore[arg-type]
        try:
            self._socket().sendall(packed)
        except OSError as error:
            raise self._last_word() or error from None

    def _last_word(self) -> redis.ResponseError | None:
        """Why the server hung up, if it said so."""
        try:
            self._receive(clock.monotonic())
        except redis.ResponseError as error:
            return error
        except FOREIGN:
            pass
        return None

    def _receive(self, end: float) -> Any:
        self._socket().settimeout(max(end - clock.monotonic(), 0.001))
        return self._connection.read_response()

    def _receive_first(self, end: float) -> None:
        try:
            self._receive(end)
        except redis.ResponseError as error:
            # Without a cause: this command was refused, but the script after it may have run.
            raise unavailable(error) from None

    def _socket(self) -> Any:
        if self._connection._sock is None:
            raise redis.ConnectionError("the connection was closed")
        return self._connection._sock


def unavailable(error: Exception) -> StorageUnavailable:
    """One of :data:`FOREIGN` as our own error; raise it from the foreign one."""
    if isinstance(error, redis.ResponseError) and any(word in str(error) for word in _DAMAGED):
        first = str(error).split("\n")[0][:200]
        return StorageDamaged(f"Redis has data of the queue that can't be used: {first}; try 'pijobs check'")
    reason = _reason(error)
    return StorageFull(reason) if reason == _FULL else StorageUnavailable(reason)


_FULL = "the memory of Redis is used up (maxmemory)"
#: How a server reports bad data to us, or to a script.
_DAMAGED = ("WRONGTYPE", "is not an integer", "is not a valid float", "is not a float", "attempt to", "Lua redis lib")


def _is_too_large(error: Exception) -> bool:
    """Whether a value is larger than ``proto-max-bulk-len``."""
    return isinstance(error, redis.ResponseError) and "invalid bulk length" in str(error)


def was_refused(error: StorageUnavailable) -> bool:
    """Whether certainly nothing was done: the server did not begin the script, or stopped at its first write. Any other
    error of a script may come after a write, which Redis does not undo.
    """
    cause = error.__cause__
    if isinstance(cause, redis.exceptions.RedisError) and not isinstance(cause, redis.TimeoutError):
        words = _words(cause)
        return words.startswith(_NOTHING_DONE) or any(f"-{code}" in words for code in _NOTHING_DONE)
    return False


def lacks_something(error: StorageUnavailable) -> bool:
    """Whether the server refused a command because it does not have it, or because the user may not use it."""
    words = _words(error.__cause__) if isinstance(error.__cause__, redis.ResponseError) else ""
    return any(word in words for word in ("NOPERM", "permission", "can't run this command", "nknown command", "syntax"))


#: What a server answers before the first write of a script, or instead of it. Spelled as the server does, without what
#: redis-py takes away.
_NOTHING_DONE = (
    "ASK ", "BUSY ", "CLUSTERDOWN ", "CROSSSLOT ", "LOADING ", "MASTERDOWN ", "MISCONF ", "MOVED ", "NOAUTH ",
    "NOREPLICAS ", "NOSCRIPT ", "OOM ", "READONLY ", "TRYAGAIN ",
)  # fmt: skip
#: redis-py makes a class of these codes, and takes them off the text.
_CODES: tuple[tuple[type[Exception], str], ...] = (
    (redis.exceptions.AskError, "ASK "),
    (redis.exceptions.MovedError, "MOVED "),
    (redis.exceptions.TryAgainError, "TRYAGAIN "),
    (redis.exceptions.ClusterDownError, "CLUSTERDOWN "),
    (redis.exceptions.ClusterCrossSlotError, "CROSSSLOT "),
    (redis.exceptions.MasterDownError, "MASTERDOWN "),
    (redis.BusyLoadingError, "LOADING "),
    (redis.exceptions.OutOfMemoryError, "OOM "),
    (redis.ReadOnlyError, "READONLY "),
    (redis.exceptions.NoPermissionError, "NOPERM "),
    (redis.exceptions.NoScriptError, "NOSCRIPT "),
    (redis.AuthenticationError, "NOAUTH "),
)


def _words(error: BaseException) -> str:
    """The server's error, with its code at the beginning."""
    text = str(error)
    for kind, code in _CODES:
        if isinstance(error, kind):
            return text if text.startswith(code) else code + text
    return text


def _reason(error: Exception) -> str:
    """The error for people. Texts of the server and of the operating system contain addresses, never a password."""
    first = str(error).strip().split("\n")[0][:200]
    if isinstance(error, (redis.TimeoutError, TimeoutError)):
        return "Redis did not answer in time"
    if isinstance(error, redis.AuthenticationError):
        return "Redis refused the user or the password"
    # Redis 6.2 wraps the error of a command inside a script, so that redis-py finds no code at its beginning.
    if isinstance(error, redis.exceptions.OutOfMemoryError) or "-OOM " in first:
        return _FULL
    if isinstance(error, redis.ReadOnlyError) or "-READONLY " in first:
        return "this Redis is a read-only replica"
    if isinstance(error, redis.BusyLoadingError):
        return "Redis is still loading its data"
    # The node that says so does not have all of our keys: it did nothing, and nothing may be done until one node has
    # them all.
    if isinstance(error, redis.exceptions.AskError):
        return "the queue moves to another node of the Redis Cluster"
    return f"Redis is not available: {first or type(error).__name__}"
