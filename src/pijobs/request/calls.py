"""Makes an instance from the call of a job."""

from __future__ import annotations

import datetime as dt
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from pijobs.base import clock, traces
from pijobs.base.clock import to_ms
from pijobs.base.known_texts import texts_in
from pijobs.base.masks import mask_address
from pijobs.base.redact import describe, redact
from pijobs.errors import EncodeError, InstanceNotFound, StateConflict, StorageUnavailable
from pijobs.execution.groups import start_limit
from pijobs.jobs import ENDED, Job, State
from pijobs.payload.codec import Call, Codec, open_envelope
from pijobs.payload.keys import KeyRing
from pijobs.payload.subjects import spelled
from pijobs.plugins.registry import Registry
from pijobs.request.bounds import Bounds
from pijobs.request.options import due_of
from pijobs.request.places import Places
from pijobs.storage.values import BATCH, NewInstance, OnConflict

log = logging.getLogger(__name__)

#: A label without an address, or with an address that the job has masked, as the mail job does.
_MASKED = re.compile(r"[^@]*|(?:[^@\d]*\s)?[^@\s]?\*{3}@[\w.-]+(?: and \d{1,5} more)?")
#: The most bytes that are stored at once, unless a single instance has more.
BATCH_SIZE = 1024 * 1024
#: The most characters of a label in the record.
LABEL_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Handle:
    """What :meth:`pijobs.request.queue.Queue.enqueue` returns."""

    id: str
    state: State
    #: Where the instance is: "storage", "spool", "direct" (it ran in this process), "commit" (it is part
    #: of a transaction, or is enqueued after it), or "dropped" (too many wait).
    via: str = "storage"
    #: Why it is in this state, if known.
    reason: str | None = None
    #: Looks up the instance; None: there is no record.
    places: Callable[[], Places] | None = field(default=None, repr=False, compare=False)

    #: Reads its result.
    reads: Callable[[str], Any] | None = field(default=None, repr=False, compare=False)

    def result(self) -> Any:
        """The function's result, if the job has ``keep_result`` and the instance is done; see :meth:`refresh`.

        :raises StateConflict: it is not done, or has no result. A job that ran in the request has none.
        :raises InstanceNotFound: its record was removed.
        :raises StorageUnavailable:
        """
        if self.reads is None:
            raise StateConflict(f"instance {self.id} kept no result, since it ran in the request")
        return self.reads(self.id)

    def refresh(self) -> Handle:
        """A handle of the same instance with its present state and reason. This handle does not change.

        :raises InstanceNotFound: its record was removed.
        :raises StorageUnavailable:
        """
        if self.places is None:
            return self
        _, record = self.places().find(self.id)
        return replace(self, state=record.state, reason=record.reason)

    def wait(self, timeout: float) -> Handle:
        """Wait until the instance has ended, for at most ``timeout`` seconds, and return its handle. It asks the
        storage again and again, first after 20 ms, later each half second. If the storage does not answer, it goes on.

        Use it in commands and tests only: a view that waits makes its user wait, and occupies a thread.
        """
        end, pause, handle = clock.monotonic() + timeout, 0.02, self
        while True:
            with suppress(StorageUnavailable, InstanceNotFound):
                handle = handle.refresh()
            left = end - clock.monotonic()
            if handle.state in ENDED or left <= 0:
                return handle
            clock.sleep(min(pause, left))
            pause = min(pause * 1.5, 0.5)


class _Call(msgspec.Struct, frozen=True):
    name: str
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] | None = None


class JobCall(_Call, frozen=True, kw_only=True):
    """The description of a call, for :meth:`pijobs.request.queue.Queue.enqueue_many`.

    :param name: name of the job; arguments and options are those of :meth:`pijobs.request.queue.Queue.enqueue`.
    """

    delay: float | None = None
    eta: dt.datetime | float | None = None
    expires: float | None = None
    priority: int | None = None
    key: str | None = None
    on_conflict: OnConflict = "replace"


#: A checked call, its job, and its arguments.
Made = tuple[JobCall, Job, Call]


class Pending(msgspec.Struct, frozen=True):
    """An instance on its way to the storage, and its call, in case it must run at once."""

    call: Call
    new: NewInstance
    on_conflict: OnConflict

    @property
    def has_deadline(self) -> bool:
        """Whether caller or job set one. The deadline that the storage gets may be only the limit of the instance's
        age."""
        return open_envelope(self.new.envelope).deadline is not None

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.new.envelope) + len(self.new.body)


