"""Lists the waiting instances of a queue, decoded by the real codec."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pijobs.jobs import State
from pijobs.request.queue import Queue
from pijobs.storage.records import Record


@dataclass(frozen=True)
class Enqueued:
    """A waiting job instance. Times are in seconds on the storage's clock."""

    id: str
    name: str
    #: ``queued``, or ``scheduled`` if its time has not come.
    state: State
    #: By parameter name, also if they were passed by position.
    arguments: dict[str, Any]
    priority: int
    group: str
    due: float
    deadline: float | None
    #: The label that people see.
    label: str | None


def enqueued(queue: Queue, name: str | None = None) -> list[Enqueued]:
    """The waiting instances, by the time that they are due.

    :param name: of the job; None for all jobs.
    """
    return sorted(_waiting(queue, name), key=lambda one: one.due)


def assert_enqueued(queue: Queue, name: str, /, **arguments: Any) -> Enqueued:
    """Assert that exactly one instance of the job waits with these values of its arguments; others may have any.

    :returns: the instance.
    :raises AssertionError: if none or several wait; lists the waiting instances.
    """
    waiting = enqueued(queue)
    named = [one for one in waiting if one.name == name]
    found = [one for one in named if all(key in one.arguments and one.arguments[key] == value
                                         for key, value in arguments.items())]  # fmt: skip
    if len(found) != 1:
        lines = "".join(f"\n  {one.name} {one.arguments}" for one in named or waiting) or " nothing"
        raise AssertionError(f"expected one {name} with {arguments}, found {len(found)}; there waits:{lines}")
    return found[0]


def _waiting(queue: Queue, name: str | None) -> Iterator[Enqueued]:
    assert queue.storage is not None, "no queue is configured: the job has run already"
    for state in (State.QUEUED, State.SCHEDULED):
        cursor: str | None = None
        while True:
            page = queue.storage.page(state, name=name, cursor=cursor)
            yield from (_decoded(queue, record) for record in page.records[::-1])
            cursor = page.cursor
            if cursor is None:
                break


def _decoded(queue: Queue, record: Record) -> Enqueued:
    assert queue.storage is not None
    body = queue.storage.body(record.id)
    assert body is not None
    call = queue.codec().decode(record.envelope, body)
    deadline = None if call.envelope is None else call.envelope.deadline
    arguments = queue.registry.bound(record.name, call.args, call.kwargs)
    return Enqueued(
        record.id, record.name, record.state, arguments, record.priority, record.group, record.due / 1000,
        None if deadline is None else deadline / 1000, call.label,
    )  # fmt: skip
