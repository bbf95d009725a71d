"""Whether a Redis can run the queue: its version, and the rights of its user."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import TypeVar

from pijobs.errors import StorageUnavailable, StorageUnfit
from pijobs.storage.contract import Storage
from pijobs.storage.redis.connection import Wire, lacks_something, was_refused
from pijobs.storage.redis.scripts import Scripts
from pijobs.storage.redis.topology import Place
from pijobs.storage.trial import enqueue_once
from pijobs.storage.values import Retention

S = TypeVar("S", bound=Storage)

#: ``BLPOP`` with a fraction of a second came with 6.0. Valkey began at 7.2.
OLDEST = (6, 0)
#: Seconds for each question of a trial.
TIMEOUT = 5.0

#: The beginning of each script of a trial: notes which keys it uses, so that all can be removed.
RECORDER = """\
local server = redis
local function recorded(call)
  return function(command, key, ...)
    if not key then return call(command) end
    server.call('SADD', KEYS[1] .. 'touched', key)
    return call(command, key, ...)
  end
end
local redis = {call = recorded(server.call), pcall = recorded(server.pcall)}
"""

#: All commands that the queue uses, each with harmless arguments; "H", "L", "S" and "Z" are keys of that type.
COMMANDS: Mapping[str, Sequence[str]] = {
    "BLPOP": ("L", "0.01"),
    "DEL": ("Z",),
    "EVAL": ("return 1", "0"),
    "EVALSHA": ("e0e1f9fabfc9d4800c877a703b823ac0578ff8db", "0"),
    "EXISTS": ("Z",),
    "HDEL": ("H", "a"),
    "HEXISTS": ("H", "a"),
    "HGET": ("H", "a"),
    "HGETALL": ("H",),
    "HINCRBY": ("H", "n", "1"),
    "HINCRBYFLOAT": ("H", "n", "1"),
    "HLEN": ("H",),
    "HMGET": ("H", "a"),
    "HSET": ("H", "a", "1"),
    "HSETNX": ("H", "a", "1"),
    "INFO": ("server",),
    "LLEN": ("L",),
    "LPUSH": ("L", "1"),
    "PEXPIRE": ("H", "1000"),
    "RENAME": ("Z", "Z"),
    "SADD": ("S", "a"),
    "SCAN": ("0",),
    "SCARD": ("S",),
    "SISMEMBER": ("S", "a"),
    "SMEMBERS": ("S",),
    "SRANDMEMBER": ("S",),
    "SREM": ("S", "a"),
    "SSCAN": ("S", "0"),
    "TIME": (),
    "ZADD": ("Z", "1", "a"),
    "ZCARD": ("Z",),
    "ZCOUNT": ("Z", "0", "0"),
    "ZRANGE": ("Z", "0", "0"),
    "ZRANGEBYLEX": ("Z", "-", "+"),
    "ZRANGEBYSCORE": ("Z", "0", "0"),
    "ZREM": ("Z", "a"),
    "ZREMRANGEBYSCORE": ("Z", "0", "0"),
    "ZREVRANGEBYSCORE": ("Z", "0", "0"),
    "ZSCAN": ("Z", "0"),
    "ZSCORE": ("Z", "a"),
}


def acl_rules(prefix: str) -> str:
    """The rights that a user of the queue needs, as ``ACL SETUSER`` takes them.

    :param prefix: of all keys of the queue.
    """
    # SELECT is called for a database other than 0 only, and could not be tried without leaving it.
    commands = sorted([*COMMANDS, "SELECT"])
    return " ".join([f"~{prefix}*", "-@all", *(f"+{name.lower()}" for name in commands)])


class Lent:
    """One connection instead of a pool."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def take(self, timeout: float) -> AbstractContextManager[Wire]:
        return nullcontext(self._wire)

    def close(self) -> None:
        pass


#: Creates the storage of a trial: one connection, the prefix of its keys, and its scripts.
MakeStorage = Callable[[Lent, str, Scripts], S]


