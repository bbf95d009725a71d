"""Makes an instance out of the call of a job."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pijobs.base.clock import to_ms
from pijobs.base.redact import describe, mask_address, redact, texts_in
from pijobs.errors import EncodeError
from pijobs.execution.groups import start_limit
from pijobs.jobs import Job, State
from pijobs.payload.codec import Call, Codec, open_envelope
from pijobs.payload.keys import KeyRing
from pijobs.plugins.registry import Registry
from pijobs.request.options import due_of
from pijobs.storage.contract import NewInstance

log = logging.getLogger(__name__)

#: Characters of a label that the record keeps.
LABEL_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Handle:
    """What :meth:`pijobs.request.queue.Queue.enqueue` returns."""

    id: str
    state: State
    #: Where the instance went: "storage", "spool", "direct" (it ran in this process), or "dropped" (too many wait).
    via: str = "storage"
    #: Why it ended in this state, if it ran in this process.
    reason: str | None = None


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
    *,
    registry: Registry,
    codec: Codec,
    keys: KeyRing,
    created: int,
    max_age: float,
    delay: tuple[str, float] | None,
    expires: float | None,
    priority: int | None,
    key: str | None,
) -> NewInstance:
    """:param created: ms on the storage's clock.
    :param max_age: seconds after which an instance without a deadline is given up.
    :param delay: as :func:`pijobs.request.options.delay_of` tells it.
    :raises EncodeError: for arguments that can't be stored.
    """
    lifetime = job.expires if expires is None else expires
    deadline = None if lifetime is None else created + to_ms(lifetime)
    call = Call(call.args, call.kwargs, _named(registry, job, "label", call))
    envelope, body = codec.encode(id=instance_id, name=job.name, call=call, created=created, deadline=deadline)
    subject = _named(registry, job, "subject", call)
    due = due_of(delay, created)
    oldest = max(created, due or 0) + to_ms(max_age)
    return NewInstance(
        id=instance_id, name=job.name, envelope=envelope, body=body, group=group_of(registry, job, call),
        priority=job.priority if priority is None else priority,
        created=created, deadline=oldest if deadline is None else deadline, due=due,
        limit=None if job.group is None else start_limit(job.limits),
        key=None if key is None else keys.newest.lookup(f"key {job.name}", key),
        subject=None if subject is None else keys.newest.lookup("subject", subject),
        keep=None if job.keep is None else to_ms(job.keep), label=call.label,
    )  # fmt: skip


def group_of(registry: Registry, job: Job, call: Call) -> str:
    """What the call goes to; by default the job itself."""
    return _named(registry, job, "group", call) or job.name


def _named(registry: Registry, job: Job, what: str, call: Call) -> str | None:
    """Group, label or subject of a call, by the job's own function. One that fails must not stop the call."""
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
    text = redact(label) if "@" in label else label
    if "@" in text and "***" not in text:  # an address that does not look like one
        text = mask_address(label)
    text = text[:LABEL_LENGTH]
    return text if text.isprintable() else "".join(letter if letter.isprintable() else "?" for letter in text)


def deadline_of(new: NewInstance) -> int | None:
    """When the effect must not happen any more, as the caller or the job wants it (ms); None: never. What the storage
    is given as deadline may be no more than the bound of the instance's age."""
    return open_envelope(new.envelope).deadline
