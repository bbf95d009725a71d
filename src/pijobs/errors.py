"""Every error of pijobs, one tree.

::

    PijobsError
    ├── ConfigurationError          what is written in pi.cfg or on the command line
    │   └── SettingsError           all faulty settings at once
    ├── PluginError                 a plugin that does not load, or breaks a rule of registration
    ├── JobError                    one call of one job
    │   ├── UnknownJob
    │   ├── EncodeError             an argument that the codec does not know
    │   ├── DecodeError             stored bytes that this process can't read (unknown key or version)
    │   │   └── Damaged             that no process can read
    │   ├── KeyConflict             ``on_conflict="error"`` and the key is taken
    │   ├── InstanceNotFound
    │   └── StateConflict           an arrow that the state diagram does not have
    ├── StorageError                the storage answered, and said no
    │   ├── StorageUnavailable      the storage did not answer
    │   │   ├── StorageDamaged      what it keeps can't be used
    │   │   ├── StorageUnfit        it is too old, or its user lacks a right
    │   │   └── StorageVersion      it belongs to a release that this one does not work with
    │   ├── NoLiveWorker            it refused to store, because nobody would run the job
    │   └── InstanceRefused         it can't take this instance, and takes others
    ├── QueueUnavailable            neither the storage nor a fallback took the job
    │   └── QueueFull               so many instances of the job wait that it is refused
    ├── DatabaseError               the database of definitions and accounts answered, and said no
    │   ├── DatabaseUnavailable     it did not answer
    │   └── DatabaseConflict        another transaction was there first
    ├── DefinitionError             all faulty values of a definition at once
    ├── DefinitionNotFound          this database has no record of it
    │   └── DefinitionDeleted       it was there, and was deleted
    ├── DefinitionUnreadable        a secret in it was encrypted with a key that is not here
    └── AttemptEnd                  raised by job functions to end an attempt
        ├── RetryJob
        ├── DestinationDown
        ├── FailJob
        ├── DeadlinePassed
        ├── LeaseLost
        └── HeldBack                another worker, or a later moment, may do it
            └── UnknownHere

The first line of each class's docstring is its message when it is raised without one. No message ever contains a
secret, a body or a whole address.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

#: Longest time anybody may mean (seconds; three thousand years), also a bound of times since the epoch.
MAX_SECONDS = 1e11


class PijobsError(Exception):
    """something went wrong in the job queue"""

    #: Of :meth:`pijobs.request.queue.Queue.enqueue_many`: the handles of what was stored before this happened.
    stored: Sequence[Any] = ()

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or type(self).__name__).partition("\n")[0])


class ConfigurationError(PijobsError):
    """the configuration can't be used"""


class SettingsError(ConfigurationError):
    """some settings can't be used

    :param faults: one line for each fault, each with what was expected and what was found.
    """

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(self.faults))


class PluginError(PijobsError):
    """a plugin can't be used"""


class JobError(PijobsError):
    """a job call can't be handled"""


class UnknownJob(JobError):
    """no plugin registers a job of that name"""


class EncodeError(JobError):
    """an argument can't be encoded"""


class DecodeError(JobError):
    """a stored job instance can't be decoded here; another process may have the key or know the version"""


class Damaged(DecodeError):
    """a stored job instance is damaged; no process can decode it"""


class KeyConflict(JobError):
    """an instance with the same key is waiting

    :param existing: the id of the waiting instance.
    """

    def __init__(self, existing: str) -> None:
        self.existing = existing
        super().__init__(f"instance {existing} with the same key is waiting; on_conflict='error' refuses a second one")


class InstanceNotFound(JobError):
    """there is no job instance of that id"""

    def __init__(self, instance_id: str) -> None:
        self.instance_id = instance_id
        super().__init__(f"there is no job instance {instance_id!r}; it may have been trimmed")


class StateConflict(JobError):
    """the state of the instance does not allow that"""


class StorageError(PijobsError):
    """the storage refused an operation"""


class StorageUnavailable(StorageError):
    """the storage does not answer"""

    #: What it does, for sentences about it.
    what = "does not answer"


class StorageDamaged(StorageUnavailable):
    """the storage answers, but what it keeps can't be used

    Somebody else wrote there. ``pijobs check --repair`` may mend it.
    """

    what = "keeps data that can't be used"


class StorageFull(StorageUnavailable):
    """the storage has no room; what it has goes on"""

    what = "is full"


