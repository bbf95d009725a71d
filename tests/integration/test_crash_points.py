"""A process dies right before and right after each of its calls to the storage, one run per point.

Whatever the point: once ``enqueue`` returned the job is done in the end, it has not ended before its effect, and a
second run happens only where the process died between effect and acknowledgement.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
#: Some dozens of processes; on a busy machine that takes its time.
pytestmark = pytest.mark.timeout(600)


def also_by_chaos(kind: str) -> Any:
    """A simulation shows on each storage that it may end at any step, so "make test" does on one that a process may."""
    return pytest.param(kind, marks=pytest.mark.chaos)


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """``QUEUE`` stands for the name of the queue."""
    if request.param == "redis":
        return str(request.getfixturevalue("redis_url"))
    return f"sqlite:///{tmp_path}/QUEUE.sqlite"


def points_of(life: str, url: str, folder: Path) -> list[dict[str, Any]]:
    """What was found at each point, in their order."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}
    done = subprocess.run(
        [sys.executable, str(HERE / "crash_points.py"), life, url, str(folder)],
        env=environment, capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return sorted(found, key=lambda one: (one["point"], one["side"] == "after"))


def shown(point: dict[str, Any]) -> str:
    return f"died {point['side']} call {point['point']} ({point['call']}): {point}"


@pytest.mark.parametrize("url", ["redis", also_by_chaos("sqlite")], indirect=True)
def test_a_worker_may_die_at_any_call_in_the_life_of_a_job(url: str, tmp_path: Path) -> None:
    points = points_of("life_of_a_job", url, tmp_path)
    calls = [point["call"] for point in points if point["side"] == "before"]
    for expected in ("enqueue_many", "open_session", "beat", "step", "count", "group", "set_group", "close_session"):
        assert expected in calls
    # The job runs after its rate was counted, and is acknowledged before its worker takes leave.
    counted, closed = calls.index("count"), calls.index("close_session")
    for point in points:
        assert point["left"] != "done" or point["effects_left"] == 1, shown(point)
        if point["left"] is None:
            assert not point["returned"] and point["effects"] == 0, shown(point)
            continue
        assert point["state"] == "done", shown(point)
        # It runs again only if it died between effect and acknowledgement.
        assert point["effects"] == point["effects_left"] + (point["left"] != "done"), shown(point)
        place = (point["point"], point["side"] == "after")
        if place <= (counted, True):
            assert point["effects_left"] == 0, shown(point)
        if place >= (closed, False):
            assert point["left"] == "done", shown(point)


@pytest.mark.parametrize("url", ["sqlite", also_by_chaos("redis")], indirect=True)
def test_a_server_may_die_at_any_call_while_it_moves_the_spool(url: str, tmp_path: Path) -> None:
    points = points_of("life_in_the_spool", url, tmp_path)
    calls = [point["call"] for point in points if point["side"] == "before"]
    assert calls == ["enqueue", "take_out", "enqueue", "forget"]
    for point in points:
        if point["left"] is None:
            assert not point["returned"] and point["effects"] == 0, shown(point)
        else:
            assert (point["state"], point["effects"]) == ("done", 1), shown(point)