def batches(pending: Sequence[Pending], bounds: Bounds) -> Iterator[Sequence[Pending]]:
    """Split into batches that are stored at once: up to :data:`~pijobs.storage.values.BATCH` instances, or
    :data:`BATCH_SIZE` bytes, and of each job no more than may wait."""
    if len(pending) == 1:  # nothing is counted beforehand
        yield pending
        return
    begin, size, room = 0, 0, dict[str, float]()
    for index, one in enumerate(pending):
        name = one.new.name
        if name not in room:
            room[name] = bounds.room(name)
        full = index - begin == BATCH or size + one.size > BATCH_SIZE or room[name] < 1
        if full and index > begin:
            yield pending[begin:index]
            begin, size, room = index, 0, {name: bounds.room(name)}
        size += one.size
        room[name] -= 1
    yield pending[begin:]


def checked(registry: Registry, name: str, args: Sequence[Any], kwargs: Mapping[str, Any] | None) -> tuple[Job, Call]:
    """Check a call. :returns: the job and the call.

    :raises UnknownJob: no plugin registers this name.
    :raises EncodeError: the arguments do not fit its function.
    """
    job = registry[name]
    if isinstance(args, (str, bytes, Mapping)) or not isinstance(
        args, Iterable
    ):  # a text would be split into characters
        raise EncodeError(
            f"job {name!r}: expected a list or tuple as args, found {type(args).__name__}; "
            "write the arguments in brackets, or by their names: kwargs={…}"
        )
    call = Call(tuple(args), dict(kwargs or {}))
    registry.check_call(name, call.args, call.kwargs)
    return job, call


def new_instance(
    job: Job,
    instance_id: str,
    call: Call,
    options: JobCall,
    *,
    registry: Registry,
    codec: Codec,
    keys: KeyRing,
    created: int,
    max_age: float,
) -> NewInstance:
    """:param options: the options of the call.
    :param created: ms on the storage's clock.
    :param max_age: seconds after which an instance without a deadline expires.
    :raises EncodeError: the arguments can't be stored.
    """
    expires, priority, key = options.expires, options.priority, options.key
    keep = job.keep_result if job.keep is None else job.keep
    lifetime = job.expires if expires is None else expires
    deadline = None if lifetime is None else created + to_ms(lifetime)
    call = Call(call.args, call.kwargs, _named(registry, job, "label", call), traces.present())
    envelope, body = codec.encode(id=instance_id, name=job.name, call=call, created=created, deadline=deadline)
    subject, person = (_named(registry, job, what, call) for what in ("subject", "person"))
    due = due_of(options.delay, options.eta, created)
    oldest = max(created, due or 0) + to_ms(max_age)
    return NewInstance(
        id=instance_id, name=job.name, envelope=envelope, body=body, group=group_of(registry, job, call),
        priority=job.priority if priority is None else priority,
        created=created, deadline=oldest if deadline is None else deadline, due=due,
        limit=None if job.group is None else start_limit(job.limits),
        key=None if key is None else keys.newest.lookup(f"key {job.name}", key),
        subject=None if subject is None else keys.newest.lookup("subject", spelled(subject)),
        person=None if person is None else keys.newest.lookup("subject", spelled(person)),
        keep=None if keep is None else to_ms(keep), label=call.label,
    )  # fmt: skip


def periodic_id(name: str, due: int) -> str:
    """The id of the one instance of a periodic job for a due time (ms)."""
    return f"{name}@{due}"


def group_of(registry: Registry, job: Job, call: Call) -> str:
    """The group (destination) of the call; by default the job itself."""
    return _named(registry, job, "group", call) or job.name


def _named(registry: Registry, job: Job, what: str, call: Call) -> str | None:
    """Group, label, subject or person of a call, from the job's function. If that fails, the call continues."""
    try:
        value = registry.named(job, what, call)
    except Exception as error:
        known = set(texts_in([call.args, call.kwargs]))
        log.error("job %s: its %s function failed: %s", job.name, what, describe(error, known))
        return None
    if value is None:
        return None
    return _masked(str(value)) if what == "label" else str(value)


def _masked(label: str) -> str:
    """The label as the record keeps it, unencrypted."""
    text = label if _MASKED.fullmatch(label) else redact(label) if "@" in label else label
    if "@" in text and "***" not in text:  # an address that the mask did not recognise
        text = mask_address(label)
    text = text[:LABEL_LENGTH]
    return text if text.isprintable() else "".join(letter if letter.isprintable() else "?" for letter in text)
