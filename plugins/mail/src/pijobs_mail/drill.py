"""The drill: mails like those of one-time passwords, through the configured queue and its live workers, to a sink of
its own. It proves an installation, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import itertools
import secrets
import statistics
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from pijobs import Handle, State, clock
from pijobs.errors import PijobsError, StateConflict
from pijobs.queue import Queue
from pijobs.status import overview
from pijobs_mail.send import send_mail
from pijobs_mail.servers import open_store
from pijobs_mail.sink import Sink

_ENDED = (State.DONE, State.DEAD, State.EXPIRED, State.CANCELLED)
#: Seconds to wait, at the end, for attempts that still run.
_LAST_ATTEMPTS = 2.0


@dataclass(frozen=True)
class Plan:
    """What is tried.

    :param mails: their number.
    :param rate: mails per second.
    :param within: seconds; a mail that takes longer makes the drill fail.
    :param host: address of this machine that workers reach it by.
    """

    mails: int = 50
    rate: float = 10.0
    within: float = 10.0
    host: str = "127.0.0.1"


@dataclass
class Verdict:
    """What came of it.

    :param seconds: from enqueue to accepted by the sink: ``p50``, ``p95``, ``p99``.
    :param faults: why the installation is not ok, in words.
    """

    mails: int
    accepted: int = 0
    workers: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.faults

    def as_json(self) -> dict[str, Any]:
        return {"ok": self.ok, **asdict(self)}


class Drill:
    """One drill. All that it made ends with the ``with`` block."""

    def __init__(self, queue: Queue, plan: Plan) -> None:
        self._queue = queue
        self._plan = plan
        self._server = ""
        self._sent: dict[str, tuple[Handle, float]] = {}
        self._cleanup = contextlib.ExitStack()

    def __enter__(self) -> Drill:
        return self

    def __exit__(self, *error: object) -> None:
        self._cleanup.close()

    def run(self) -> Verdict:
        """
        :raises StorageUnavailable: when the storage does not answer.
        :raises DatabaseUnavailable: when that of the definitions does not.
        """
        verdict = Verdict(self._plan.mails)
        storage = self._queue.storage
        if storage is None or self._queue.mode != "queued":
            verdict.faults.append("no queue is configured: every mail is sent in the request")
            return verdict
        storage.ping()
        verdict.workers = sum(row["workers"] for row in overview(self._queue)["workers"])
        if not verdict.workers:
            verdict.faults.append("there is no live worker; start one with 'pijobs worker', with the same pi.cfg")
            return verdict
        sink = self._cleanup.enter_context(Sink(host=self._plan.host))
        self._define(sink)
        self._send()
        self._judge(verdict, sink)
        return verdict

    def _define(self, sink: Sink) -> None:
        store = open_store(self._queue.settings)
        # The first free name: one of its own for each drill would leave series of its own in the metrics.
        taken = store.list()
        self._server = next(name for name in map("pijobs-drill-{}".format, itertools.count(1)) if name not in taken)
        self._cleanup.callback(self._forget_group)
        self._cleanup.callback(self._forget_instances)
        self._cleanup.callback(store.delete, self._server)
        values = {"server": sink.host, "port": sink.port, "sender": "drill@pijobs.invalid", "enqueue_job": True}
        store.save(self._server, {**values, "description": "temporary, of 'pijobs drill'"})

    def _send(self) -> None:
        begin = clock.monotonic()
        for number in range(self._plan.mails):
            clock.sleep(max(0.0, begin + number / self._plan.rate - clock.monotonic()))
            to, started = f"drill-{number}@pijobs.invalid", clock.time()
            handle = send_mail(
                self._server, to=to, subject="Your one-time password", text=f"It is {secrets.randbelow(10**6):06}.",
                expires=self._plan.within, queue=self._queue,
            )  # fmt: skip
            self._sent[to] = handle, started

    def _judge(self, verdict: Verdict, sink: Sink) -> None:
        with contextlib.suppress(TimeoutError):
            sink.wait_for(self._plan.mails, self._plan.within)
        arrived = {mail.recipients[0]: mail.at for mail in reversed(sink.mails)}
        times = sorted(arrived[to] - started for to, (_, started) in self._sent.items() if to in arrived)
        verdict.accepted = len(times)
        if times:
            cuts = statistics.quantiles([*times, times[-1]], n=100, method="inclusive")
            verdict.seconds = {f"p{one}": round(max(0.0, cuts[one - 1]), 3) for one in (50, 95, 99)}
        aside = Counter(handle.via for handle, _ in self._sent.values() if handle.via != "storage")
        verdict.faults += [
            f"{number} mails took the fallback {way}: the storage was slow" for way, number in aside.items()
        ]
        lost = [handle.id for to, (handle, _) in self._sent.items() if to not in arrived]
        if lost:
            verdict.faults.append(
                f"{len(lost)} of {self._plan.mails} mails did not arrive within {self._plan.within:g} s: "
                + "; ".join(f"{number} {why}" for why, number in Counter(map(self._why, lost)).most_common(3))
            )
        elif times and times[-1] > self._plan.within:
            verdict.faults.append(f"the slowest mail took {times[-1]:.1f} s, more than {self._plan.within:g} s")

    def _why(self, instance_id: str) -> str:
        assert self._queue.storage is not None
        try:
            record = self._queue.storage.get(instance_id)
        except PijobsError as error:
            return str(error)
        waits = "waits for a worker that is free" if record.state is State.QUEUED else "no reason is known"
        return f"{record.state.value} ({record.reason or waits})"

    # -- the end -------------------------------------------------------------------------------------------------

    def _forget_instances(self) -> None:
        """What waits is cancelled; what runs gets a moment to end. Then the records go."""
        until = clock.monotonic() + _LAST_ATTEMPTS
        with contextlib.suppress(PijobsError):
            while [one for one in self._instances() if not self._forget(one)]:
                if clock.monotonic() > until:
                    return
                clock.sleep(0.05)

    def _instances(self) -> Iterator[str]:
        """All of this drill: by their group, since a signal may come before a handle is kept."""
        assert self._queue.storage is not None
        for state in State:
            cursor = None
            while True:
                page = self._queue.storage.page(state, group=f"smtp:{self._server}", cursor=cursor, limit=500)
                yield from [record.id for record in page.records]
                cursor = page.cursor
                if cursor is None:
                    break

    def _forget(self, instance_id: str) -> bool:
        assert self._queue.storage is not None
        try:
            if self._queue.storage.get(instance_id).state not in _ENDED:
                self._queue.cancel(instance_id, "the drill is over")
            self._queue.remove(instance_id)
        except StateConflict:  # it runs
            return False
        except PijobsError:  # it has gone, or the storage has
            return True
        return True

    def _forget_group(self) -> None:
        """A group that remembers nothing is removed by the workers' housekeeping."""
        assert self._queue.storage is not None
        with contextlib.suppress(PijobsError):
            group = self._queue.storage.group(f"smtp:{self._server}")
            if group is not None:
                self._queue.storage.set_group(
                    group.name, version=group.version, limit=None, blocked_until=None, policy=""
                )