class Admission:
    """Creates connections to a server. It must store a test instance before the first real one: a script that the
    server stops in the middle would leave half of an instance behind.

    :param heard: called with each connection.
    """

    def __init__(
        self, place: Place, prefix: str, make_storage: MakeStorage[Storage], heard: Callable[[Wire], None]
    ) -> None:
        self._heard = heard
        self._place = place
        self._prefix = prefix
        self._make_storage = make_storage
        self._admitted = False

    def connect(self) -> Wire:
        """See :meth:`Place.connect`.

        :raises StorageUnfit: for a server that is too old, or a user that lacks a right.
        """
        return self._admit(self._place.connect, TIMEOUT)

    @property
    def connect_within(self) -> Callable[[float], Wire] | None:
        """See :meth:`Place.connect_within`."""
        within = self._place.connect_within
        return None if within is None else lambda limit: self._admit(lambda: within(limit), limit)

    def _admit(self, connect: Callable[[], Wire], timeout: float) -> Wire:
        try:
            wire = connect()
        except StorageUnavailable as error:
            _require_keys(error, self._prefix)
            raise
        self._heard(wire)
        if not self._admitted:
            try:
                self._admitted = self._stores_one(wire, timeout)
            except StorageUnavailable:
                wire.close()
                raise
        return wire

    def _stores_one(self, wire: Wire, timeout: float) -> bool:
        require_version(wire, timeout)
        try:
            with on_trial(wire, self._prefix, self._make_storage) as trial:
                enqueue_once(trial, timeout=timeout)
        except StorageUnavailable as error:
            if was_refused(error):
                # Nothing can be written now, such as to a full Redis. Workers must reach it anyway.
                return False
            raise
        return True


@contextmanager
def on_trial(wire: Wire, prefix: str, make_storage: MakeStorage[S]) -> Iterator[S]:
    """A storage that leaves nothing behind.

    :param prefix: of the queue's keys: the rights of a user, and the node of a cluster, depend on it.
    :raises StorageUnfit: if the block fails because of a command that the server does not have, or that the user may
        not call.
    """
    place = f"{prefix}trial:{secrets.token_hex(8)}:"
    try:
        yield make_storage(Lent(wire), place, Scripts(Retention(), RECORDER))
    except StorageUnavailable as error:
        if lacks_something(error):
            require_commands(wire, place)
            raise StorageUnfit(f"a trial of the queue failed: {error}") from error
        raise
    finally:
        _clean_up(wire, place)


def require_version(wire: Wire, timeout: float) -> None:
    """:raises StorageUnfit: for a server that is too old. A server that does not report its version is only tried
    out."""
    facts = wire.ask_if_allowed(timeout, "INFO", "server") or b""
    lines = dict(line.partition(":")[::2] for line in facts.decode().splitlines())
    found = lines.get("redis_version", "")
    try:
        version = tuple(map(int, found.split(".")[:2]))
    except ValueError:
        return
    if version < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise StorageUnfit(f"expected Redis {oldest} or later, or Valkey, found Redis {found}; upgrade the server")


def _clean_up(wire: Wire, prefix: str) -> None:
    """Remove what a trial left, as far as possible, without an error."""
    with suppress(StorageUnavailable):
        touched = wire.ask_if_allowed(TIMEOUT, "SMEMBERS", prefix + "touched") or []
        wire.ask_if_allowed(TIMEOUT, "DEL", prefix + "touched", *touched)


def _require_keys(error: StorageUnavailable, prefix: str) -> None:
    """:raises StorageUnfit: if a connection failed because its user may not read one of the queue's keys."""
    if lacks_something(error):
        raise StorageUnfit(f"{error}; the user needs 'ACL SETUSER … {acl_rules(prefix)}'") from error


def require_commands(wire: Wire, prefix: str) -> None:
    """Call each command once.

    :raises StorageUnfit: with all commands that the user may not call, or the server does not have.
    """
    keys = {kind: f"{prefix}{kind}" for kind in "HLSZ"}
    denied, absent, others = [], [], []
    wire.ask_to_learn(TIMEOUT, "LPUSH", keys["L"], 1)
    for name, arguments in COMMANDS.items():
        refusal = wire.ask_to_learn(TIMEOUT, name, *(keys.get(one, one) for one in arguments))
        if refusal.startswith("NOPERM") and "key" in refusal:
            others.append(name)
        elif refusal.startswith("NOPERM"):
            denied.append(name)
        elif "unknown command" in refusal:
            absent.append(name)
    wire.ask_to_learn(TIMEOUT, "DEL", *keys.values())
    if absent:
        raise StorageUnfit(
            f"this Redis has no command {', '.join(absent)}: renamed, disabled, or the server is too old"
        )
    if denied:
        grant = " ".join(f"+{name.lower()}" for name in denied)
        raise StorageUnfit(f"the user of Redis may not call {', '.join(denied)}; grant it by 'ACL SETUSER … {grant}'")
    if others:
        queue = prefix.partition("trial:")[0]
        raise StorageUnfit(f"the user of Redis may not use the queue's keys; grant it by 'ACL SETUSER … ~{queue}*'")
