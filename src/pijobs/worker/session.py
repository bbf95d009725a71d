"""A worker process's sign of life, and its leases.

One thread per process renews all leases at once (four times per lease), and makes the storage do its housekeeping. If
the storage says that the session counted as dead (the process was stopped for a while), a new session is opened. The
instances of the old one have gone back to the queue, and the storage refuses their outcomes.

The storage answers each sign of life with the leases of this session. A lease that does not run here, twice in a row,
goes back: its answer was lost, or the storage forgot its outcome. An instance that runs here and has no lease any more
is lost.

A lease counts from the moment it was requested, on this host's monotonic clock. So a process that was frozen knows when
it wakes up that its leases have ended, before it asks the storage: :meth:`Session.holds`.
"""

from __future__ import annotations

import logging
import os
import socket
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import metadata
from typing import Any

from pijobs.base import processes, threads
from pijobs.base.clock import Clock, SystemClock, to_ms
from pijobs.base.release import commit
from pijobs.context import Permit
from pijobs.errors import StorageUnavailable, StorageUnfit
from pijobs.jobs import State
from pijobs.metrics.counting import Metrics
from pijobs.storage import periods, protocol
from pijobs.storage.contract import Storage
from pijobs.storage.sessions import Beat, SessionInfo
from pijobs.storage.values import End, Ended, Lease, LossKind, Step

log = logging.getLogger(__name__)

#: How many unknown, returned leases are remembered, in case the answer with them comes late.
_DISOWNED = 1000
_LOSSES: dict[LossKind, str] = {
    "emptied": "was emptied: instances, dead letters and pauses are gone",
    "restored": "went back to an earlier state: later instances are gone, and those that ended later may run again",
}


@dataclass(frozen=True, slots=True)
class _Held:
    """A lease, until when its attempt may run (monotonic seconds), and its permit."""

    lease: Lease
    #: Id of the session that it was leased to.
    session: str
    limit: float | None = None
    permit: Permit | None = None
    #: The storage has given it to another worker.
    lost: bool = False

    @property
    def irrevocable(self) -> bool:
        return self.permit is not None and self.permit.once


