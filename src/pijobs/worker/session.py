"""A worker process's sign of life, and its leases.

One thread per process renews all leases at once (four times per lease), and makes the storage do its housekeeping. If
the storage says that the session counted as dead (the process was stopped for a while), a new session is opened. The
instances of the old one have gone back to the queue, and the storage refuses their outcomes.

The storage answers each sign of life with the leases of this session. A lease that does not run here, twice in a row,
goes back: its answer was lost, or the storage forgot its outcome. An instance that runs here and has no lease any more
is lost.
"""

from __future__ import annotations

import logging
import os
import socket
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib import metadata
from typing import Any

from pijobs.base import processes, threads
from pijobs.base.clock import Clock, SystemClock, to_ms
from pijobs.base.release import commit
from pijobs.errors import StorageUnavailable, StorageUnfit
from pijobs.jobs import State
from pijobs.metrics.counting import Metrics
from pijobs.storage import periods, protocol
from pijobs.storage.contract import Storage
from pijobs.storage.sessions import Beat, SessionInfo
from pijobs.storage.values import End, Ended, Lease, LossKind, Step
from pijobs.worker.held_leases import HeldLeases

log = logging.getLogger(__name__)

_LOSSES: dict[LossKind, str] = {
    "emptied": "was emptied: instances, dead letters and pauses are gone",
    "restored": "went back to an earlier state: later instances are gone, and those that ended later may run again",
}


class Session(HeldLeases):
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
        super().__init__(info, clock or SystemClock())
        self.storage = storage
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
        #: The loss of the storage, until it is reported.
        self._untold_loss: LossKind | None = None
        #: The answer to the last sign of life.
        self._last: Beat | None = None
        self._stop = threads.Event()
        self._open = False
        self._was_open = False
        self._thread: threads.Thread | None = None

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
        before = self._tokens(session)
        beat = self.storage.beat(session, lease=self._lease_ms, abandoned=abandoned)
        if beat.alive:
            self._until = asked + self._lease_ms / 1000
        self._crashed(beat.ended)
        twice = self._compare(beat, before, abandoned)
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
            self.storage.update_session(self.info)
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
        return max(0.01, min([pause, *self._limits()]))

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
        leases = self._took(ends, step.leases, session)
        self._tell(step.ended)
        return step if len(leases) == len(step.leases) else replace(step, leases=leases)

    def give_back(self, leases: Sequence[Lease]) -> None:
        """Return leases that have not begun, uncounted. If the storage does not answer, a later sign of life finds that
        they do not run here."""
        self._drop(leases)
        ends = [End(lease.id, lease.token, State.QUEUED, counted=False) for lease in leases]
        try:
            self._tell(self.storage.step(self.info.id, ends, want=0).ended)
        except StorageUnavailable as error:
            log.debug("session %s: %d leases go back later: %s", self.info.id, len(ends), error)

    def _give_up_stuck(self) -> None:
        for lease in self._take_stuck():
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
