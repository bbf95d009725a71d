"""The fixture for plugin authors."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from pijobs.testing.simulation.bad_worlds import BadWorld, BadWorlds

PLUGIN = """
from pijobs import Job, JobContext, RetryPolicy, hookimpl

written = []

def write(ctx: JobContext, name: str) -> None:
    ctx.check()
    written.append((ctx.id, ctx.crashes))

@hookimpl
def register_jobs():
    return [Job("greeting.write", write, expires=30, retry=RetryPolicy(max_attempts=3, delay=1))]
"""


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    (tmp_path / "greeting_of_bad_worlds.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "greeting_of_bad_worlds", raising=False)
    found: list[Any] = __import__("greeting_of_bad_worlds").written
    return found


@pytest.fixture
def job_settings(written: list[Any]) -> dict[str, Any]:
    return {"PI_JOB_QUEUE_PLUGINS": ["greeting_of_bad_worlds"]}


def greet(world: BadWorld) -> None:
    for number in range(3):
        world.call("greeting.write", {"name": "Ada"}, at=2.0 * number + 1)


def test_a_job_is_done_as_often_as_promised_in_each_world(bad_worlds: BadWorlds, written: list[Any]) -> None:
    def each_is_written(world: BadWorld) -> None:
        written.clear()
        greet(world)
        for instance in world.run():
            times = [one for one, _ in written].count(instance.id or "")
            assert times <= instance.may_have_run
            assert times or instance.state in ("refused", "expired", "unknown"), instance

    bad_worlds(each_is_written, worlds=50)


def test_a_job_that_must_not_run_twice_is_found_with_its_story(bad_worlds: BadWorlds, written: list[Any]) -> None:
    def written_once(world: BadWorld) -> None:
        written.clear()
        greet(world)
        assert all([one for one, _ in written].count(instance.id) <= 1 for instance in world.run() if instance.id)

    with pytest.raises(AssertionError, match="in the world of seed=") as caught:
        bad_worlds(written_once, worlds=300)
    seed = int(str(caught.value).split("seed=")[1].split(":")[0])
    assert "greeting.write" in str(caught.value) and "worker 0" in str(caught.value)
    with pytest.raises(AssertionError, match=f"in the world of seed={seed}"):
        bad_worlds(written_once, seed=seed)