class Session:
    """The session of one process at one storage.

    :param lease: seconds without a sign of life until the leases end.
    :param on_ended: called with each state change that the storage made on its own.
    :param on_stuck: called with the lease of a job that ran past its ``timeout``, after the lease was given up.
    :param on_beat: called before each sign of life of the thread.
    :param metrics: the counters of this process.
    :param facts: returns facts about the session. It is called at each sign of life; changed facts are stored.
    :param flushes: whether to count signs of life, and to add the counts to this storage with each of them.
    """

    def __init__(
        self,
        storage: Storage,
        info: SessionInfo,
        *,
        lease: float,
        on_ended: Callable[[Ended], None] = lambda ended: None,
        on_stuck: Callable[[Lease], None] = lambda lease: None,
        on_beat: Callable[[], None] = lambda: None,
        metrics: Metrics | None = None,
        facts: Callable[[], Mapping[str, Any]] = dict,
        flushes: bool = True,
        clock: Clock | None = None,
    ) -> None:
        self.storage = storage
        self.info = info
        #: Whether the storage answered last time; None before the first time.
        self.reachable: bool | None = None
        #: Why the storage can't be used, even after a wait.
        self._unfit = ""
        self._lease_ms = to_ms(lease)
        self._on_ended = on_ended
        self._on_stuck = on_stuck
        self._on_beat = on_beat
        self._metrics = metrics or Metrics()
        self._facts = facts
        self._flushes = flushes
        self._clock = clock or SystemClock()
        self._held: dict[str, _Held] = {}
        self._abandoned: list[tuple[str, str]] = []
        #: Leases of this session that this process did not run, at the last sign of life.
        self._unknown: set[tuple[str, str]] = set()
        self._disowned: deque[str] = deque(maxlen=_DISOWNED)
        #: The loss of the storage, until it is reported.
        self._untold_loss: LossKind | None = None
        #: The answer to the last sign of life.
        self._last: Beat | None = None
        self._lock = threads.Lock()
        self._stop = threads.Event()
        self._open = False
        self._was_open = False
        #: When the leases end unless the next sign of life is answered (monotonic seconds).
        self._until = float("-inf")
        self._thread: threads.Thread | None = None

    # -- life ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the signs of life. If the storage is away or fails, wait for it."""
        self._try_to_beat()
        self._thread = threads.Thread(target=self._beats, name="pijobs-session", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the session. Running instances go back to the queue, uncounted unless they must not happen twice."""
        self._stop.set()
        if self._thread is not None and self._thread is not threads.current_thread():
            self._thread.join(timeout=1)
        if self._open:
            self._open = False
            try:
                if abandoned := self._cut_off():
                    self._tell(self.storage.beat(self.info.id, lease=self._lease_ms, abandoned=abandoned).ended)
                self._tell(self.storage.close_session(self.info.id))
            except StorageUnavailable as error:
                log.warning("session %s: not closed, its leases will time out: %s", self.info.id, error)
        self._flush()

    def beat(self) -> None:
        """Give one sign of life. Opens the session if it is not open."""
        self._give_up_stuck()
        try:
            with self._lock:
                abandoned = list(self._abandoned)
            if not self._open:
                self._reopen()
            beat = self._ask_for_renewal(abandoned)
            if (loss := self._loss(beat)) is not None:
                log.error("the storage %s %s", self.storage.display_url, _LOSSES[loss])
                self._untold_loss = loss
            elif not beat.alive and not self._stop.is_set():
                log.warning("session %s counted as dead; its instances went back to the queue", self.info.id)
            self._last = beat
            if not beat.alive and not self._stop.is_set():
                self._open = False
                self._reopen()
            self._look_round()
            if self._untold_loss is not None:
                self.storage.note_loss(self._untold_loss)
                self._untold_loss = None
            self._set_reachable(True)
            self._count_sign("answered" if beat.alive else "taken_for_dead")
            self._flush()
        except StorageUnavailable as error:
            self._set_reachable(False, error)
            self._count_sign("unanswered")

    def _ask_for_renewal(self, abandoned: list[tuple[str, str]]) -> Beat:
        """Renew the leases, and compare them with those that the storage has."""
        session, asked = self.info.id, self._clock.monotonic()
        with self._lock:
            before = [token for token, held in self._held.items() if held.session == session]
        beat = self.storage.beat(session, lease=self._lease_ms, abandoned=abandoned)
        if beat.alive:
            self._until = asked + self._lease_ms / 1000
        self._crashed(beat.ended)
        with self._lock:
            self._abandoned = [pair for pair in self._abandoned if pair not in abandoned]
            tokens = {token for _, token in beat.held}
            for token in before:
                if token in self._held and token not in tokens:
                    self._held[token] = replace(self._held[token], lost=True)
            unknown = {(instance_id, token) for instance_id, token in beat.held if token not in self._held}
            twice, self._unknown = unknown & self._unknown, unknown
            self._disowned.extend(token for _, token in twice)
        if twice:
            log.warning("session %s: %d instances that do not run here go back to the queue", session, len(twice))
            self._crashed(self.storage.beat(session, lease=self._lease_ms, unknown=sorted(twice)).ended)
        return beat

    def _look_round(self) -> None:
        """Check whether this worker must be quiet or a neighbour died, and store changed facts about this one."""
        live = [record.info for record in self.storage.sessions()]
        own = next((info for info in live if info.id == self.info.id), self.info)
        if own.quiet != self.info.quiet:
            told = "leases no more jobs, because somebody asked for it" if own.quiet else "leases jobs again"
            log.warning("session %s: this worker %s", own.id, told)
        # The request to be quiet wrote all facts, and some may have been old.
        self.info = replace(self.info, quiet=own.quiet, **self._facts())
        if own != self.info:
            self.storage.retell(self.info)
        self._recover_neighbours(live)

    def _recover_neighbours(self, live: Sequence[SessionInfo]) -> None:
        """Instances of a dead process on this host go back at once, and not after their lease."""
        own = self.info
        if not own.place or not own.process_started:
            return
        for info in live:
            known = info.place == own.place and info.process_started and info.id != own.id
            if known and processes.is_surely_dead(info.pid, info.process_started):
                log.warning("worker process %d of this host died; its instances go back to the queue", info.pid)
                self._crashed(self.storage.close_session(info.id, crashed=True))

    def _crashed(self, ended: Sequence[Ended]) -> None:
        self._tell(ended)
        for one in ended:
            if one.crashed:
                self._metrics.crashed(one.name, one.group)

    def _loss(self, beat: Beat) -> LossKind | None:
        """Whether the storage lost acknowledged data, as far as this session knows."""
        last = self._last
        if last is None:
            return None
        # An empty storage has no epoch until a session opens in it. That is not a second loss.
        if beat.epoch != last.epoch != 0 or (beat.before is None and not beat.alive):
            return "emptied"
        return "restored" if beat.before is not None and beat.before < last.now else None

    def _count_sign(self, result: str) -> None:
        if self._flushes:
            self._metrics.sign_of_life(result)

    def _flush(self) -> None:
        if self._flushes:
            try:
                self._metrics.flush(partial(periods.add, self.storage))
            except StorageUnavailable as error:
                log.debug("session %s: its counts wait for the next sign of life: %s", self.info.id, error)

    def _reopen(self) -> None:
        # The old session's instances have gone back. With a new id, old renewals and late answers can't affect it.
        session_id = uuid.uuid4().hex[:12] if self._was_open else self.info.id
        # Ask for the time, because now() alone would not wait for a storage that connects slowly.
        self.storage.ping()
        if self.reachable is False and not self._was_open:
            # It was away when the worker started, and could not be tested then.
            try:
                self.storage.try_out()
            except StorageUnfit:
                raise
            except StorageUnavailable as error:  # maybe it is full, and somebody empties it
                log.warning("storage %s: a trial failed: %s", self.storage.display_url, error)
        self.info = replace(self.info, id=session_id, started=self.storage.now(), **self._facts())
        asked = self._clock.monotonic()
        self.storage.open_session(self.info, lease=self._lease_ms)
        self._until = asked + self._lease_ms / 1000
        self._open = self._was_open = True

    def _beats(self) -> None:
        while not self._stop.wait(self._pause()):
            self._try_to_beat()

    def _try_to_beat(self) -> None:
        try:
            self._on_beat()
            self.beat()
        except Exception:  # without signs of life, the session would take the worker down
            log.exception("session %s: a sign of life failed", self.info.id)

    def _pause(self) -> float:
        """Seconds to the next sign of life: a quarter of a lease, or until a job is stuck."""
        lease = self._lease_ms / 1000
        pause = lease / 4 if self.reachable else min(1.0, lease / 10)
        with self._lock:
            limits = [held.limit for held in self._held.values() if held.limit is not None]
        return max(0.01, min([pause, *(limit - self._clock.monotonic() for limit in limits)]))

    def _set_reachable(self, reachable: bool, error: Exception | None = None) -> None:
        unfit = str(error) if isinstance(error, StorageUnfit) else ""
        if unfit and unfit != self._unfit:
            log.critical("storage %s can't be used: %s", self.storage.display_url, error)
        elif reachable != self.reachable:
            if reachable:
                log.info("storage %s answers; session %s is open", self.storage.display_url, self.info.id)
            else:
                what = getattr(error, "what", StorageUnavailable.what)
                log.error("storage %s %s, waiting for it: %s", self.storage.display_url, what, error)
        self.reachable, self._unfit = reachable, unfit

    # -- leases --------------------------------------------------------------------------------------------------

    def step(self, ends: Sequence[End], *, want: int, floor: int | None = None, wait: float | None = None) -> Step:
        """:meth:`Storage.step` for this session, or, to wait for work (without outcomes) for ``wait`` seconds,
        :meth:`Storage.wait_for_step`.

        :raises StorageUnavailable: also if the session is not open.
        """
        if not self._open:
            raise StorageUnavailable("the session is not open")
        session = self.info.id
        if wait is None:
            step = self.storage.step(session, ends, want=want, floor=floor)
        else:
            step = self.storage.wait_for_step(session, timeout=wait, want=want, floor=floor)
        with self._lock:
            for end in ends:
                self._held.pop(end.token, None)
            leases = [lease for lease in step.leases if lease.token not in self._disowned]
            for lease in leases:
                self._held[lease.token] = _Held(lease, session)
        self._tell(step.ended)
        return step if len(leases) == len(step.leases) else replace(step, leases=leases)

    def give_back(self, leases: Sequence[Lease]) -> None:
        """Return leases that have not begun, uncounted. If the storage does not answer, a later sign of life finds that
        they do not run here."""
        with self._lock:
            for lease in leases:
                self._held.pop(lease.token, None)
        ends = [End(lease.id, lease.token, State.QUEUED, counted=False) for lease in leases]
        try:
            self._tell(self.storage.step(self.info.id, ends, want=0).ended)
        except StorageUnavailable as error:
            log.debug("session %s: %d leases go back later: %s", self.info.id, len(ends), error)

    def begin(self, lease: Lease, timeout: float | None, permit: Permit | None = None) -> None:
        """An attempt begins. Renew its lease for at most ``timeout`` seconds (None: no limit). After that its instance
        goes back."""
        limit = None if timeout is None else self._clock.monotonic() + timeout
        with self._lock:
            if held := self._held.get(lease.token):
                self._held[lease.token] = _Held(held.lease, held.session, limit, permit, held.lost)

    def finish(self, lease: Lease) -> None:
        """The attempt has ended in time. Renew its lease until the storage can store the outcome."""
        with self._lock:
            held = self._held.get(lease.token)
            if held is not None and held.limit is not None:
                self._held[lease.token] = replace(held, limit=None)

    def holds(self, lease: Lease) -> bool:
        """Whether this process may still run the instance, as far as it knows without asking the storage."""
        held = self._held.get(lease.token)  # a single read needs no lock
        if held is None or held.lost or held.session != self.info.id:
            return False
        return self._clock.monotonic() < self._until

    def interrupted(self, lease: Lease) -> bool:
        """An attempt was interrupted. Returns whether that counts as a crash, because the effect may have happened and
        must not happen twice. Such a crash is reported to the storage here."""
        with self._lock:
            held = self._held.get(lease.token)
            if held is None or not held.irrevocable:
                return False
            del self._held[lease.token]
            self._abandoned.append((lease.id, lease.token))
        return True

    def abandon(self, instance_id: str, token: str) -> None:
        """Give up a lease whose outcome can't be stored. It counts as a crash, reported with the next sign of life."""
        with self._lock:
            if self._held.pop(token, None) is not None:
                self._abandoned.append((instance_id, token))

    def _cut_off(self) -> list[tuple[str, str]]:
        """The leases that count as a crash if the session ends now."""
        with self._lock:
            return [
                *self._abandoned,
                *((one.lease.id, one.lease.token) for one in self._held.values() if one.irrevocable),
            ]

    @property
    def running(self) -> list[Lease]:
        """The leases that this process holds."""
        with self._lock:
            return [held.lease for held in self._held.values()]

    def _give_up_stuck(self) -> None:
        now = self._clock.monotonic()
        with self._lock:
            stuck = [held.lease for held in self._held.values() if held.limit is not None and held.limit <= now]
            for lease in stuck:
                del self._held[lease.token]
                self._abandoned.append((lease.id, lease.token))
        for lease in stuck:
            log.error("job %s %s ran past its timeout; its lease is given up", lease.name, lease.id)
            self._on_stuck(lease)

    def _tell(self, ended: Sequence[Ended]) -> None:
        for transition in ended:
            self._on_ended(transition)


def describe_process(**more: Any) -> SessionInfo:
    """The facts about a worker process."""
    return SessionInfo(
        id=uuid.uuid4().hex[:12], host=socket.gethostname(), pid=os.getpid(), started=0,
        version=metadata.version("pijobs"), protocol=protocol.NEWEST, place=processes.place(),
        process_started=processes.start_time(os.getpid()) or 0, commit=commit(), **more,
    )  # fmt: skip
