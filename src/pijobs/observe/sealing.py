"""Encrypts stored instances again: with the newest key (``pijobs keys retire``), or in the format of the storage
(``pijobs schema``). Each instance is one operation of the storage. An instance that runs is left to the next run,
because its worker knows it as it was leased."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from pijobs.errors import DecodeError, InstanceNotFound
from pijobs.jobs import State
from pijobs.payload.codec import Codec, Envelope, open_envelope
from pijobs.storage.contract import Storage
from pijobs.storage.records import Record

#: Where bodies are.
#: Those with a body, in an order that misses no instance that goes on meanwhile: it may come back from running.
STATES = (State.RUNNING, State.SCHEDULED, State.QUEUED, State.RUNNING, State.DEAD)
_PAGE = 200
#: Reads all instances, and may miss one that moves meanwhile.
_LOOKS = 5

Wanted = Callable[[Envelope], bool]


@dataclass
class Sealed:
    """The result of a run."""

    done: int = 0
    #: How many are running, or changed meanwhile.
    left: int = 0
    #: The reasons why some can't be read here, with their number.
    unreadable: Counter[str] = field(default_factory=Counter)


def seal_anew(storage: Storage, codec: Codec, wanted: Wanted) -> Sealed:
    """Encrypt all wanted instances that have a body again.

    :raises StorageUnavailable: the storage does not answer. Finished instances stay finished; run it again.
    """
    done = 0
    for _ in range(_LOOKS):
        found = _look(storage, codec, wanted)
        done += found.done
        if not found.done:
            break
    return Sealed(done, found.left, found.unreadable)


def counted(storage: Storage) -> Counter[str]:
    """How many stored bodies there are under each key, or some more, if they go on meanwhile; those with an unreadable
    envelope under "?"."""
    found: Counter[str] = Counter()
    for record in _with_body(storage):
        opened = _opened(record)
        found["?" if opened is None else opened.key_id] += 1
    return found


def _look(storage: Storage, codec: Codec, wanted: Wanted) -> Sealed:
    found = Sealed()
    for record in _with_body(storage):
        opened = _opened(record)
        if opened is None or not wanted(opened):
            continue
        if record.state is State.RUNNING:
            found.left += 1
            continue
        try:
            body = storage.body(record.id)
            if body is None:
                continue
            new = codec.reseal(record.envelope, body)
            if storage.reseal(record.id, old=(record.envelope, body), new=new):
                found.done += 1
            else:
                found.left += 1
        except InstanceNotFound:
            continue
        except DecodeError as error:
            found.unreadable[str(error)] += 1
    return found


def _with_body(storage: Storage) -> Iterator[Record]:
    ran = set[str]()
    for state in STATES:
        cursor: str | None = None
        while True:
            page = storage.page(state, cursor=cursor, limit=_PAGE)
            yield from (record for record in page.records if record.has_body and record.id not in ran)
            ran.update(record.id for record in page.records if state is State.RUNNING)
            if (cursor := page.cursor) is None:
                break


def _opened(record: Record) -> Envelope | None:
    try:
        return open_envelope(record.envelope)
    except DecodeError:
        return None
