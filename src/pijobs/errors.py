"""Every error of pijobs, one tree.

::

    PijobsError
    ├── ConfigurationError          wrong pi.cfg or command line
    │   └── SettingsError           all faulty settings at once
    ├── PluginError                 a plugin can't be loaded, or breaks a rule of registration
    ├── JobError                    one call of one job
    │   ├── UnknownJob
    │   ├── EncodeError             an argument of an unsupported type
    │   ├── DecodeError             this process can't read the stored bytes (unknown key or version)
    │   │   └── Damaged             no process can read them
    │   ├── KeyConflict             ``on_conflict="error"`` and the key is taken
    │   ├── InstanceNotFound
    │   └── StateConflict           the state diagram has no such transition
    ├── StorageError                the storage refused
    │   ├── StorageUnavailable      the storage did not answer
    │   │   ├── StorageDamaged      its data can't be used
    │   │   ├── StorageUnfit        it is too old, or its user lacks a right
    │   │   └── StorageVersion      it belongs to an incompatible release
    │   ├── NoLiveWorker            it did not store the job, because no worker would run it
    │   └── InstanceRefused         it can't store this instance, but can store others
    ├── QueueUnavailable            neither the storage nor a fallback accepted the job
    │   └── QueueFull               too many instances of the job wait
    ├── DatabaseError               the database of definitions and accounts refused
    │   ├── DatabaseUnavailable     it did not answer
    │   └── DatabaseConflict        another transaction was first
    ├── DefinitionError             all wrong values of a definition together
    ├── DefinitionNotFound          unknown in this database
    │   └── DefinitionDeleted       it was deleted
    ├── DefinitionUnreadable        a secret in it needs a key that is missing here
    └── AttemptEnd                  job functions raise it to end an attempt
        ├── RetryJob
        ├── DestinationDown
        ├── FailJob
        ├── DeadlinePassed
        ├── LeaseLost
        └── AttemptDeferred         another worker can run it, or this one later
            └── UnknownHere

If an error is raised without a message, the first line of its class's docstring is the message. Messages never contain
a secret, a body or a full address.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import Any

#: Longest time that is accepted (seconds; three thousand years), also for times since the epoch.
MAX_SECONDS = 1e11


class PijobsError(Exception):
    """something went wrong in the job queue"""

    #: Of :meth:`pijobs.request.queue.Queue.enqueue_many`: the handles of the calls that were stored before the error.
    stored: Sequence[Any] = ()

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or type(self).__name__).partition("\n")[0])


class ConfigurationError(PijobsError):
    """the configuration can't be used"""


class _SeveralFaults:
    """:param faults: one line per error, with what was expected and what was found."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(self.faults))  # type: ignore[call-arg]


class SettingsError(_SeveralFaults, ConfigurationError):
    """some settings can't be used"""


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
    """an instance with the same key is waiting"""

    def __init__(self, existing: str) -> None:
        self.existing = existing  # its id
        super().__init__(f"instance {existing} with the same key is waiting; on_conflict='error' refuses a second one")


class InstanceNotFound(JobError):
    """there is no job instance of that id"""

    def __init__(self, instance_id: str) -> None:
        self.instance_id = instance_id
        super().__init__(f"there is no job instance {instance_id!r}; its record may have been removed")


class StateConflict(JobError):
    """the state of the instance does not allow that"""


class StorageError(PijobsError):
    """the storage refused an operation"""


class StorageUnavailable(StorageError):
    """the storage does not answer"""

    #: The problem, for sentences such as "the storage does not answer".
    what = "does not answer"


class StorageDamaged(StorageUnavailable):
    """the storage answers, but its data can't be used

    Another program wrote to it. ``pijobs check --repair`` may repair it.
    """

    what = "keeps data that can't be used"


class StorageFull(StorageUnavailable):
    """the storage is full; stored instances continue"""

    what = "is full"


class StorageUnfit(StorageUnavailable):
    """the server of the storage can't do what the queue needs

    Waiting does not help: somebody must change the server, or the rights of its user.
    """

    what = "can't be used"


class StorageVersion(StorageUnavailable):
    """the storage belongs to another release of pijobs; an enqueue uses its fallback"""

    what = "belongs to another release"


class NoLiveWorker(StorageError):
    """no worker gave a sign of life; the instance was not stored"""


class Bypassed(StorageError):
    """somebody bypasses the queue; nothing of the batch was stored"""

    def __init__(self, ids: Collection[str]) -> None:
        super().__init__(f"the queue is bypassed for {len(ids)} instances")
        self.ids = frozenset(ids)  # of the instances that must run in the request


class InstanceRefused(StorageError):
    """the storage can't store this instance"""


class QueueUnavailable(PijobsError):
    """the storage does not answer, and no fallback accepted the job"""


class QueueFull(QueueUnavailable):
    """too many instances of this job wait"""


class DatabaseError(PijobsError):
    """the database of definitions and accounts refused an operation"""


class DatabaseUnavailable(DatabaseError):
    """the database of definitions and accounts does not answer"""


class DatabaseConflict(DatabaseError):
    """another transaction was first"""


class DefinitionError(_SeveralFaults, PijobsError):
    """the values of a definition can't be used"""


class DefinitionNotFound(PijobsError):
    """there is no definition of that identifier

    :param kind: such as ``"smtpserver"``.
    """

    def __init__(self, kind: str, identifier: str) -> None:
        self.kind, self.identifier = kind, identifier
        super().__init__(f"there is no {kind} {identifier!r}")


class DefinitionDeleted(DefinitionNotFound):
    """the definition was deleted"""


class DefinitionUnreadable(PijobsError):
    """a secret of a definition can't be read

    :param reasons: the reason for each field.
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
        self.delay = _checked_seconds("delay", delay)
        self.kwargs = dict(kwargs) if kwargs is not None else None
        super().__init__(message)


class DestinationDown(AttemptEnd):
    """the destination is down; the attempt does not count

    :param retry_after: seconds after which to try again, if the destination said so.
    :param counted: count the attempt, because its effect may have happened and must not be repeated for ever.
    """

    def __init__(self, message: str | None = None, *, retry_after: float | None = None, counted: bool = False) -> None:
        self.retry_after = _checked_seconds("retry_after", retry_after)
        self.counted = bool(counted)
        super().__init__(message)


def _checked_seconds(name: str, value: Any) -> float | None:
    if value is None or (isinstance(value, (int, float)) and -MAX_SECONDS <= value <= MAX_SECONDS):
        return value
    raise TypeError(f"{name}: expected a number of seconds or None, found {type(value).__name__}")


class FailJob(AttemptEnd):
    """the job failed for good; another attempt would not help"""


class DeadlinePassed(AttemptEnd):
    """the deadline of the job has passed"""


class LeaseLost(AttemptEnd):
    """the worker no longer holds the instance, and another worker may run it; the attempt does not count"""


class AttemptDeferred(AttemptEnd):
    """a limit of the destination defers the instance; it stays queued, and the attempt does not count"""


class UnknownHere(AttemptDeferred):
    """this worker does not know what the job needs; any worker tries again later, and the attempt does not count

    Raise it for something that another worker may have: a definition, the key of a secret, a file.
    """


def __getattr__(name: str) -> Any:
    if name != "HeldBack":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    advice = "pijobs.errors.HeldBack is deprecated and goes with 0.3.0; write pijobs.errors.AttemptDeferred"
    warnings.warn(advice, DeprecationWarning, stacklevel=2)
    return AttemptDeferred
