"""The plan of a history, made from its seed beforehand, so that parts can be left out."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

#: Seconds: of a lease; of the time with faults; after that, until all must have ended.
LEASE, TROUBLE, PEACE = 3.0, 10.0, 300.0
#: Seconds: of an outage that needs a person; of a delay that ends within it; of a power loss of all hosts, long enough
#: to be reported as having no worker.
LONG, LONG_DELAY, NOBODY = 25.0, 20.0, 40.0
#: Seconds of an admin's pause.
PAUSE = 2.0


@dataclass(frozen=True)
class Call:
    """One enqueue."""

    at: float
    server: int
    number: int
    job: str
    #: The behaviour of the job, see :mod:`pijobs.testing.simulation.jobs`.
    how: str = "quick"
    seconds: float = 0.0
    place: str = ""
    expires: float | None = None
    delay: float | None = None
    priority: int | None = None
    key: str | None = None
    #: Arguments of a plugin's job; None: a job of the simulation.
    kwargs: Mapping[str, Any] | None = None

    @property
    def has_deadline(self) -> bool:
        return self.expires is not None

    @property
    def arguments(self) -> Mapping[str, Any]:
        own = {"number": self.number, "how": self.how, "seconds": self.seconds, "place": self.place}
        return own if self.kwargs is None else self.kwargs

    def __str__(self) -> str:
        options = {
            name: value
            for name in ("place", "expires", "delay", "priority", "key")
            if (value := getattr(self, name)) not in (None, "")
        }
        more = "".join(f", {name}={value}" for name, value in options.items())
        return f"call {self.number}: {self.job} ({self.how}{f' {self.seconds:.2f} s' if self.seconds else ''}{more})"


@dataclass(frozen=True)
class Fault:
    """A fault: ``what`` happens to ``whom``, for ``seconds``."""

    at: float
    what: str
    whom: str
    seconds: float = 0.0
    amount: float = 0.0

    def __str__(self) -> str:
        amount = f" by {self.amount:+.1f} s" if self.amount else ""
        return f"{self.whom}: {self.what}{amount}{f' for {self.seconds:.1f} s' if self.seconds else ''}"


@dataclass(frozen=True)
class Act:
    """An action of the admin on the call ``number``, or on a group."""

    at: float
    what: str
    number: int = 0
    place: str | None = None


@dataclass(frozen=True)
class Plan:
    """The plan of a history."""

    seed: int
    #: Slots of each worker process. Workers and servers are on the hosts in turn.
    workers: tuple[int, ...]
    servers: int
    hosts: int
    spool: bool
    fallback: tuple[str, ...]
    #: Whether the first worker and server begin with the older release, which has the older protocol and lacks a
    #: job, until they are upgraded.
    old_release: bool = False
    #: Whether processes use connection pools, as with Redis and SQL.
    connections: bool = False
    #: Whether servers enqueue many calls at once.
    together: bool = False
    #: How far each host's clock is ahead of the storage's (seconds).
    ahead: tuple[float, ...] = ()
    calls: tuple[Call, ...] = ()
    faults: tuple[Fault, ...] = ()
    acts: tuple[Act, ...] = field(default=())

    @property
    def size(self) -> int:
        return len(self.calls) + len(self.faults) + len(self.acts) + len(self.workers) + self.servers

    def without(self, kind: str, first: int, number: int) -> Plan:
        parts = getattr(self, kind)
        return replace(self, **{kind: parts[:first] + parts[first + number :]})


HOW = (
    ("quick",) * 12
    + ("slow",) * 6
    + ("flaky",) * 3
    + ("fail", "retry", "unprintable", "down", "down", "hang", "kill", "interrupt")
)
#: Kinds of trouble of a storage, with their weight.
STORAGE = ("refused",) * 3 + ("silent",) * 3 + ("deaf",) * 3 + ("slow", "read-only", "full", "cut off", "cut off")
WORKER = ("freeze",) * 3 + ("kill",) * 3 + ("stop", "kill all")
HOST = ("power",) * 5 + ("fork",) * 4 + ("power of all",)
RARE = ("emptied", "restored", "damaged", "clock of a host", "clock of the storage", "clock of the storage")


def make(seed: int) -> Plan:
    """The plan of a seed."""
    chance = random.Random(seed)
    hosts = chance.choice((1, 1, 2))
    workers = tuple(chance.choice((1, 1, 2, 3)) for _ in range(chance.choice((1, 2, 2, 3))))
    plan = Plan(
        seed, workers, servers=chance.choice((1, 1, 2)), hosts=hosts, spool=chance.random() < 0.7,
        fallback=chance.choice((("spool", "direct"),) * 3 + (("direct",), (), ("spool",))),
        old_release=len(workers) > 1 and chance.random() < 0.15, connections=chance.random() < 0.15,
        ahead=tuple(chance.choice((0.0, 0.0, 0.0, -20.0, 20.0)) for _ in range(hosts)),
    )  # fmt: skip
    number = chance.choice((4, 8, 12, 20))
    calls = tuple(_call(chance, index + 1, plan.servers) for index in range(number))
    faults = tuple(_fault(chance, plan) for _ in range(chance.choice((0, 1, 1, 2, 2, 3, 4))))
    acts = tuple(_act(chance, number) for _ in range(chance.choice((0, 0, 1, 2, 3))))
    if plan.old_release and chance.random() < 0.7:
        # The servers are not upgraded before the protocol is raised.
        at = chance.uniform(1.0, TROUBLE / 2)
        acts += (Act(at, "new release"), Act(at + chance.uniform(1.0, LEASE), "schema upgrade"))
    by_time = lambda part: part.at  # noqa: E731
    return replace(
        plan,
        together=seed % 8 == 5,
        calls=tuple(sorted(calls, key=by_time)),
        faults=tuple(sorted(faults, key=by_time)),
        acts=tuple(sorted(acts, key=by_time)),
    )


def _when(chance: random.Random) -> float:
    return chance.uniform(0.5, TROUBLE - 2.5)


def _call(chance: random.Random, number: int, servers: int) -> Call:
    job = chance.choice(("sim.job",) * 5 + ("sim.code",) * 3 + ("sim.single", "sim.single", "sim.rated", "sim.new"))
    how = chance.choice(HOW)
    seconds = {"slow": chance.choice((0.2, 1.0, 2.5)), "hang": 9.0}.get(how, 0.0)
    place = chance.choice(("here", "there")) if job in ("sim.single", "sim.rated") else ""
    call = Call(round(_when(chance), 3), chance.randrange(servers), number, job, how, seconds, place)
    if chance.random() < 0.25:
        call = replace(call, key=chance.choice(("anna", "bert")))
    if chance.random() < 0.15:
        call = replace(call, delay=chance.choice((0.5, 0.5, 2.0, 2.0, 5.0, LONG_DELAY)))
    if chance.random() < 0.1:
        call = replace(call, expires=chance.choice((1.0, 4.0)))
    if chance.random() < 0.2:
        call = replace(call, priority=chance.choice((-5, 5, 50)))
    return call


def _fault(chance: random.Random, plan: Plan) -> Fault:
    at, seconds = round(_when(chance), 3), chance.choice((0.3, 1.0, LEASE * 1.3, LEASE * 2.5))
    kind = chance.random()
    if kind < 0.5:
        return _fault_of_storage(chance, plan, at, seconds)
    if kind < 0.78:
        what = chance.choice(WORKER)
        if chance.random() < 0.15:
            return Fault(at, chance.choice(("freeze", "kill")), f"server {chance.randrange(plan.servers)}", seconds)
        return Fault(at, what, f"worker {chance.randrange(len(plan.workers))}", seconds)
    if kind < 0.87:
        what = chance.choice(HOST)
        if what == "fork":
            return Fault(at, what, f"server {chance.randrange(plan.servers)}")
        return Fault(at, what, f"host {chance.randrange(plan.hosts)}", NOBODY if what == "power of all" else seconds)
    what = chance.choice(RARE)
    amount = chance.choice((-60.0, -60.0, -3.0, 3.0, 60.0)) if what.startswith("clock") else 0.0
    return Fault(at, what, "storage", chance.choice((0.5, 1.0)) if what == "restored" else 0.0, amount)


def _fault_of_storage(chance: random.Random, plan: Plan, at: float, seconds: float) -> Fault:
    what = chance.choice(STORAGE)
    if what == "cut off":
        return Fault(at, what, f"worker {chance.randrange(len(plan.workers))}", seconds)
    if what in ("read-only", "full") and chance.random() < 0.2:
        seconds = LONG
    of_spool = plan.spool and what not in ("deaf", "slow") and chance.random() < 0.2
    return Fault(at, what, "spool 0" if of_spool else "storage", seconds)


def _act(chance: random.Random, number: int) -> Act:
    what = chance.choice(("pause", "pause group", "retry", "cancel", "remove"))
    place = chance.choice(("here", "there")) if what == "pause group" else None
    return Act(round(_when(chance), 3), what, chance.randint(1, number), place)
