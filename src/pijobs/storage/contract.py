"""What every storage promises.

A storage keeps job instances and moves them along the arrows of the state diagram; it decides nothing about jobs.
One suite (``tests/contract``) holds all storages to this module.

* All times are whole milliseconds since the epoch **on the storage's own clock** (:meth:`Storage.now`); all
  durations are milliseconds. Clocks of servers and workers do not matter.
* Each method that changes something is one atomic operation: after a crash at any moment either all of it
  happened or nothing.
* Whatever goes wrong with the connection is raised as :class:`~pijobs.errors.StorageUnavailable`, with the foreign
  error as its cause and no password in its text.
* Constructors neither connect nor start a thread. An object that was used before a fork works in the child.
* All methods may be called from many threads.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pijobs.jobs import State

OnConflict = Literal["replace", "keep", "error"]

#: An instance that took down its workers this often ends ``dead`` (DESIGN: poison jobs).
MAX_CRASHES = 3
#: At most this many instances per kind of housekeeping and call, so that no call takes long.
HOUSEKEEPING_BATCH = 100
#: History lines kept per instance; the oldest go first.
MAX_HISTORY = 50


@dataclass(frozen=True, slots=True)
class Retention:
    """How long records of ended instances stay (ms, and a number per job)."""

    finished: int = 24 * 3600 * 1000
    finished_max: int = 10_000
    dead: int = 7 * 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class NewInstance:
    """One call of a job, ready to be stored."""

    id: str
    name: str
    #: Authenticated, never changes; opaque here.
    envelope: bytes
    #: Encrypted; opaque here.
    body: bytes
    group: str
    priority: int = 0
    created: int = 0
    deadline: int | None = None
    #: Not before this time; in the past or None: at once.
    due: int | None = None
    #: HMAC of a unique key; unique among the waiting (queued, scheduled) instances of a queue.
    key: str | None = None
    #: HMAC of the subject that the instance can be found by.
    subject: str | None = None
    #: How many instances of a group not seen before may run at once; None: no limit. A group that the storage
    #: knows already keeps its own limit.
    limit: int | None = None
    #: Overrides :attr:`Retention.finished` for this instance.
    keep: int | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """Answer of :meth:`Storage.enqueue`."""

    #: Differs from the id asked for only with ``on_conflict="keep"``: then it is the one that waits already.
    id: str
    state: State
    #: False when the instance (or, with "keep", one with the same key) was there before.
    fresh: bool
    #: The instance that was cancelled by ``on_conflict="replace"``.
    replaced: str | None = None


@dataclass(frozen=True, slots=True)
class Lease:
    """An instance that one session may run now."""

    id: str
    #: Proves the lease; another lease of the same instance has another token.
    token: str
    name: str
    envelope: bytes
    body: bytes
    group: str
    priority: int
    #: Counted attempts before this one.
    attempts: int
    crashes: int
    #: When the instance was first held back as undecodable (``End(state=QUEUED, due=…)``).
    held_since: int | None
    #: When it last became due; with :attr:`leased` the time it waited.
    due: int
    leased: int


@dataclass(frozen=True, slots=True)
class End:
    """How one lease ends: one arrow out of ``running``."""

    id: str
    token: str
    #: DONE, DEAD, EXPIRED; SCHEDULED (another attempt at :attr:`due`); QUEUED (given back: at once, or held back
    #: until :attr:`due` for :attr:`reason`, still as ``queued``).
    state: State
    #: Whether the attempt counts.
    counted: bool = True
    due: int | None = None
    #: For people; redacted already.
    reason: str | None = None
    #: Class name of the error.
    error: str | None = None
    #: One JSON object for the history; opaque here.
    entry: str | None = None
    #: Replaces the body, for a next attempt with other arguments.
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """A transition that the storage made on its own (recovered, expired, poisoned), for log and observers."""

    id: str
    name: str
    group: str
    #: QUEUED (recovered after a crash), DEAD (crashed too often) or EXPIRED.
    state: State
    attempts: int
    crashes: int
    reason: str


@dataclass(frozen=True, slots=True)
class Step:
    """Answer of :meth:`Storage.step`."""

    leases: list[Lease]
    #: Ids of those ends whose lease was no longer held; nothing was changed for them.
    lost: list[str]
    #: When the next scheduled (or held) instance becomes due; None when none waits for its time.
    next_due: int | None
    ended: list[Ended] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """What a worker process tells about itself."""

    id: str
    host: str
    pid: int
    started: int
    version: str
    worker_type: str = "thread"
    workers: int = 1
    #: Ids of the keys it can decrypt with.
    keys: tuple[str, ...] = ()
    #: Names of the jobs it knows.
    jobs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A live session, as people see it."""

    info: SessionInfo
    #: Last sign of life.
    seen: int
    #: End of the lease when no further sign comes.
    until: int
    #: Ids of the instances it runs.
    running: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Beat:
    """Answer of :meth:`Storage.beat`."""

    #: False: the session was taken for dead, its instances went back. It must open a new one.
    alive: bool
    ended: list[Ended] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Record:
    """All that is kept of an instance, for people; no body."""

    id: str
    name: str
    state: State
    group: str
    priority: int
    created: int
    deadline: int | None
    #: Next start for ``queued`` and ``scheduled``.
    due: int
    #: Counted attempts.
    attempts: int
    crashes: int
    #: Last lease and end; None before.
    started: int | None
    ended: int | None
    #: Why it waits or how it ended.
    reason: str | None
    error: str | None
    session: str | None
    #: JSON objects, oldest first.
    history: tuple[str, ...]
    envelope: bytes
    #: Whether the body is still there (it goes when the instance ends).
    has_body: bool


