"""Each row of "this light is red": with the fault the light is red, and what the page says to do makes it green.

What another program or host would do is done in its place: the disk has room again, a worker has run what waited.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pijobs.definitions.records import Fingerprint
from pijobs.definitions.rotation import reencrypt
from pijobs.execution.groups import Policy
from pijobs.jobs import State
from pijobs.observe import switches
from pijobs.observe.checks import TABLE, severity_of
from pijobs.observe.readiness import readiness
from pijobs.request.queue import Queue
from pijobs.storage.values import End

from . import test_check_faults as faults
from .test_check_faults import Place, storage_of
from .test_deployment_checks import add_worker, close

Remedy = Callable[[Place, Queue], Queue]


def a_worker_with(place: Place, **facts: Any) -> Queue:
    """The queue as all hosts read it that have the same keys, release and definitions."""
    found = place.queue()
    add_worker(found, **facts)
    return found


def has_run(place: Place, found: Queue) -> Queue:
    """A worker that can run them has run what waits."""
    kept = storage_of(found)
    add_worker(found)
    session = kept.sessions()[0].info.id
    for lease in kept.step(session, [], want=100).leases:
        kept.step(session, [End(lease.id, lease.token, State.DONE)], want=0)
    return found


def is_repaired(place: Place, found: Queue) -> Queue:
    """``pijobs flush``, and the destination took what was tried."""
    kept = storage_of(found)
    switches.flush(kept, "smtp:main")
    record = kept.group("smtp:main")
    assert record is not None
    kept.set_group("smtp:main", version=record.version, limit=None, blocked_until=None, policy=Policy().dumps())
    return found


def after_a_day(place: Place, found: Queue) -> Queue:
    now = storage_of(found).now
    place.patch.setattr(storage_of(found), "now", lambda **_: now() + 25 * 3_600_000)
    return found


def undone(place: Place, found: Queue) -> Queue:
    """Clock, disk, URL or number of records are right again."""
    place.patch.undo()
    return found


def changed(place: Place, name: str, mode: int) -> None:
    (place.folder / name).chmod(mode)


def after(found: Queue, act: Callable[[], object]) -> Queue:
    act()
    return found


def moved(place: Place, found: Queue) -> Queue:
    """A worker on this host, or with this app, has taken it over."""
    for kept in filter(None, (found.spool, found.transactions.outbox)):
        kept.forget(["i"])
    return found


def dead(found: Queue) -> str:
    [record] = storage_of(found).page(State.DEAD, limit=10).records
    return record.id


def can_be_read(place: Place, found: Queue) -> Queue:
    """A worker has the plugin now."""
    kept = storage_of(found)
    kept.make_due("smtp:main")
    return has_run(place, found)


REMEDIES: dict[str, Remedy] = {
    "queue": lambda place, found: place.queue(),
    "config_file": lambda place, found: after(found, lambda: changed(place, "pi.cfg", 0o640)),
    "key": lambda place, found: place.queue(KEYS=["k" * 32]),
    "fallback": lambda place, found: place.queue(FALLBACK=("direct",)),
    "storage": lambda place, found: place.queue(),
    "storage_path": lambda place, found: after(found, lambda: changed(place, "queue.sqlite", 0o600)),
    "storage_full": undone,
    "loss": after_a_day,
    "eviction": lambda place, found: faults.in_redis(place),
    "eviction_policy": lambda place, found: faults.in_redis(place),
    "persistence": lambda place, found: faults.in_redis(place),
    "login": lambda place, found: faults.elsewhere(place, "rediss://:password@redis.example.com/0"),
    "tls": lambda place, found: faults.elsewhere(place, "rediss://:password@redis.example.com/0"),
    "database_tls": undone,
    "clock": undone,
    "worker": lambda place, found: after(found, lambda: add_worker(found)),
    "worker_keys": lambda place, found: a_worker_with(place),
    "worker_keys_differ": lambda place, found: a_worker_with(place),
    "server_keys": lambda place, found: a_worker_with(place),
    "worker_jobs": lambda place, found: after(found, lambda: add_worker(found)),
    "worker_versions": lambda place, found: a_worker_with(place),
    "definitions": lambda place, found: a_worker_with(place, definitions=Fingerprint(found.settings).read()),
    "old_keys": lambda place, found: after(found, lambda: reencrypt(found.settings)),
    "unreadable": can_be_read,
    "oldest": has_run,
    "paused": lambda place, found: after(found, lambda: switches.resume(storage_of(found), "smtp:main")),
    "forgotten": lambda place, found: after(found, lambda: switches.resume(storage_of(found), None)),
    "bypassed": lambda place, found: after(found, lambda: storage_of(found).end_bypass("smtp:main")),
    "breakers": is_repaired,
    "destinations": is_repaired,
    "failures": lambda place, found: after(found, lambda: storage_of(found).retry(dead(found))),
    "housekeeping": undone,
    "totals": undone,
    "threads": lambda place, found: after(
        found, lambda: place.patch.setitem(sys.modules, "uwsgi", SimpleNamespace(has_threads=True, worker_id=lambda: 1))
    ),
    "bounds": has_run,
    "outbox": moved,
    "spool": moved,
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    here = Place(tmp_path, monkeypatch)
    yield here
    for queue in here.queues:
        close(queue)


@pytest.mark.parametrize("name", TABLE)
def test_what_the_page_says_makes_the_light_green(name: str, here: Place) -> None:
    found = faults.FAULTS[name](here)
    assert severity_of(dict(readiness(found))[name]) == TABLE[name].severity
    result = dict(readiness(REMEDIES[name](here, found))).get(name)
    assert result is None or severity_of(result) is None, result
