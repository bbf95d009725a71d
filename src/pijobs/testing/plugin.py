"""The fixtures of :mod:`pijobs.testing`; pytest loads them by an entry point where pijobs is installed.

Override ``job_settings`` to change settings of ``pi.cfg``, or ``job_app`` to test a Flask app with its ``JobQueue``.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pijobs.base import clock, guard

# Other projects' test runs must not import what they do not use; the fixtures import the rest.
if TYPE_CHECKING:
    import flask

    from pijobs.request.queue import Queue
    from pijobs.testing import Drained, Enqueued, ManualClock
    from pijobs.testing.simulation.bad_worlds import BadWorlds


_REAL = "pijobs_real_storage"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(_REAL, "whether all tests may enqueue into a real storage", type="bool", default=False)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"{_REAL}: the test may enqueue into a real storage, which is its own")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Fail a test that would enqueue into a real storage, where a worker could run the job."""
    before = guard.before_storing
    if not item.config.getini(_REAL) and item.get_closest_marker(_REAL) is None:
        guard.before_storing = _refuse_real_storage
    try:
        return (yield)
    finally:
        guard.before_storing = before


def _refuse_real_storage(queue: Queue) -> None:
    assert queue.storage is not None
    if not queue.storage.display_url.startswith("memory:"):
        pytest.fail(
            f"the test would put a job into the real queue {queue.storage.display_url}; use the fixture job_queue "
            f"(with job_app for the queue of an app), or mark the test @pytest.mark.{_REAL} if that storage is its own",
            pytrace=False,
        )


@pytest.fixture
def job_settings() -> dict[str, Any]:
    """The settings of the queue under test, as in a ``pi.cfg``. Override this fixture."""
    return {}


@pytest.fixture
def job_app() -> flask.Flask | None:
    """The Flask app whose ``JobQueue`` is tested, and in whose context jobs run. Override this fixture."""
    return None


@pytest.fixture
def job_clock() -> ManualClock:
    """The clock of the queue's storage. It moves only by ``job_clock.advance(seconds)``."""
    from pijobs.testing import ManualClock

    return ManualClock(clock.time())


@pytest.fixture
def job_queue(
    job_settings: dict[str, Any], job_app: flask.Flask | None, job_clock: ManualClock, tmp_path: Path
) -> Iterator[Queue]:
    """A queue in memory with the real codec and the installed plugins (or those of ``PI_JOB_QUEUE_PLUGINS``).

    Without a ``job_app``, it belongs to a bare Flask app, which is the current app, as in a worker.
    """
    from flask import Flask

    from pijobs.factory import OWN_CLASS, build
    from pijobs.flask import EXTENSION
    from pijobs.testing import in_memory

    app = job_app or Flask("pijobs.testing")
    if job_app is None:
        first = {"SECRET_KEY": "only for tests", "PI_JOB_QUEUE_CLASS": OWN_CLASS, "PI_JOB_QUEUE_URL": "memory://"}
        app.extensions[EXTENSION] = build({**first, **job_settings}, directory=tmp_path)
    queue: Queue = app.extensions[EXTENSION].queue
    queue.plugins.refuse_failed()  # the plugin under test may be one of them
    if queue.mode == "queued":  # the other modes, off and immediate, use no storage
        in_memory(queue, job_clock)
    with app.app_context() if job_app is None else nullcontext():
        yield queue


@pytest.fixture
def enqueued(job_queue: Queue) -> Callable[..., list[Enqueued]]:
    """``enqueued()`` or ``enqueued("sms.send")``: the waiting instances, with their arguments."""
    from pijobs.testing import enqueued

    return partial(enqueued, job_queue)


@pytest.fixture
def assert_enqueued(job_queue: Queue) -> Callable[..., Enqueued]:
    """``assert_enqueued("sms.send", phone="+49…")``: assert that one such instance waits, and return it."""
    from pijobs.testing import assert_enqueued

    return partial(assert_enqueued, job_queue)


@pytest.fixture
def drain(job_queue: Queue, job_app: flask.Flask | None, job_clock: ManualClock) -> Callable[..., list[Drained]]:
    """``drain()`` runs due jobs; ``drain(retries=True)`` advances the clock until none waits. Returns the attempts."""
    from pijobs.testing import drain

    def run(*, retries: bool = False) -> list[Drained]:
        context = nullcontext if job_app is None else job_app.app_context
        return drain(job_queue, clock=job_clock if retries else None, app_context=context)

    return run


@pytest.fixture
def bad_worlds(job_settings: dict[str, Any], tmp_path: Path) -> BadWorlds:
    """``bad_worlds(test, worlds=100)`` calls ``test(world)`` for that number of simulated worlds with failing storages
    and processes; see *How-to, test a plugin*."""
    pytest.importorskip("greenlet", reason="the simulation needs greenlet: pip install greenlet")
    from pijobs.testing.simulation.bad_worlds import BadWorlds

    return BadWorlds(job_settings, tmp_path)


@pytest.fixture
def storage_down(job_queue: Queue) -> Callable[[], AbstractContextManager[None]]:
    """``with storage_down(): …``: meanwhile the storage does not answer."""
    from pijobs.testing import SwitchedStorage

    assert isinstance(job_queue.storage, SwitchedStorage)
    return job_queue.storage.is_down
