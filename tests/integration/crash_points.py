"""Lives of one job in processes that end at a chosen call to a storage. A program; see ``test_crash_points``.

``python crash_points.py LIFE URL FOLDER`` runs a life once from end to end to learn its calls, then once for each point
before and after each of them, as a process that dies there; then another process finishes what is left. Prints what it
found, one JSON object for each point.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import flask

from pijobs import Job, Limits, hookimpl
from pijobs.factory import Installation, build
from pijobs.jobs import ENDED, State
from pijobs.request import spool
from pijobs.request.calls import JobCall, checked
from pijobs.storage.contract import Storage
from pijobs.storage.records import Record
from pijobs.worker.main import WorkerOptions, make_engine

JOB = "crash.effect"
#: Seconds after which another process must have finished the job.
PATIENCE = 30.0
#: Points that are tried at the same time.
AT_ONCE = 8
#: Seconds; shorter than in real life, since each point waits for it.
spool.HOLD = 1.5


def effect(file: str) -> None:
    with open(file, "a", encoding="utf-8") as out:
        out.write("effect\n")


@hookimpl
def register_jobs(settings: object) -> list[Job]:
    # A group of its own with a rate: so its life has all calls that a life can have.
    return [Job(JOB, effect, group=lambda file: "destination", limits=Limits(concurrency=5, rate=100, per=1))]


class Traced:
    """A storage that notes each call of the main thread, and ends the process before or after one of them."""

    def __init__(self, storage: Storage, calls: list[str], crash: tuple[int, str] | None) -> None:
        self._storage, self._calls, self._crash = storage, calls, crash

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._storage, name)
        if not callable(value) or name in ("now", "close"):
            return value

        def call(*args: Any, **kwargs: Any) -> Any:
            if threading.current_thread() is not threading.main_thread():
                return value(*args, **kwargs)
            self._calls.append(name)
            point = len(self._calls) - 1
            if self._crash == (point, "before"):
                os._exit(0)
            result = value(*args, **kwargs)
            if self._crash == (point, "after"):
                os._exit(0)
            return result

        return call


@dataclass
class Place:
    """What one point has to itself: a queue, and a file for the effects."""

    url: str
    folder: Path
    name: str
    with_spool: bool

    @property
    def effects(self) -> Path:
        return self.folder / f"{self.name}.effects"

    @property
    def handle(self) -> Path:
        """Written once ``enqueue`` returned."""
        return self.folder / f"{self.name}.id"

    def installation(self, calls: list[str] | None = None, crash: tuple[int, str] | None = None) -> Installation:
        options = {"URL": self.url, "NAME": self.name, "LEASE": 1, "FALLBACK": (), "ENQUEUE_TIMEOUT": 10}
        options |= {"CLASS": "pijobs.HueyQueue", "PLUGINS": ("crash_points",)}
        if self.with_spool:
            options["SPOOL"] = str(self.folder / f"{self.name}.spool")
        made = build({"SECRET_KEY": "s", **{f"PI_JOB_QUEUE_{name}": value for name, value in options.items()}})
        if calls is not None:
            queue: Any = made.queue
            queue.storage = Traced(queue.storage, calls, crash)
            if self.with_spool:
                queue.spool = Traced(queue.spool, calls, crash)
                queue.enqueuer.mover = spool.Mover(queue.spool, queue.storage, queue.codec, 10)
        return made


def work(place: Place, installation: Installation, is_over: Callable[[], bool]) -> None:
    """A worker with one slot, on this thread."""
    engine = make_engine(installation, flask.Flask("crash"), WorkerOptions())
    engine.enter(None)
    end = time.monotonic() + PATIENCE
    while not is_over() and time.monotonic() < end:
        task = engine.dequeue()
        if task is not None:
            engine.execute(task)
    engine.leave()
    engine.close()


def enqueue(place: Place, installation: Installation) -> str:
    handle = installation.queue.enqueue(JOB, [str(place.effects)])
    place.handle.write_text(handle.id)
    return handle.id


def life_of_a_job(place: Place, installation: Installation) -> None:
    """Enqueued, leased, run, ended."""
    enqueue(place, installation)
    turns = iter([False, False, True])
    work(place, installation, lambda: next(turns))


def life_in_the_spool(place: Place, installation: Installation) -> None:
    """Spooled, and moved to the storage."""
    queue: Any = installation.queue
    _, call = checked(queue.registry, JOB, [str(place.effects)], {})
    new = queue._instance(queue.registry[JOB], uuid4().hex, call, JobCall(JOB))
    queue.spool.enqueue(new, timeout=10)
    place.handle.write_text(new.id)
    queue.enqueuer.mover.move()


def find(place: Place, installation: Installation) -> Record | None:
    """The record, wherever it is now."""
    found = None
    for storage in filter(None, (installation.queue.spool, installation.queue.storage)):
        for state in State:
            for record in storage.page(state).records:
                found = record if found is None or record.state in ENDED else found
    return found


def finish(place: Place) -> dict[str, Any]:
    """What was left by the process that died, and what another one makes of it."""
    installation = place.installation()
    returned, left = place.handle.exists(), find(place, installation)
    effects = count_effects(place)
    result = {"returned": returned, "left": left and left.state, "effects_left": effects}

    def is_over() -> bool:
        record = find(place, installation)
        mover = installation.queue.enqueuer.mover
        if mover is not None:
            mover.look_soon()
            mover.after_enqueue()
        return record is not None and record.state in ENDED

    if left is not None:
        work(place, installation, is_over)
    last = find(place, installation)
    return {**result, "state": last and last.state, "effects": count_effects(place)}


def count_effects(place: Place) -> int:
    return len(place.effects.read_text().splitlines()) if place.effects.exists() else 0


def in_child(what: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            what()
            code = 0
        finally:
            sys.stdout.flush()
            os._exit(code)
    return child


def main(life_name: str, url: str, folder: str) -> None:
    life = globals()[life_name]
    trace = Path(folder) / "trace"

    def place_of(name: str) -> Place:
        name = f"crash-{uuid4().hex[:8]}-{name}"
        return Place(url.replace("QUEUE", name), Path(folder), name, life is life_in_the_spool)

    def learn() -> None:
        calls: list[str] = []
        place = place_of("trace")
        life(place, place.installation(calls))
        trace.write_text(json.dumps(calls))

    def one_point(point: int, side: str, call: str) -> None:
        place = place_of(f"{point}-{side}")
        dead = in_child(lambda: life(place, place.installation([], (point, side))))
        os.waitpid(dead, 0)
        line = json.dumps({"point": point, "side": side, "call": call, **finish(place)})
        os.write(1, f"{line}\n".encode())

    assert os.waitstatus_to_exitcode(os.waitpid(in_child(learn), 0)[1]) == 0
    calls = list(enumerate(json.loads(trace.read_text())))
    points = [(point, side, call) for point, call in calls for side in ("before", "after")]
    # Most of the time they wait for a lease to run out, so some of them at once.
    for first in range(0, len(points), AT_ONCE):
        children = [in_child(partial(one_point, *point)) for point in points[first : first + AT_ONCE]]
        assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * len(children)


if __name__ == "__main__":
    main(*sys.argv[1:])