@dataclass(frozen=True, slots=True)
class Page:
    """Some records, and the cursor for the next ones (None: these were the last)."""

    records: list[Record]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class GroupRecord:
    """What the storage knows of a group. The policy lives in :mod:`pijobs.groups`."""

    name: str
    running: int
    waiting: int
    limit: int | None
    #: Nothing of this group is leased before this time.
    blocked_until: int | None
    paused: bool
    #: Memory of the policy; opaque here.
    policy: str
    #: Grows with every :meth:`Storage.set_group`.
    version: int


@dataclass(frozen=True, slots=True)
class Depths:
    """How much there is, without a scan."""

    #: (job name, state) -> number of instances.
    counts: Mapping[tuple[str, State], int]
    #: The due time of the longest waiting ``queued`` instance, by job name.
    oldest_due: Mapping[str, int]
    paused: bool
    #: Last sign of life of any worker ever; None: never.
    worker_seen: int | None


class Storage(ABC):
    """The contract. See the module for what holds for all methods."""

    #: What :func:`pijobs.storage.open_storage` was given, without password.
    display_url: str

    # -- clock and connection ------------------------------------------------------------------------------------

    @abstractmethod
    def now(self) -> int:
        """The storage's time. After a first answer this is an estimate that costs no round trip: last known time of
        the storage plus what passed since on the monotonic clock. Falls back to the host's clock."""

    @abstractmethod
    def ping(self) -> None:
        """Ask the storage something; :class:`StorageUnavailable` when it does not answer. Synchronises :meth:`now`."""

    def diagnose(self) -> dict[str, str]:
        """Facts about the server behind the storage, for ``pijobs config check``: version, what it is set to."""
        return {}

    @abstractmethod
    def close(self) -> None:
        """Close all connections and end all helper threads. The storage may be used again afterwards."""

    # -- for servers ---------------------------------------------------------------------------------------------

    @abstractmethod
    def enqueue(
        self,
        new: NewInstance,
        *,
        timeout: float,
        on_conflict: OnConflict = "replace",
        worker_within: int | None = None,
    ) -> Stored:
        """Store an instance: ``queued``, or ``scheduled`` when ``new.due`` lies in the future.

        Idempotent by id: an id that exists (in whatever state) is left alone, and its state is returned.

        :param timeout: seconds after which :class:`StorageUnavailable` must have been raised, connecting included.
        :param on_conflict: what happens when ``new.key`` belongs to a waiting instance: it is cancelled (reason
            ``"superseded by <id>"``), or kept and returned instead, or :class:`~pijobs.errors.KeyConflict`.
            A running one is not touched: its key was cleared when it started.
        :param worker_within: store only if any worker gave a sign of life within so many ms, else raise
            :class:`~pijobs.errors.NoLiveWorker`; costs no further round trip.
        """

    @abstractmethod
    def enqueue_periodic(self, new: NewInstance, *, due: int) -> bool:
        """Store the instance of a periodic job for one due time, exactly once over all workers.

        The last due time of each job (``new.name``) is kept without limit of time; in one operation: when it is
        ``>= due`` nothing happens and False is returned, else it becomes ``due`` and the instance is stored."""

    @abstractmethod
    def last_periodic(self, name: str) -> int | None:
        """The last due time that :meth:`enqueue_periodic` took for this job."""

    # -- for what moves to another storage (the spool) -----------------------------------------------------------

    @abstractmethod
    def take_out(self, number: int, *, hold: int) -> list[NewInstance]:
        """Up to ``number`` waiting instances that were never leased, the oldest first, as they were enqueued.

        For ``hold`` ms nobody leases them, nor takes out those that are ``queued``; they stay what they are. Who took
        them stores them elsewhere and calls :meth:`forget`. If nothing comes of that, they can be leased again."""

    @abstractmethod
    def forget(self, ids: Sequence[str]) -> None:
        """Remove instances that have been stored elsewhere, without a record. What no longer waits is left alone."""

    # -- for workers ---------------------------------------------------------------------------------------------

    @abstractmethod
    def open_session(self, info: SessionInfo, *, lease: int) -> None:
        """Announce a worker process; its leases hold ``lease`` ms from its last sign of life."""

    @abstractmethod
    def beat(self, session: str, *, lease: int, abandoned: Sequence[tuple[str, str]] = ()) -> Beat:
        """A sign of life: renews all leases of the session by ``lease`` ms. Then keeps house, at most
        :data:`HOUSEKEEPING_BATCH` of each kind:

        * ``abandoned`` (id, token) of this session, and all that sessions without a sign of life hold, go back:
          ``running -> queued`` with the old rank, ``crashes`` + 1 and a history entry
          ``{"at": now, "event": "crashed", "session": …}``; ``dead`` at :data:`MAX_CRASHES`; ``expired`` if the
          deadline has passed. The dead sessions themselves go.
        * waiting instances whose deadline has passed become ``expired``; dead letters whose deadline has passed
          lose their body.
        * what :class:`Retention` no longer keeps is removed, and groups that nothing uses (nothing waiting or
          running, not paused, not blocked, policy empty)."""

    @abstractmethod
    def step(self, session: str, ends: Sequence[End], *, want: int, floor: int | None = None) -> Step:
        """End leases and take new ones, in one operation.

        First each of ``ends`` is carried out, if its lease is still held (else its id is in :attr:`Step.lost`). Then
        what has become due is promoted (up to 20), and up to ``want`` instances with ``priority >= floor`` are leased
        to the session, highest priority first, oldest first within a priority (a recovered or retried instance
        keeps its old place). An instance whose deadline has passed is not leased but ends ``expired``. Nothing is
        leased to a session that is unknown or past its lease, while the queue or the group is paused, while the
        group is blocked or has ``running >= limit``. With ``want=0`` only the ends are carried out.

        What ends ``done``, ``expired`` or ``cancelled`` loses its body; ``dead`` keeps it (see :meth:`beat`)."""

    @abstractmethod
    def wait(self, timeout: float, *, floor: int | None = None) -> None:
        """Block until :meth:`step` may find something, or for ``timeout`` seconds. May return early, must not miss an
        enqueue that committed after the caller's last :meth:`step` (beyond what the storage polls: at most 25 ms)."""

    @abstractmethod
    def wake(self) -> None:
        """Make every :meth:`wait` of this process return soon (for shutdown); at most 1 s."""

    @abstractmethod
    def close_session(self, session: str, *, crashed: bool = False) -> list[Ended]:
        """Forget the session and give back what it runs: ``running -> queued`` with the old rank, not counted; or,
        if ``crashed``, counted as in :meth:`beat`."""

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
        its cursor goes on. A cursor that this storage did not make raises ``ValueError``."""

    @abstractmethod
    def depths(self) -> Depths:
        """Numbers per job and state."""

    @abstractmethod
    def sessions(self) -> list[SessionRecord]:
        """The live sessions, oldest first."""

    @abstractmethod
    def cancel(self, instance_id: str, *, reason: str) -> None:
        """``queued, scheduled -> cancelled``. :raises StateConflict: for another state. :raises InstanceNotFound:"""

    @abstractmethod
    def retry(self, instance_id: str) -> None:
        """``dead -> queued`` with attempts and crashes at zero, its place by its old rank.
        :raises StateConflict: for another state, or when the body has gone or the deadline has passed.
        :raises InstanceNotFound:"""

    @abstractmethod
    def remove(self, instance_id: str) -> None:
        """Delete the record of an ended instance. :raises StateConflict: if it waits or runs.
        :raises InstanceNotFound:"""

    @abstractmethod
    def pause(self, group: str | None = None) -> None:
        """Lease nothing (of this group) until :meth:`resume`. What runs goes on."""

    @abstractmethod
    def resume(self, group: str | None = None) -> None:
        """End a :meth:`pause`; wakes the workers."""

    # -- groups and limits ---------------------------------------------------------------------------------------

    @abstractmethod
    def group(self, name: str) -> GroupRecord | None:
        """None for a group that is not known."""

    @abstractmethod
    def groups(self) -> list[GroupRecord]:
        """All known groups, by name."""

    @abstractmethod
    def set_group(
        self, name: str, *, version: int, limit: int | None, blocked_until: int | None, policy: str
    ) -> bool:
        """Write what the policy decided, if the group still has ``version`` (0: not known yet); else False. A group
        that may run again wakes the workers, at ``blocked_until`` without further help."""

    @abstractmethod
    def count(self, key: str, *, limit: int, per: int) -> int | None:
        """Count one event against ``limit`` events in any window of ``per`` ms, over all processes. None: counted;
        else not counted, and the time at which one more will be allowed."""
