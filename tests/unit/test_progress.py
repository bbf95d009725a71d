"""A job tells how far it is, and leaves a result."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from pijobs import Handle, JobContext, State, job
from pijobs.errors import StateConflict, StorageUnavailable
from pijobs.factory import build
from pijobs.observe import instances, life
from pijobs.request.queue import Queue
from pijobs.server.pages import timeline
from pijobs.testing import ManualClock, drain, in_memory

act: Callable[[JobContext, str], Any]


@job("unit.act", keep_result=60)
def acting(ctx: JobContext, secret: str) -> Any:
    return act(ctx, secret)


@job("unit.plain")
def plain() -> int:
    return 7


@pytest.fixture
def queue(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> Queue:
    values = {"SECRET_KEY": "s", "PI_JOB_QUEUE_CLASS": "pijobs.HueyQueue", "PI_JOB_QUEUE_URL": "memory://"}
    queue = build({**values, "PI_JOB_QUEUE_PLUGINS": [__name__]}).queue
    in_memory(queue, clock)
    monkeypatch.setattr("pijobs.base.clock.monotonic", clock.monotonic)
    return queue


def run(queue: Queue, what: Callable[[JobContext, str], Any]) -> Handle:
    global act
    act = what
    handle = acting.options(queue=queue).enqueue("s3cret-word")
    drain(queue)
    return handle


def row_of(queue: Queue, instance_id: str) -> dict[str, Any]:
    return instances.explained(queue, instance_id)


def test_progress_is_seen_while_the_job_runs(queue: Queue, clock: ManualClock) -> None:
    seen: list[Any] = []

    def what(ctx: JobContext, secret: str) -> None:
        assert row_of(queue, ctx.id)["progress"] is None
        for done in range(3):
            ctx.progress(done, 3, f"page {done}")
            seen.append(row_of(queue, ctx.id)["progress"])
            clock.advance(1)

    handle = run(queue, what)
    assert [(one["done"], one["total"], one["text"]) for one in seen] == [
        (0, 3, "page 0"), (1, 3, "page 1"), (2, 3, "page 2"),
    ]  # fmt: skip
    row = row_of(queue, handle.id)
    assert row["progress"] is None and [one["event"] for one in row["history"]] == ["progress", "attempt"]


def test_people_read_it_in_words(queue: Queue) -> None:
    lines: list[str] = []

    def what(ctx: JobContext, secret: str) -> None:
        ctx.progress(40, 100, "page 40")
        lines.extend(life.life(row_of(queue, ctx.id)))

    handle = run(queue, what)
    assert any(line.endswith(" 40 of 100: page 40") for line in lines)
    assert "40 of 100" in [moment.title for moment in timeline.life(row_of(queue, handle.id))]


def test_it_is_kept_once_a_second_and_at_the_end(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    storage = queue.present_storage()
    monkeypatch.setattr(storage, "note_progress", lambda instance_id, token, line: told.append(line))

    def what(ctx: JobContext, secret: str) -> None:
        for done in range(1, 101):
            ctx.progress(done, 100)

    run(queue, what)
    assert len(told) == 2 and '"done":1,' in told[0] and '"done":100' in told[1]


def test_what_can_not_be_kept_disturbs_nothing(queue: Queue) -> None:
    storage: Any = queue.present_storage()

    def what(ctx: JobContext, secret: str) -> None:
        with storage.is_down():
            ctx.progress(1, 2)
        ctx.progress(float("nan"), object(), 3)  # type: ignore[arg-type]

    assert run(queue, what).refresh().state is State.DONE


def test_an_argument_is_not_told(queue: Queue) -> None:
    handle = run(queue, lambda ctx, secret: ctx.progress(1, 2, f"wrote {secret}"))
    assert "s3cret-word" not in str(row_of(queue, handle.id))


# -- results -----------------------------------------------------------------------------------------------------------


def test_a_result_is_kept_on_request(queue: Queue) -> None:
    handle = run(queue, lambda ctx, secret: {"rows": 3})
    assert handle.result() == {"rows": 3} == queue.handle(handle.id).result()
    assert b"rows" not in (queue.present_storage().body(handle.id) or b"")


def test_a_result_goes_in_time(queue: Queue, clock: ManualClock) -> None:
    handle = run(queue, lambda ctx, secret: 1)
    clock.advance(61)
    queue.present_storage().beat("w", lease=1000)
    with pytest.raises(Exception, match=handle.id):
        handle.result()


def test_before_the_end_there_is_none(queue: Queue) -> None:
    with pytest.raises(StateConflict, match="is queued and has no result yet"):
        acting.options(queue=queue).enqueue("x").result()


def test_without_the_option_none_is_kept(queue: Queue) -> None:
    handle = plain.options(queue=queue).enqueue()
    drain(queue)
    with pytest.raises(StateConflict, match="give its job keep_result"):
        handle.result()


@pytest.mark.parametrize("result", [object(), "x" * 100_000], ids=["unknown", "large"])
def test_what_can_not_be_kept_is_told_and_the_job_is_done(queue: Queue, result: object) -> None:
    handle = run(queue, lambda ctx, secret: result).refresh()
    assert handle.state is State.DONE and "its result is not kept" in (handle.reason or "")


def test_what_runs_in_the_request_keeps_none(queue: Queue) -> None:
    global act
    act = lambda ctx, secret: 1  # noqa: E731
    storage: Any = queue.present_storage()
    with storage.is_down(), contextlib.suppress(StorageUnavailable):
        handle = acting.options(queue=queue).enqueue("x")
    assert handle.state is State.DONE
    with pytest.raises(StateConflict, match="ran in the request"):
        handle.result()