class StorageUnfit(StorageUnavailable):
    """the server behind the storage can't do what the queue needs

    It will not get better by waiting: somebody has to change the server, or the rights of the user.
    """

    what = "can't be used"


class StorageVersion(StorageUnavailable):
    """the storage belongs to another release of pijobs; an enqueue takes its fallback"""

    what = "belongs to another release"


class NoLiveWorker(StorageError):
    """no worker gave a sign of life; the instance was not stored"""


class Bypassed(StorageError):
    """somebody bypasses the queue; nothing of the batch was stored"""

    def __init__(self, ids: Collection[str]) -> None:
        super().__init__(f"the queue is bypassed for {len(ids)} instances")
        #: Those that are to run in the request.
        self.ids = frozenset(ids)


class InstanceRefused(StorageError):
    """the storage can't take this instance"""


class QueueUnavailable(PijobsError):
    """the storage does not answer, and no fallback took the job"""


class QueueFull(QueueUnavailable):
    """too many instances of this job wait"""


class DatabaseError(PijobsError):
    """the database of definitions and accounts refused an operation"""


class DatabaseUnavailable(DatabaseError):
    """the database of definitions and accounts does not answer"""


class DatabaseConflict(DatabaseError):
    """another transaction was there first"""


class DefinitionError(PijobsError):
    """the values of a definition can't be used

    :param faults: one line for each fault, each with what was expected and what was found.
    """

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(self.faults))


class DefinitionNotFound(PijobsError):
    """there is no definition of that identifier

    :param kind: such as ``"smtpserver"``.
    """

    def __init__(self, kind: str, identifier: str) -> None:
        self.kind, self.identifier = kind, identifier
        super().__init__(f"there is no {kind} {identifier!r}")


class DefinitionDeleted(DefinitionNotFound):
    """the definition was deleted; the database remembers that"""


class DefinitionUnreadable(PijobsError):
    """a secret of a definition can't be read

    :param reasons: by field.
    """

    def __init__(self, kind: str, identifier: str, reasons: Mapping[str, str]) -> None:
        self.kind, self.identifier, self.reasons = kind, identifier, dict(reasons)
        super().__init__("\n".join(f"{kind} {identifier!r}, {field}: {why}" for field, why in reasons.items()))


class AttemptEnd(PijobsError):
    """a job function ended its attempt"""


class RetryJob(AttemptEnd):
    """the job asks for another attempt

    :param delay: seconds until the next attempt; None lets the :class:`~pijobs.RetryPolicy` decide.
    :param kwargs: replaces these keyword arguments for the next attempt, in the same transition.
    """

    def __init__(
        self, message: str | None = None, *, delay: float | None = None, kwargs: Mapping[str, Any] | None = None
    ) -> None:
        self.delay = _seconds("delay", delay)
        self.kwargs = dict(kwargs) if kwargs is not None else None
        super().__init__(message)


class DestinationDown(AttemptEnd):
    """the destination is down; the attempt does not count

    :param retry_after: seconds after which to try again, if the destination said so.
    :param counted: the attempt counts all the same: its effect may have happened, and must not happen without end.
    """

    def __init__(self, message: str | None = None, *, retry_after: float | None = None, counted: bool = False) -> None:
        self.retry_after = _seconds("retry_after", retry_after)
        self.counted = bool(counted)
        super().__init__(message)


def _seconds(name: str, value: Any) -> float | None:
    """Refused where it is made: whoever judges the attempt must be able to count on it."""
    if value is None or (isinstance(value, (int, float)) and -MAX_SECONDS <= value <= MAX_SECONDS):
        return value
    raise TypeError(f"{name}: expected a number of seconds or None, found {type(value).__name__}")


class FailJob(AttemptEnd):
    """the job failed for good; another attempt would not help"""


class DeadlinePassed(AttemptEnd):
    """the deadline of the job has passed"""


class LeaseLost(AttemptEnd):
    """the worker no longer holds the instance, and another worker may run it; the attempt does not count"""


class HeldBack(AttemptEnd):
    """a limit of the destination holds the instance back; it stays queued, and the attempt does not count"""


class UnknownHere(HeldBack):
    """this worker does not know what the job needs; any worker tries again later, and the attempt does not count

    For what another worker may know: a definition that is not in this worker's database, a secret under a key that this
    worker does not have, a file that is on another host.
    """
