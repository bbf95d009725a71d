"""The mends of earlier faults, each taken out by a patch, to see that the simulation finds it.

``make simulate MUTATIONS=all`` looks for the first seed that finds each, and prints the table of
``docs/explanation/faults.md``; ``make simulate MUTATIONS=NAME SEED=…`` tells the story of one.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import msgspec

from pijobs.context import JobContext
from pijobs.errors import StorageUnavailable
from pijobs.execution import groups
from pijobs.execution.runner import Runner
from pijobs.jobs import State
from pijobs.request import enqueuer, spool
from pijobs.storage.memory.groups import Group
from pijobs.storage.memory.items import Items
from pijobs.storage.memory.sessions import Sessions
from pijobs.storage.memory.storage import MemoryStorage
from pijobs.storage.values import End
from pijobs.testing.simulation import plan as plans
from pijobs.testing.simulation.history import play
from pijobs.worker import attempts, engine
from pijobs.worker.isolation import Isolation
from pijobs.worker.session import Session

#: Histories within which each must be found.
MOST = 10_000
Patch = Callable[[], Any]


@dataclass(frozen=True)
class Mutation:
    """A mend, and how to take it out."""

    place: str
    what: str
    patches: Callable[[], list[Any]]


def _set(owner: Any, name: str, value: Any) -> Any:
    return patch.object(owner, name, value)


def _wrap(owner: Any, name: str, make: Callable[[Any], Any]) -> Any:
    return patch.object(owner, name, make(getattr(owner, name)))


def _no_gap() -> list[Any]:
    return [_set(Sessions, "_keep_through_a_gap", lambda self, now, lease: None)]


def _clock_back() -> list[Any]:
    def keep(real: Any) -> Any:
        def without(self: Any, now: int, lease: int) -> None:
            if self.seen is None or self.seen <= now + lease // 4:
                real(self, now, lease)

        return without

    return [_wrap(Sessions, "_keep_through_a_gap", keep)]


def _key_free() -> list[Any]:
    """What waits for its next attempt holds no key."""
    return [_set(Items, "holder_of", lambda self, key, now: (None, []))]


def _back_by_hand(real: Any) -> Any:
    """As if a person had asked for it, who gets what he asks for."""
    return lambda self, *args, **options: real(self, *args, **{**options, "by_hand": True})


def _crash_counts(real: Any) -> Any:
    def crash(self: Any, item: Any, now: int, alone: bool = True) -> Any:
        return real(self, item, now, alone=True)

    return crash


def _order_of_due(self: MemoryStorage, now: int) -> None:
    due = [item for item in self._items.of(State.SCHEDULED) if item.due <= now]
    for item in sorted(due, key=lambda item: item.due)[:1]:
        self._items.move(item, State.QUEUED)


def _deaf_to_unknown(real: Any) -> Any:
    def beat(self: Any, session: str, *, unknown: Any = (), **options: Any) -> Any:
        return real(self, session, **options)

    return beat


def _late(self: JobContext) -> None:
    """No look at deadline and lease."""


def _ends_lost(real: Any) -> Any:
    def step(self: Any, session: Any, slot: Any, want: int, *, wait: float | None = None) -> Any:
        ends = slot.unacknowledged.get(session, [])
        try:
            return real(self, session, slot, want, wait=wait)
        except StorageUnavailable:
            if ends:
                slot.unacknowledged.pop(session, None)
            raise

    return step


def _interrupted(self: Runner, error: BaseException) -> None:
    if isinstance(error, KeyboardInterrupt):
        raise error


def _lost_acknowledged(real: Any) -> Any:
    """The mover forgets before it has stored."""

    def move(self: Any, most: int = 50, seconds: float = 1.0) -> int:
        batch = self.spool.take_out(most, hold=2000, timeout=seconds)
        self.spool.forget([new.id for new in batch], timeout=1.0)
        for new in batch:
            self._move(new, 1.0)
        return len(batch)

    return move


def _step_of_lost_lease(self: Items, end: End, now: int) -> Any:
    """An end is believed from whoever sends it."""
    item = self.get(end.id)
    if item is not None and item.token is not None:
        end = msgspec.structs.replace(end, token=item.token)
    return _carry_out(self, end, now)


_carry_out = Items.carry_out

MUTATIONS: dict[str, Mutation] = {
    "outage-is-death": Mutation(
        "storage", "if the storage was away for longer than a lease, no worker counts as dead", _no_gap
    ),
    "clock-set-back": Mutation(
        "storage", "if the clock is set back, each session keeps the rest of its lease", _clock_back
    ),
    "key-of-what-waits": Mutation("storage", "of the instances with one key, only the newest waits", _key_free),
    "newer-one-that-ran": Mutation(
        "storage",
        "a returned instance is cancelled if a newer call with its key ran meanwhile",
        lambda: [_wrap(Items, "back", _back_by_hand)],
    ),
    "order-of-due": Mutation(
        "storage",
        "due instances are promoted by priority, 20 at once",
        lambda: [_set(MemoryStorage, "_promote", _order_of_due)],
    ),
    "end-of-a-lost-lease": Mutation(
        "storage",
        "an outcome that comes without the lease is refused",
        lambda: [_set(Items, "carry_out", _step_of_lost_lease)],
    ),
    "guilt-by-presence": Mutation(
        "storage",
        "a crash makes an instance `dead` only if it ran alone",
        lambda: [_wrap(Items, "crash", _crash_counts)],
    ),
    "limit-of-a-paused-group": Mutation(
        "storage",
        "a group that was paused before its first instance has a limit",
        lambda: [
            _set(
                MemoryStorage,
                "_know_group",
                lambda self, new: self._groups.setdefault(new.group, Group(limit=new.limit)),
            )
        ],
    ),
    "lease-not-looked-at": Mutation(
        "session",
        "a process that was frozen knows that its leases ran out",
        lambda: [_set(Session, "holds", lambda self, lease: True)],
    ),
    "lease-from-the-answer": Mutation(
        "session",
        "a lease that no worker runs goes back to the queue",
        lambda: [_wrap(MemoryStorage, "beat", _deaf_to_unknown)],
    ),
    "timeout-after-end": Mutation(
        "session",
        "a job that ended in time keeps its lease until its outcome is stored",
        lambda: [_set(Session, "finish", lambda self, lease: None)],
    ),
    "stuck-for-ever": Mutation(
        "session",
        "a job past its timeout loses its lease",
        lambda: [_set(Session, "_give_up_stuck", lambda self: None)],
    ),
    "loss-not-told": Mutation(
        "session",
        "a worker reports that its storage was emptied or restored",
        lambda: [_set(Session, "_loss", lambda self, beat: None)],
    ),
    "neighbours": Mutation(
        "session",
        "instances of a dead process on this host are recovered at once",
        lambda: [_set(Session, "_recover_neighbours", lambda self: None)],
    ),
    "no-look-before-the-effect": Mutation(
        "engine", "deadline and lease are checked right before the effect", lambda: [_set(JobContext, "check", _late)]
    ),
    "end-not-kept": Mutation(
        "engine",
        "an outcome that the storage did not accept is reported again",
        lambda: [_wrap(engine.Engine, "_step", _ends_lost)],
    ),
    "interruption-does-not-count": Mutation(
        "engine",
        "only a stopping worker returns instances uncounted",
        lambda: [_set(Runner, "_reraise_interruption", _interrupted)],
    ),
    "suspects-together": Mutation(
        "engine",
        "an instance that was present at a crash runs alone in its process",
        lambda: [
            _set(Isolation, "enter", lambda self, token, patience=5.0: True),
            _set(Isolation, "is_wanted", lambda self: False),
            _set(Isolation, "belongs_to_another", lambda self, token: False),
        ],
    ),
    "rate-not-asked": Mutation(
        "groups",
        "each start checks the rate of its group",
        lambda: [_set(attempts.Attempts, "deferral", lambda self, session, lease: None)],
    ),
    "limit-not-bounded": Mutation(
        "groups", "a group's limit grows up to its bound", lambda: [_set(groups, "bound", lambda limits: 64)]
    ),
    "breaker-for-ever": Mutation(
        "groups",
        "an open circuit breaker lets one instance through after its pause",
        lambda: [_set(groups, "pause_of", lambda opened: 10**9)],
    ),
    "mover-forgets-first": Mutation(
        "spool",
        "a moved instance leaves the spool only after the storage has it",
        lambda: [_wrap(spool.Mover, "move", _lost_acknowledged)],
    ),
    "full-storage-parks": Mutation(
        "spool",
        "a full storage does not turn spooled instances into dead letters",
        lambda: [_set(spool.Mover, "_takes_others", lambda self: True)],
    ),
    "spool-asks-nobody": Mutation(
        "spool",
        "a worker does not run from the spool what the storage has",
        lambda: [_set(engine.Engine, "_stored", lambda *_: [])],
    ),
    "spool-on-its-own-clock": Mutation(
        "spool",
        "the times of a moved instance are converted to the storage's clock",
        lambda: [_set(module, "on_clock", lambda new, codec, shift: new) for module in (spool, enqueuer)],
    ),
    "nobody-empties-the-spool": Mutation(
        "spool",
        "an enqueue empties a spool that has no worker",
        lambda: [_set(spool.Mover, "after_enqueue", lambda self: None)],
    ),
    "spool-without-worker": Mutation(
        "spool",
        "a job with a deadline goes to the spool only if a worker empties it",
        lambda: [
            _wrap(
                MemoryStorage,
                "enqueue_many",
                lambda real: lambda self, batch, worker_within=None, **more: real(self, batch, **more),
            )
        ],
    ),
}


@contextlib.contextmanager
def mutated(name: str) -> Iterator[None]:
    """Take a mend out."""
    with contextlib.ExitStack() as stack:
        for one in MUTATIONS[name].patches():
            stack.enter_context(one)
        yield


def first_seed(name: str, most: int = MOST) -> tuple[int, str] | None:
    """The first history that finds what is missing."""
    with mutated(name):
        for seed in range(1, most + 1):
            if (broken := play(plans.make(seed)).broken) is not None:
                return seed, broken.rule
    return None


def row(name: str, found: tuple[int, str] | None) -> str:
    """Of the table in ``docs/explanation/faults.md``."""
    mutation = MUTATIONS[name]
    seed, rule = found or ("–", "not found")
    return f"| {mutation.place} | {mutation.what} | `{name}` | {seed} | {rule} |"


def main(names: list[str]) -> int:
    """Print the table, worked out by all processors."""
    unfound, wanted = 0, names or list(MUTATIONS)
    print("| part | the mend | name | first seed | promise |\n| --- | --- | --- | ---: | --- |")
    with multiprocessing.get_context("spawn").Pool(min(len(wanted), os.cpu_count() or 1)) as pool:
        for name, found in zip(wanted, pool.imap(first_seed, wanted), strict=True):
            unfound += found is None
            print(row(name, found), flush=True)
    return 1 if unfound else 0
