"""What every storage promises.

A storage keeps job instances and moves them along the arrows of the state diagram; it decides nothing about jobs.
One suite (``tests/contract``) holds all storages to this module.

* All times are whole milliseconds since the epoch **on the storage's own clock** (:meth:`Storage.now`); all
  durations are milliseconds. Clocks of servers and workers do not matter.
* Each method that changes something is one atomic operation: after a crash at any moment either all of it
  happened or nothing.
* Whatever goes wrong with the connection is raised as :class:`~pijobs.errors.StorageUnavailable`, with the foreign
  error as its cause and no password in its text. So is a storage that belongs to another release, as
  :class:`~pijobs.errors.StorageVersion`.
* Constructors neither connect nor start a thread. An object that was used before a fork works in the child.
* All methods may be called from many threads.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from pijobs.jobs import State
from pijobs.storage import protocol
from pijobs.storage.periods import Period
from pijobs.storage.records import Audit, Depths, GroupRecord, Page, Record
from pijobs.storage.sessions import Beat, SessionInfo, SessionRecord
from pijobs.storage.values import (
    GROUPS,
    MAX_TOTALS,
    End,
    Ended,
    LossKind,
    NewInstance,
    OnConflict,
    Step,
    Stored,
)


class Storage(ABC):
    """The contract. See the module for what holds for all methods."""

    #: What :func:`pijobs.storage.open_storage` was given, without password.
    display_url: str
    #: The path of the SQLite file that all of it is in; None for others.
    file: str | None = None
    #: What is written into it, see :mod:`pijobs.storage.protocol`. Looked at with each new connection, and when a
    #: session opens; until the storage was asked, what all releases can read.
    protocol: int = protocol.FIRST

    # -- clock and connection ------------------------------------------------------------------------------------

    @abstractmethod
    def now(self, *, timeout: float = 0.2) -> int:
        """The storage's time. After a first answer this is an estimate that costs no round trip: last known time of
        the storage plus what passed since on the monotonic clock. Falls back to the host's clock.

        :param timeout: seconds to wait for that first answer, where it has to be asked for.
        """

    @abstractmethod
    def ping(self) -> None:
        """Ask the storage something; :class:`StorageUnavailable` when it does not answer. Synchronises :meth:`now`."""

    def try_out(self) -> None:  # noqa: B027 - a storage without a server has nothing to try
        """Have everything done once that the queue asks of the storage, out of sight of workers and people: is the
        server new enough, may its user do all that it must, is it no replica that only reads?

        :raises StorageUnfit: with the version, the command or the right that is missing.
        :raises StorageUnavailable: when it does not answer, or writes nothing now.
        """

    def diagnose(self) -> dict[str, str]:
        """Facts about the server behind the storage, for ``pijobs config check``: version, what it is set to."""
        return {}

    @abstractmethod
    def set_protocol(self, number: int, *, oldest_reader: int) -> None:
        """Change what is written into the storage, and whom it is for. For ``pijobs schema``."""

    @abstractmethod
    def close(self) -> None:
        """Close all connections and end all helper threads. The storage may be used again afterwards."""

    # -- for servers ---------------------------------------------------------------------------------------------

    def enqueue(
        self,
        new: NewInstance,
        *,
        timeout: float,
        on_conflict: OnConflict = "replace",
        worker_within: int | None = None,
        bypassable: bool = False,
    ) -> Stored:
        """:meth:`enqueue_many` of one."""
        options: dict[str, Any] = {"worker_within": worker_within, "bypassable": bypassable}
        return self.enqueue_many([(new, on_conflict)], timeout=timeout, **options)[0]

    @abstractmethod
    def enqueue_many(
        self,
        batch: Sequence[tuple[NewInstance, OnConflict]],
        *,
        timeout: float,
        worker_within: int | None = None,
        bypassable: bool = False,
    ) -> list[Stored]:
        """Store some instances, all or none, each ``queued``, or ``scheduled`` when its ``due`` lies in the future.
        Each comes with what happens when an instance with its key waits: ``"replace"`` cancels the older of the two
        (which may be the new one, if it comes from a spool), ``"keep"`` leaves the waiting one and returns it instead,
        ``"error"`` refuses. The caller sees to it that a batch is no longer than :data:`BATCH`, and that each id comes
        once.

        Idempotent by id: an id that exists (in whatever state) is left alone, and its state is returned.

        Of the instances with one key at most one waits, whichever way it came to wait (new, retried by the job or by an
        admin, held or given back, recovered): the one that was created last, or of two created at about the same time
        (:data:`~pijobs.storage.values.SAME_TIME`) the one that was stored last. The other is ``cancelled``, with the
        reason ``"superseded by <id>"``. A running one is not touched; if it would wait again, and a newer one came
        meanwhile, it is cancelled. What is past its deadline holds no key; it ends ``expired`` where it is met.

        :param timeout: seconds after which :class:`StorageUnavailable` must have been raised, connecting included.
        :param worker_within: store only if any worker gave a sign of life within so many ms, else raise
            :class:`~pijobs.errors.NoLiveWorker`; costs no further round trip.
        :param bypassable: whether the caller can run what a :meth:`bypass` is about; it is told by
            :class:`~pijobs.errors.Bypassed`, with the ids of those that are new, due now, of such a group, and whose
            key no other one waits with. Then nothing is stored.
        :raises KeyConflict: an instance with ``"error"`` has the key of one that waits, or that comes before it.
        """

    def is_in(self, url: Any) -> bool:
        """Whether it lies in the database of this URL (of SQLAlchemy), so that :meth:`enqueue_within` is possible."""
        return False

    def enqueue_within(self, connection: Any, batch: Sequence[tuple[NewInstance, OnConflict]]) -> list[Stored]:
        """:meth:`enqueue_many` in the transaction of a connection of SQLAlchemy to the same database: all of it happens
        when that is committed. It takes the time that the transaction takes.

        :raises QueueUnavailable: the transaction can't go on.
        """
        raise NotImplementedError

    @abstractmethod
    def enqueue_periodic(self, new: NewInstance, *, due: int) -> bool:
        """Store the instance of a periodic job for one due time, exactly once over all workers.

        The last due time of each job (``new.name``) is kept without limit of time; in one operation: when it is
        ``>= due`` nothing happens and False is returned, else it becomes ``due`` and the instance is stored. A due
        time more than :data:`TAKEN_AHEAD` after the present time counts for nothing: the clock was wrong."""

    @abstractmethod
    def last_periodic(self, name: str) -> int | None:
        """The last due time that :meth:`enqueue_periodic` took for this job."""

    # -- for what moves to another storage (the spool) -----------------------------------------------------------

    @abstractmethod
    def take_out(self, number: int, *, hold: int, timeout: float | None = None) -> list[NewInstance]:
        """Up to ``number`` waiting instances that were never leased, the oldest first, as they were enqueued.

        For ``hold`` ms nobody leases them, nor takes out those that are ``queued``; they stay what they are. Who took
        them stores them elsewhere and calls :meth:`forget`. If nothing comes of that, they can be leased again.

        :param timeout: seconds after which :class:`StorageUnavailable` must have been raised; None: the storage's own.
        """

    @abstractmethod
    def forget(self, ids: Sequence[str], *, timeout: float | None = None) -> None:
        """Remove instances that have been stored elsewhere, without a record. What no longer waits is left alone.

        :param timeout: as in :meth:`take_out`.
        """

    @abstractmethod
    def record_end(self, new: NewInstance, end: End, *, timeout: float | None = None) -> bool:
        """Write down how an instance ended without a lease: it ran in a request, or can't be stored elsewhere.

        If the id is unknown, the instance is stored as ended. If it waits, it ends. Otherwise nothing happens and False
        is returned. Of ``end`` the state (an ended one), ``counted``, ``reason``, ``error`` and
        ``entry`` count; a ``dead`` one keeps its body.

        :param timeout: as in :meth:`take_out`.
        """

    # -- for workers ---------------------------------------------------------------------------------------------

    @abstractmethod
    def open_session(self, info: SessionInfo, *, lease: int) -> None:
        """Announce a worker process; its leases hold ``lease`` ms from its last sign of life."""

    @abstractmethod
    def retell(self, info: SessionInfo) -> None:
        """Change what an open session told. One that is gone (taken for dead) does not come back by this."""

    @abstractmethod
    def beat(
        self,
        session: str,
        *,
        lease: int,
        abandoned: Sequence[tuple[str, str]] = (),
        unknown: Sequence[tuple[str, str]] = (),
    ) -> Beat:
        """A sign of life: renews all leases of the session by ``lease`` ms. Then keeps house, in slices of a few
        milliseconds each, as long as there is something to do, but for a sixth of the lease and a second at most
        (:mod:`pijobs.storage.housekeeping`):

        * ``abandoned`` (id, token) of this session, and all that sessions without a sign of life hold, go back:
          ``running -> queued`` with the old rank, ``crashes`` + 1 and a history entry
          ``{"at": now, "event": "crashed", "session": …}``; ``expired`` if the deadline has passed; ``dead`` at
          :data:`MAX_CRASHES`, if nothing ran beside it in its session; about :data:`HOUSEKEEPING_BATCH` in one call.
          The dead sessions themselves go.
        * ``unknown`` (id, token) of this session go back uncounted: the process does not run them.
        * waiting instances whose deadline has passed become ``expired``; dead letters whose deadline has passed
          lose their body.
        * what :class:`Retention` no longer keeps is removed, and groups that nothing uses (nothing waiting or
          running, not paused, not blocked, and no longer to be kept: see :meth:`set_group`).

        No session is taken for dead by an outage. When nobody reached the storage for longer than a lease, neither by a
        sign of life nor by an enqueue, the first sign of life (or new session) afterwards assumes that the storage was
        away, or that its clock jumped: each session holds for one more lease from then on. After a silence of more than
        half a lease each holds longer by the rest of that silence. When the clock was set back, each session keeps the
        rest of its lease, by the new time."""

    @abstractmethod
    def step(self, session: str, ends: Sequence[End], *, want: int, floor: int | None = None) -> Step:
        """End leases and take new ones, in one operation.

        First each of ``ends`` is carried out, if its lease is still held (else its id is in :attr:`Step.lost`). Then
        what has become due is promoted (up to 20, the highest priorities first), and up to ``want`` instances with
        ``priority >= floor`` are leased
        to the session, highest priority first, oldest first within a priority (a recovered or retried instance
        keeps its old place). An instance whose deadline has passed is not leased but ends ``expired``. Nothing is
        leased to a session that is unknown or past its lease, while the queue or the group is paused, while the
        group is blocked or has ``running >= limit``. With ``want=0`` only the ends are carried out.

        What ends ``done``, ``expired`` or ``cancelled`` loses its body; ``dead`` keeps it (see :meth:`beat`), and
        ``done`` has that of its end, if there is one: the result."""

    @abstractmethod
    def note_progress(self, instance_id: str, token: str, line: str) -> bool:
        """Put a line that begins with :data:`PROGRESS` at the end of the history of a running instance, in the place of
        the last one if that begins so, too. False if the lease is not held any more."""

    @abstractmethod
    def wait(self, timeout: float, *, floor: int | None = None) -> None:
        """Block until :meth:`step` may find something, or for ``timeout`` seconds. May return early, must not miss an
        enqueue that committed after the caller's last :meth:`step` (beyond what the storage polls: at most 25 ms)."""

    def wait_for_step(self, session: str, *, timeout: float, want: int, floor: int | None = None) -> Step:
        """:meth:`wait`, then :meth:`step` without ends: a storage may do both in one round trip."""
        self.wait(timeout, floor=floor)
        return self.step(session, (), want=want, floor=floor)

    @abstractmethod
    def wake(self) -> None:
        """Make every :meth:`wait` of this process return soon (for shutdown); at most 1 s."""

    @abstractmethod
    def close_session(self, session: str, *, crashed: bool = False) -> list[Ended]:
        """Forget the session and give back what it runs: ``running -> queued`` with the old rank, not counted; or,
        if ``crashed``, counted as in :meth:`beat`."""

    @abstractmethod
    def note_loss(self, kind: LossKind) -> None:
        """A worker found that the storage was emptied, or restored to an earlier state; see :attr:`Depths.loss`."""

    # -- for people ----------------------------------------------------------------------------------------------

    @abstractmethod
    def get(self, instance_id: str) -> Record:
        """:raises InstanceNotFound: for an id that is not there (any more)."""

    @abstractmethod
    def body(self, instance_id: str) -> bytes | None:
        """The encrypted body, for those who may look at a label; None when it has gone."""

    @abstractmethod
    def page(
        self,
        state: State,
        *,
        name: str | None = None,
        group: str | None = None,
        subject: str | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> Page:
        """Records of one state: those that wait or run newest first by enqueue, the ended ones newest first by end.
        Without scanning for any single filter; with several, a page may hold fewer than ``limit`` records while
        its cursor goes on. A cursor that this storage did not make raises ``ValueError``.

        :param subject: HMAC of the subject or the person of an instance."""

    @abstractmethod
    def depths(self) -> Depths:
        """Numbers per job and state."""

    @abstractmethod
    def waiting(self, name: str, *, most: int, timeout: float | None = None) -> tuple[int, int | None]:
        """How many instances of a job wait (``queued``, ``scheduled``), counted up to ``most``; and when the one became
        due that was queued first, None if none is. Quick: an enqueue asks.

        :param timeout: as in :meth:`take_out`."""

    @abstractmethod
    def make_room(self, name: str, *, priority: int, reason: str, timeout: float | None = None) -> str | None:
        """``queued, scheduled -> cancelled`` of one instance of a job: of what waits and has less than this priority,
        that of the lowest priority, and of several the one that was enqueued last. Returns its id, or None. Quick: an
        enqueue waits for it, so it looks at the newest :data:`LOOKED_AT` of each of the two states.

        :param timeout: as in :meth:`take_out`."""

    @abstractmethod
    def oldest_due(self, *, without: Collection[str]) -> int | None:
        """The due time of the longest waiting ``queued`` instance of all groups but these; None if there is none.

        Costs more than :meth:`depths`. Where instances are not indexed by group, the storage looks at the first
        thousand of each job, and gives None if all of them belong to these groups."""

    @abstractmethod
    def sessions(self) -> list[SessionRecord]:
        """The live sessions, oldest first."""

    @abstractmethod
    def cancel(self, instance_id: str, *, reason: str) -> None:
        """``queued, scheduled -> cancelled``. :raises StateConflict: for another state. :raises InstanceNotFound:"""

    @abstractmethod
    def retry(self, instance_id: str) -> None:
        """``dead -> queued`` with attempts and crashes at zero, its place by its old rank.
        It is ``cancelled`` instead when a newer instance with its key waits.
        :raises StateConflict: for another state, or when the body has gone or the deadline has passed.
        :raises InstanceNotFound:"""

    @abstractmethod
    def reseal(self, instance_id: str, *, old: tuple[bytes, bytes], new: tuple[bytes, bytes]) -> bool:
        """Replace envelope and body of an instance that does not run, if they still are the ``old`` ones; else False.
        For ``pijobs keys`` and ``pijobs schema``; nothing else about the instance changes."""

    @abstractmethod
    def remove(self, instance_id: str) -> None:
        """Delete the record of an ended instance. :raises StateConflict: if it waits or runs.
        :raises InstanceNotFound:"""

    @abstractmethod
    def pause(self, group: str | None = None, *, by: str = "", reason: str = "") -> None:
        """Lease nothing (of this group) until :meth:`resume`. What runs goes on. Who did it last, when and why, is
        told by :attr:`Depths.pause` and :attr:`GroupRecord.pause`."""

    @abstractmethod
    def resume(self, group: str | None = None) -> None:
        """End a :meth:`pause`; wakes the workers."""

    @abstractmethod
    def hurry(self, group: str) -> int:
        """Make due what is ``scheduled`` in a group for its next attempt; what was never attempted keeps its time.
        Returns how many. Wakes the workers. Happens in parts of :data:`HOUSEKEEPING_BATCH` instances."""

    @abstractmethod
    def bypass(self, group: str | None = None, *, by: str = "", reason: str = "") -> None:
        """Store nothing new (of this group) that its caller can run, until :meth:`end_bypass`: see
        :meth:`enqueue_many`. What waits goes on. Who did it last, when and why, is told by :attr:`Depths.bypasses`."""

    @abstractmethod
    def end_bypass(self, group: str | None = None) -> None:
        """End a :meth:`bypass`."""

    def check(self, *, repair: bool = False) -> Iterator[Audit]:
        """Look at everything that the queue keeps, a part at a time: what can't be read, what no list leads to (so that
        it would never run, expire or go), entries that lead to nothing. Each sign of life does a part of it, and
        mends.

        :param repair: mend it: what can't be read ends ``dead``, with the reason ``"damaged: …"``, and keeps its body;
            all else takes its place again.
        """
        yield Audit(last=True)

    # -- groups and limits ---------------------------------------------------------------------------------------

    @abstractmethod
    def group(self, name: str) -> GroupRecord | None:
        """None for a group that is not known."""

    @abstractmethod
    def groups(self, *, after: str = "", limit: int = GROUPS) -> list[GroupRecord]:
        """Known groups, by name: up to ``limit`` of those behind ``after``. Fewer mean that these were the last."""

    @abstractmethod
    def set_group(
        self, name: str, *, version: int, limit: int | None, blocked_until: int | None, policy: str, keep: int = 0
    ) -> bool:
        """Write what the policy decided, if the group still has ``version`` (0: not known yet); else False. A group
        that may run again wakes the workers, at ``blocked_until`` without further help.

        :param keep: ms for which the group is remembered even if nothing uses it."""

    @abstractmethod
    def count(self, key: str, *, limit: int, per: int) -> int | None:
        """Count one event against ``limit`` events in any window of ``per`` ms, over all processes. None: counted;
        else not counted, and the time at which one more will be allowed."""

    # -- totals --------------------------------------------------------------------------------------------------

    @abstractmethod
    def add_totals(
        self,
        added: Mapping[str, float],
        *,
        period: Period | None = None,
        most: int = MAX_TOTALS,
        timeout: float | None = None,
    ) -> None:
        """Add to the queue's totals, over all processes. They only grow, and stay as long as the queue does. Names that
        are left out are counted by the total :data:`LEFT_OUT`.

        :param added: what is added, by name (printable, at most 512 characters); finite and positive.
        :param period: whose totals they are, which go after a while; None: those that stay.
        :param most: a name that is not known yet is left out when there are so many.
        :param timeout: as in :meth:`take_out`."""

    @abstractmethod
    def totals(self, period: Period | None = None) -> dict[str, float]:
        """All totals by name, as they were at one moment; of a period nobody knows any more none."""
