"""A worker process's sign of life, and the leases that hang on it.

One thread per process renews all leases at once (four times per lease), and lets the storage keep house. When the
storage says that the session was taken for dead (the process was stopped for a while), a new one is opened; what
ran under the old one has gone back to the queue, and its end will be refused by the storage as lost.

The storage answers each sign of life with the leases that it has under this session. What is there and does not run
here, twice in a row, goes back: nobody was told of that lease, or the storage forgot its end. What runs here and is
not there any more is lost.

A lease counts from the moment it was asked for, on this host's monotonic clock. So a process that was frozen knows on
waking that its leases have run out, before it has asked anybody: :meth:`Session.holds`.
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

#: So many leases that went back unknown are remembered, in case that the answer that tells of them comes late.
_DISOWNED = 1000
_LOSSES: dict[LossKind, str] = {
    "emptied": "was emptied: instances, dead letters and pauses are gone",
    "restored": "went back to an earlier state: what came after it is gone, and what ended after it may run again",
}


@dataclass(frozen=True, slots=True)
class _Held:
    """A lease, until when its attempt may run (monotonic seconds), and what that tells of its destination."""

    lease: Lease
    #: Id of the session that it was leased to.
    session: str
    limit: float | None = None
    permit: Permit | None = None
    #: The storage has given it away.
    lost: bool = False

    @property
    def irrevocable(self) -> bool:
        return self.permit is not None and self.permit.once


class Session:
    """One process at one storage.

    :param lease: seconds without a sign of life until the leases end.
    :param on_ended: told of each transition that the storage made on its own.
    :param on_stuck: told the lease of a job that ran past its ``timeout``, after the lease was given up.
    :param on_beat: called before each sign of life of the thread.
    :param metrics: what this process counts.
    :param facts: what the session tells, asked again at each sign of life: what has changed is told anew.
    :param flushes: whether signs of life are counted, and what was counted goes to this storage with each of them.
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
        #: Why the storage can't be used, however long one waits.
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
        #: What the storage had under this session and this process did not run, at the last sign of life.
        self._unknown: set[tuple[str, str]] = set()
        self._disowned: deque[str] = deque(maxlen=_DISOWNED)
        #: What happened to the storage, until it is told.
        self._untold_loss: LossKind | None = None
        #: What the last sign of life was answered.
        self._last: Beat | None = None
        self._lock = threads.Lock()
        self._stop = threads.Event()
        self._open = False
        self._was_open = False
        #: When the leases run out unless the next sign of life is answered (monotonic seconds).
        self._until = float("-inf")
        self._thread: threads.Thread | None = None

    # -- life ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to give signs of life. Does not fail when the storage is away, or fails oddly: it waits."""
        self._try_to_beat()
        self._thread = threads.Thread(target=self._beats, name="pijobs-session", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the session; what it still runs goes back to the queue, not counted unless it must not happen twice."""
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
                log.warning("session %s: not closed, its leases end by themselves: %s", self.info.id, error)
        self._flush()

    def beat(self) -> None:
        """One sign of life; opens the session if it is not open."""
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
                log.warning("session %s was taken for dead; its instances went back to the queue", self.info.id)
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
        """Whether somebody asked this worker to be quiet, or a neighbour died; and tell the news of this one."""
        live = [record.info for record in self.storage.sessions()]
        own = next((info for info in live if info.id == self.info.id), self.info)
        if own.quiet != self.info.quiet:
            told = "takes no more, since somebody asked for it" if own.quiet else "takes work again"
            log.warning("session %s: this worker %s", own.id, told)
        # Who asked wrote all facts, and some may have been old.
        self.info = replace(self.info, quiet=own.quiet, **self._facts())
        if own != self.info:
            self.storage.retell(self.info)
        self._recover_neighbours(live)

    def _recover_neighbours(self, live: Sequence[SessionInfo]) -> None:
        """What ran in a process of this host that has died goes back at once, not when its lease is over."""
        own = self.info
        if not own.place or not own.process_started:
            return
        for info in live:
            known = info.place == own.place and info.process_started and info.id != own.id
            if known and processes.is_surely_dead(info.pid, info.process_started):
                log.warning("worker process %d of this host died; what it ran goes back to the queue", info.pid)
                self._crashed(self.storage.close_session(info.id, crashed=True))

    def _crashed(self, ended: Sequence[Ended]) -> None:
        self._tell(ended)
        for one in ended:
            if one.crashed:
                self._metrics.crashed(one.name, one.group)

    def _loss(self, beat: Beat) -> LossKind | None:
        """Whether the storage lost what it had acknowledged, as far as this session can tell."""
        last = self._last
        if last is None:
            return None
        # An empty storage has no epoch until a session opens in it: that is no second loss.
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
        # What the old session held has gone back; under a new id its renewals can't reach it, nor a late answer.
        session_id = uuid.uuid4().hex[:12] if self._was_open else self.info.id
        # Asks for the time; now() alone would not wait for a storage that is slow to connect.
        self.storage.ping()
        if self.reachable is False and not self._was_open:
            # It was away when the worker started, and nobody could try it out then.
            try:
                self.storage.try_out()
            except StorageUnfit:
                raise
            except StorageUnavailable as error:  # full, perhaps, and to be emptied
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
        except Exception:  # a session that stops beating takes its worker with it
            log.exception("session %s: a sign of life failed", self.info.id)

    def _pause(self) -> float:
        """Seconds to the next beat: a quarter of a lease, or the next moment at which a job is stuck."""
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
        """:meth:`Storage.step` for this session, or, to wait for work (without ends) for so many seconds,
        :meth:`Storage.wait_for_step`.

        :raises StorageUnavailable: also while the session is not open.
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
        """Leases of which nothing has begun go back, uncounted. Where the storage does not answer, a sign of life finds
        that they do not run here."""
        with self._lock:
            for lease in leases:
                self._held.pop(lease.token, None)
        ends = [End(lease.id, lease.token, State.QUEUED, counted=False) for lease in leases]
        try:
            self._tell(self.storage.step(self.info.id, ends, want=0).ended)
        except StorageUnavailable as error:
            log.debug("session %s: %d leases go back later: %s", self.info.id, len(ends), error)

    def begin(self, lease: Lease, timeout: float | None, permit: Permit | None = None) -> None:
        """An attempt begins. From now on the lease is renewed for ``timeout`` seconds at most (None: without end); then
        its instance goes back."""
        limit = None if timeout is None else self._clock.monotonic() + timeout
        with self._lock:
            if held := self._held.get(lease.token):
                self._held[lease.token] = _Held(held.lease, held.session, limit, permit, held.lost)

    def finish(self, lease: Lease) -> None:
        """The attempt has ended in time: its lease is renewed, however long the storage can't take the end."""
        with self._lock:
            held = self._held.get(lease.token)
            if held is not None and held.limit is not None:
                self._held[lease.token] = replace(held, limit=None)

    def holds(self, lease: Lease) -> bool:
        """Whether this process may still run the instance, as far as it can know without asking."""
        held = self._held.get(lease.token)  # one look needs no lock
        if held is None or held.lost or held.session != self.info.id:
            return False
        return self._clock.monotonic() < self._until

    def interrupted(self, lease: Lease) -> bool:
        """An attempt ended in the middle. True if that counts as a crash, which is told to the storage here: the effect
        may have happened, and must not happen twice."""
        with self._lock:
            held = self._held.get(lease.token)
            if held is None or not held.irrevocable:
                return False
            del self._held[lease.token]
            self._abandoned.append((lease.id, lease.token))
        return True

    def abandon(self, instance_id: str, token: str) -> None:
        """Give up a lease whose end can't be stored: it counts as a crash, which is told with the next sign of life."""
        with self._lock:
            if self._held.pop(token, None) is not None:
                self._abandoned.append((instance_id, token))

    def _cut_off(self) -> list[tuple[str, str]]:
        """What counts as a crash when the session ends now."""
        with self._lock:
            return [
                *self._abandoned,
                *((one.lease.id, one.lease.token) for one in self._held.values() if one.irrevocable),
            ]

    @property
    def running(self) -> list[Lease]:
        """What this process holds."""
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
    """What a worker process tells about itself."""
    return SessionInfo(
        id=uuid.uuid4().hex[:12], host=socket.gethostname(), pid=os.getpid(), started=0,
        version=metadata.version("pijobs"), protocol=protocol.NEWEST, place=processes.place(),
        process_started=processes.start_time(os.getpid()) or 0, commit=commit(), **more,
    )  # fmt: skip
