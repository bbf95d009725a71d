"""For each line of the table of checks the fault that it tells of: every place that is made from the table tells it."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from services import wait_until

from pijobs.base.told import Told
from pijobs.definitions import Definitions, Field
from pijobs.definitions.records import Fingerprint
from pijobs.errors import StorageUnavailable
from pijobs.execution.groups import Policy
from pijobs.jobs import State
from pijobs.observe import clear_text, state_checks
from pijobs.observe.checks import TABLE, severity_of
from pijobs.observe.readiness import configuration, readiness
from pijobs.request.queue import Queue
from pijobs.server.exposition import exposition
from pijobs.server.pages.languages import OWN
from pijobs.storage.contract import Storage
from pijobs.storage.values import End, NewInstance

from .test_deployment_checks import add, add_worker, close, make_queue

#: Facts of a Redis with which nothing is wrong.
REDIS = {
    "tls": "yes", "login": "yes", "local": "no", "maxmemory": "0", "maxmemory-policy": "noeviction",
    "evicted_keys": "0", "aof_enabled": "1",
}  # fmt: skip
Fault = Callable[["Place"], Queue]
FAULTS: dict[str, Fault] = {}


def fault(make: Fault) -> Fault:
    """Makes the fault of the check that it is named for."""
    FAULTS[make.__name__.rstrip("_")] = make
    return make


@dataclass
class Place:
    """Where a test makes its queues."""

    folder: Path
    patch: pytest.MonkeyPatch
    queues: list[Queue] = field(default_factory=list)

    def queue(self, **settings: Any) -> Queue:
        settings.setdefault("URL", f"sqlite:///{self.folder}/queue.sqlite")
        file = self.folder / "pi.cfg"
        file.touch(0o600)
        self.queues.append(make_queue(settings.pop("URL"), file, **settings))
        return self.queues[-1]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    place = Place(tmp_path, monkeypatch)
    yield place
    for queue in place.queues:
        close(queue)


def storage_of(queue: Queue) -> Storage:
    assert queue.storage is not None
    return queue.storage


# -- settings and storage --------------------------------------------------------------------------------------------


@fault
def queue(place: Place) -> Queue:
    return place.queue(CLASS="no.such.Class")


@fault
def config_file(place: Place) -> Queue:
    found = place.queue()
    (place.folder / "pi.cfg").chmod(0o644)
    return found


@fault
def key(place: Place) -> Queue:
    return place.queue(KEYS=["k" * 23])


@fault
def threads(place: Place) -> Queue:
    place.patch.setitem(sys.modules, "uwsgi", SimpleNamespace(has_threads=False, worker_id=lambda: 1))
    return place.queue()


@fault
def fallback(place: Place) -> Queue:
    return place.queue()


@fault
def storage(place: Place) -> Queue:
    return place.queue(URL="redis://127.0.0.1:1/0")


@fault
def storage_path(place: Place) -> Queue:
    found = place.queue()
    storage_of(found).ping()
    (place.folder / "queue.sqlite").chmod(0o644)
    return found


@fault
def storage_full(place: Place) -> Queue:
    found = place.queue()
    facts = {**storage_of(found).diagnose(), "disk free": "1"}
    place.patch.setattr(storage_of(found), "diagnose", lambda: facts)
    return found


@fault
def loss(place: Place) -> Queue:
    found = place.queue()
    storage_of(found).note_loss("emptied")
    return found


def in_redis(place: Place, **facts: str) -> Queue:
    found = place.queue()
    place.patch.setattr(storage_of(found), "diagnose", lambda: {**REDIS, **facts})
    return found


@fault
def eviction(place: Place) -> Queue:
    return in_redis(place, **{"maxmemory-policy": "allkeys-lru", "evicted_keys": "3"})


@fault
def eviction_policy(place: Place) -> Queue:
    return in_redis(place, **{"maxmemory-policy": "volatile-lru"})


@fault
def persistence(place: Place) -> Queue:
    return in_redis(place, aof_enabled="0", save="")


@fault
def login(place: Place) -> Queue:
    return elsewhere(place, "rediss://redis.example.com/0")


@fault
def tls(place: Place) -> Queue:
    return elsewhere(place, "redis://:password@redis.example.com/0")


@fault
def database_tls(place: Place) -> Queue:
    url = "postgresql+psycopg://user:password@db.example.com/pijobs"
    place.patch.setattr(clear_text, "database", lambda settings: clear_text._sql("DATABASE", url, settings))
    return place.queue()


def elsewhere(place: Place, url: str) -> Queue:
    """A queue that is read as one on another machine."""
    found = place.queue()
    found.settings = found.settings.replaced({"PI_JOB_QUEUE_URL": url})
    return found


@fault
def clock(place: Place) -> Queue:
    found = place.queue()
    now = storage_of(found).now
    place.patch.setattr(storage_of(found), "now", lambda **_: now() + 60_000)
    return found


@fault
def spool(place: Place) -> Queue:
    found = place.queue(SPOOL=f"{place.folder}/spool.sqlite", READY_MAX_AGE=0.001)
    assert found.spool is not None
    found.spool.enqueue(NewInstance("i", "test.job", b"e", b"b", "g", created=found.spool.now()), timeout=5)
    return found


@fault
def outbox(place: Place) -> Queue:
    database = f"sqlite:///{place.folder}/app.sqlite"
    found = place.queue(OUTBOX=True, READY_MAX_AGE=0.001, SQLALCHEMY_DATABASE_URI=database)
    kept = found.transactions.outbox
    assert kept is not None
    kept.enqueue(NewInstance("i", "test.job", b"e", b"b", "g", created=kept.now()), timeout=5)
    return found


# -- workers ---------------------------------------------------------------------------------------------------------


@fault
def worker(place: Place) -> Queue:
    return place.queue()


@fault
def worker_keys(place: Place) -> Queue:
    found = place.queue()
    add_worker(found, "another")
    return found


@fault
def worker_keys_differ(place: Place) -> Queue:
    found = place.queue()
    add_worker(found, "another")
    add_worker(found)
    return found


@fault
def server_keys(place: Place) -> Queue:
    found = place.queue()
    add_worker(found, other_keys={"old": storage_of(found).now()})
    return found


@fault
def worker_jobs(place: Place) -> Queue:
    found = place.queue(PLUGINS=("mail",))
    add_worker(found, jobs=())
    return found


@fault
def worker_versions(place: Place) -> Queue:
    found = place.queue()
    add_worker(found, version="0.0.9")
    return found


@fault
def definitions(place: Place) -> Queue:
    found = place.queue()
    Definitions("smtpserver", [Field("server")]).open(found.settings).save("main", {"server": "h"})
    assert Fingerprint(found.settings).read()
    add_worker(found, definitions="another")
    return found


@fault
def old_keys(place: Place) -> Queue:
    before = place.queue(KEYS=["old"])
    Definitions("smtpserver", [Field("password", secret=True)]).open(before.settings).save("main", {"password": "p"})
    return place.queue(KEYS=["new", "old"])


# -- what stands in the queue ----------------------------------------------------------------------------------------


def leased(found: Queue) -> tuple[str, Callable[[End], object], str]:
    """Id and token of an instance that a worker took, and how its lease ends."""
    add_worker(found)
    instance, kept = add(found, "smtp:main"), storage_of(found)
    session = kept.sessions()[0].info.id
    (lease,) = kept.step(session, [], want=1).leases
    return instance, lambda end: kept.step(session, [end], want=0), lease.token


@fault
def unreadable(place: Place) -> Queue:
    found = place.queue()
    instance, end, token = leased(found)
    now = storage_of(found).now()
    entry = json.dumps({"at": now - int(state_checks.HELD_GRACE * 1000), "event": "held", "reason": "no job x"})
    end(End(instance, token, State.SCHEDULED, counted=False, reason="no job x", entry=entry, due=now + 60_000))
    # What waits for its time is no reason to overlook it.
    for _ in range(state_checks.SAMPLE + 1):
        add(found, "smtp:main", due=now + 3_600_000)
    return found


@fault
def oldest(place: Place) -> Queue:
    found = place.queue(READY_MAX_AGE=0.001)
    add(found, "smtp:main")
    wait_until(lambda: not dict(readiness(found))["oldest"].ok, what="lateness")
    return found


@fault
def paused(place: Place) -> Queue:
    found = place.queue()
    storage_of(found).pause("smtp:main", by="root", reason="moving house")
    return found


@fault
def forgotten(place: Place) -> Queue:
    found = place.queue()
    kept = storage_of(found)
    with patch.object(kept, "now", lambda **_: round((time.time() - 5 * 3600) * 1000)):
        kept.pause(by="root", reason="moving house")
    return found


@fault
def bypassed(place: Place) -> Queue:
    found = place.queue()
    storage_of(found).bypass("smtp:main", by="root", reason="the workers hang")
    return found


def decided(found: Queue, policy: Policy) -> Queue:
    kept = storage_of(found)
    add(found, "smtp:main")
    record = kept.group("smtp:main")
    assert record is not None
    assert kept.set_group(
        "smtp:main", version=record.version, limit=1, blocked_until=kept.now() + 60_000, policy=policy.dumps()
    )
    return found


@fault
def breakers(place: Place) -> Queue:
    return decided(place.queue(), Policy(failures=4, opened=2, reason="connection refused"))


@fault
def destinations(place: Place) -> Queue:
    return decided(place.queue(), Policy(reason="421 too many connections"))


@fault
def failures(place: Place) -> Queue:
    found = place.queue()
    instance, end, token = leased(found)
    end(End(instance, token, State.DEAD, reason="550 no such user"))
    return found


@fault
def housekeeping(place: Place) -> Queue:
    place.patch.setattr(state_checks, "BACKLOG", 0)
    return place.queue()


@fault
def totals(place: Place) -> Queue:
    place.patch.setattr(state_checks, "MAX_TOTALS", 0)
    return place.queue()


@fault
def bounds(place: Place) -> Queue:
    found = place.queue(BOUNDS={"*": {"waiting": 1}})
    add(found, "smtp:main")
    return found


# -- what is told of each --------------------------------------------------------------------------------------------


def test_each_line_has_its_fault() -> None:
    assert set(FAULTS) == set(TABLE)


@pytest.mark.parametrize("name", TABLE)
def test_each_place_tells_the_fault_by_its_severity_with_what_to_do(name: str, place: Place) -> None:
    found, severity = FAULTS[name](place), TABLE[name].severity
    result = dict(readiness(found))[name]
    assert severity_of(result) == severity and result.message and result.advice, result
    assert f'pijobs_check_failing{{check="{name}",severity="{severity}"}} 1.0' in exposition(found).decode()
    if name == "storage":
        with pytest.raises(StorageUnavailable):
            configuration(found)
        return
    there = dict(configuration(found))[name]
    assert there.message and severity_of(there) == ("warning" if name == "worker" else severity)


@pytest.mark.parametrize("name", TABLE)
def test_each_fault_is_told_in_german(name: str, place: Place) -> None:
    result = dict(readiness(FAULTS[name](place)))[name]
    german = json.loads((OWN / "de.json").read_text("utf-8"))
    templates = [text for told in (result.message, result.advice) for text in templates_in(told)]
    assert [text for text in templates if text not in german and re.search("[a-z]", re.sub("{.*?}", "", text))] == []


def templates_in(told: object) -> Iterator[str]:
    assert isinstance(told, Told)
    yield told.template
    for value in told.values.values():
        if isinstance(value, Told):
            yield from templates_in(value)


def test_many_jobs_that_wait_for_their_time_cost_readiness_a_bounded_number_of_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_checks, "SAMPLE", 1)
    monkeypatch.setattr(state_checks, "ALL_SAMPLES", 6)
    found = make_queue(f"sqlite:///{tmp_path}/queue.sqlite")
    for number in range(9):
        add(found, "group", name=f"test.job{number % 3}", due=storage_of(found).now() + 3_600_000)
    with patch.object(found.storage, "page", wraps=storage_of(found).page) as page:
        assert dict(readiness(found))["unreadable"].ok
    asked = [call for call in page.call_args_list if call.args[0] is State.SCHEDULED and "name" in call.kwargs]
    assert len(asked) == 6
