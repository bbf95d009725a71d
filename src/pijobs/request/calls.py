"""Makes an instance out of the call of a job."""

from __future__ import annotations

import datetime as dt
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any

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

#: A label without an address, or with one that its job has masked already, as the mail job does.
_MASKED = re.compile(r"[^@]*|(?:[^@\d]*\s)?[^@\s]?\*{3}@[\w.-]+(?: and \d{1,5} more)?")
#: Bytes that are stored at once, unless one instance alone has more.
BATCH_SIZE = 1024 * 1024
#: Characters of a label that the record keeps.
LABEL_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Handle:
    """What :meth:`pijobs.request.queue.Queue.enqueue` returns."""

    id: str
    state: State
    #: Where the instance went: "storage", "spool", "direct" (it ran in this process), "commit" (it is part
    #: of a transaction, or follows it), or "dropped" (too many wait).
    via: str = "storage"
    #: Why it is in this state, as far as that was told.
    reason: str | None = None
    #: Where it is looked up; None: there is no more to tell.
    places: Callable[[], Places] | None = field(default=None, repr=False, compare=False)

    #: Reads its result.
    reads: Callable[[str], Any] | None = field(default=None, repr=False, compare=False)

    def result(self) -> Any:
        """What the function returned, if the job has ``keep_result``, and the instance is done: see :meth:`refresh`.

        :raises StateConflict: it is not done, or kept no result; what runs in the request keeps none.
        :raises InstanceNotFound: its record is not kept any more.
        :raises StorageUnavailable:
        """
        if self.reads is None:
            raise StateConflict(f"instance {self.id} kept no result, since it ran in the request")
        return self.reads(self.id)

    def refresh(self) -> Handle:
        """The same instance as it stands now, with state and reason. This handle does not change.

        :raises InstanceNotFound: its record is not kept any more.
        :raises StorageUnavailable:
        """
        if self.places is None:
            return self
        _, record = self.places().find(self.id)
        return replace(self, state=record.state, reason=record.reason)

    def wait(self, timeout: float) -> Handle:
        """The instance when it has ended, or as it stands after ``timeout`` seconds. The storage is asked again and
        again, at first after 20 ms, later each half second; one that does not answer is waited for.

        This is for commands and tests: a view that waits makes its user wait, too, and holds its thread.
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


@dataclass(frozen=True, slots=True)
class JobCall:
    """A call of a job that was not made yet, for :meth:`pijobs.request.queue.Queue.enqueue_many`.

    :param name: of the job; arguments and options are those of :meth:`pijobs.request.queue.Queue.enqueue`.
    """

    name: str
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] | None = None
    _: KW_ONLY
    delay: float | None = None
    eta: dt.datetime | float | None = None
    expires: float | None = None
    priority: int | None = None
    key: str | None = None
    on_conflict: OnConflict = "replace"


#: A call that was looked at, its job, and its arguments.
Made = tuple[JobCall, Job, Call]


@dataclass(frozen=True, slots=True)
class Pending:
    """An instance on its way to the storage, and its call, in case that it has to run at once."""

    call: Call
    new: NewInstance
    on_conflict: OnConflict

    @property
    def has_deadline(self) -> bool:
        """Whether caller or job gave one. What the storage is given as deadline may be no more than the bound of the
        instance's age."""
        return open_envelope(self.new.envelope).deadline is not None

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.new.envelope) + len(self.new.body)


def batches(pending: Sequence[Pending], bounds: Bounds) -> Iterator[Sequence[Pending]]:
    """What is stored at once: up to :data:`~pijobs.storage.values.BATCH` instances, or :data:`BATCH_SIZE` bytes, and of
    each job no more than may wait."""
    if len(pending) == 1:  # nothing is looked at beforehand
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
    """The job and the call.

    :raises UnknownJob: no plugin registers this name.
    :raises EncodeError: for arguments that do not fit its function.
    """
    job = registry[name]
    if isinstance(args, (str, bytes, Mapping)) or not isinstance(args, Iterable):  # a text would be taken apart
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
    """:param options: those of the call.
    :param created: ms on the storage's clock.
    :param max_age: seconds after which an instance without a deadline is given up.
    :raises EncodeError: for arguments that can't be stored.
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


def group_of(registry: Registry, job: Job, call: Call) -> str:
    """What the call goes to; by default the job itself."""
    return _named(registry, job, "group", call) or job.name


def _named(registry: Registry, job: Job, what: str, call: Call) -> str | None:
    """Group, label, subject or person of a call, by the job's own function. One that fails must not stop the call."""
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
    """As the record keeps it, in clear."""
    text = label if _MASKED.fullmatch(label) else redact(label) if "@" in label else label
    if "@" in text and "***" not in text:  # an address that does not look like one
        text = mask_address(label)
    text = text[:LABEL_LENGTH]
    return text if text.isprintable() else "".join(letter if letter.isprintable() else "?" for letter in text)
