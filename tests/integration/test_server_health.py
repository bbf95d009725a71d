"""What machines ask: alive, ready, and the numbers."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from integration.served import add_instance, add_worker, make_app, queue_of, storage_of, value_of
from prometheus_client.parser import text_string_to_metric_families
from services import wait_until

from pijobs.execution.groups import Policy
from pijobs.jobs import Job, State
from pijobs.metrics.counting import MOST_SERIES, Metrics
from pijobs.metrics.definitions import BOUNDS
from pijobs.observe.readiness import readiness as checks_of
from pijobs.observe.sentences import LOSS_TOLD, sentences
from pijobs.observe.state_checks import BACKLOG
from pijobs.observe.status import overview
from pijobs.plugins.hookspecs import Check, CheckResult, hookimpl
from pijobs.server.health import serve_health
from pijobs.storage.values import MAX_TOTALS

#: The name of a plugin that is this module.
JOBS = "integration.test_server_health"


@hookimpl
def register_jobs() -> list[Job]:
    return [Job("under_test.nothing", lambda: None)]


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    return make_app(tmp_path)


def readiness(app: Flask) -> tuple[int, dict[str, Any]]:
    response = app.test_client().get("/healthz")
    value = value_of(response)
    assert (value["status"] == "healthy") is (response.status_code == 200)
    checks: dict[str, Any] = value["checks"]
    return response.status_code, checks


def red(app: Flask) -> dict[str, str]:
    """The checks that are not ok, and what they found; each must tell what to do."""
    status, checks = readiness(app)
    found = {name: check["message"] for name, check in checks.items() if not check["ok"]}
    assert status == (503 if found else 200)
    assert all(checks[name]["advice"] for name in found)
    return found


def metrics(app: Flask) -> dict[tuple[str, ...], float]:
    """Name and label values of each sample, in the order of the names of the labels."""
    response = app.test_client().get("/metrics")
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    families = text_string_to_metric_families(response.text)
    return {(row.name, *row.labels.values()): row.value for family in families for row in family.samples}


def metrics_of(app: Flask) -> Metrics:
    """What the process of this app counts."""
    return queue_of(app).metrics


def shut_storage(app: Flask, tmp_path: Path) -> None:
    """Make the file of the queue none of SQLite's."""
    storage_of(app).close()
    for path in tmp_path.glob("queue.sqlite*"):
        path.unlink()
    (tmp_path / "queue.sqlite").mkdir()


def test_a_process_that_answers_is_alive(app: Flask, tmp_path: Path) -> None:
    shut_storage(app, tmp_path)
    assert value_of(app.test_client().get("/livez")) == {"status": "OK"}


def test_with_a_worker_the_server_is_ready(app: Flask) -> None:
    add_worker(app)
    status, checks = readiness(app)
    assert status == 200
    assert {"storage", "worker", "worker_keys", "oldest", "breakers"} <= set(checks)


def test_a_worker_that_was_never_seen_is_red(app: Flask) -> None:
    assert red(app) == {"worker": "no worker was ever seen"}


def test_a_storage_that_does_not_answer_is_red(app: Flask, tmp_path: Path) -> None:
    shut_storage(app, tmp_path)
    assert list(red(app)) == ["storage"]


def test_a_worker_with_another_key_is_red(app: Flask) -> None:
    add_worker(app, keys=("another",))
    assert list(red(app)) == ["worker_keys"]
    add_worker(app)
    assert red(app) == {}


def test_what_waits_too_long_is_red_unless_the_queue_is_paused(tmp_path: Path) -> None:
    app = make_app(tmp_path, READY_MAX_AGE=0.001)
    add_worker(app)
    assert red(app) == {}
    add_instance(app)
    wait_until(lambda: list(red(app)) == ["oldest"])
    storage_of(app).pause()
    assert red(app) == {}


def test_a_destination_that_stays_down_is_red_while_somebody_waits_for_it(app: Flask) -> None:
    add_worker(app)
    instance = add_instance(app, group="smtp:main")
    assert red(app) == {}
    down = Policy(limit=1, failures=4, opened=2).dumps()
    known = storage_of(app).group("smtp:main")
    version = known.version if known else 0
    until = storage_of(app).now() + 60_000
    assert storage_of(app).set_group("smtp:main", version=version, limit=1, blocked_until=until, policy=down)
    assert list(red(app)) == ["breakers"]
    assert "smtp:main" in red(app)["breakers"]
    storage_of(app).cancel(instance, reason="a test")
    assert red(app) == {}


@pytest.mark.parametrize(("settings", "told"), [({"CLASS": ""}, "off"), ({"IMMEDIATE": True}, "immediate")])
def test_a_server_that_needs_no_worker_is_ready_and_says_why(
    tmp_path: Path, settings: dict[str, Any], told: str
) -> None:
    status, checks = readiness(make_app(tmp_path, **settings))
    assert status == 200
    assert told in checks["queue"]["message"]


def test_a_spool_that_nobody_empties_is_red(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = make_app(tmp_path, SPOOL=str(tmp_path / "spool.sqlite"), READY_MAX_AGE=0.001)
    add_worker(app)
    assert red(app) == {}
    spool = queue_of(app).spool
    assert spool is not None
    monkeypatch.setattr(queue_of(app), "storage", spool)
    add_instance(app)
    monkeypatch.undo()
    wait_until(lambda: list(red(app)) == ["oldest", "spool"])


def no_answer() -> CheckResult:
    raise RuntimeError("the password is hunter2")


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        (lambda: CheckResult(True, "all is well"), {}),
        (lambda: CheckResult(False, "no disk", "buy one"), {"under_test.disk": "no disk"}),
        (no_answer, {"under_test.disk": "the check itself failed (RuntimeError)"}),
    ],
)
@pytest.mark.parametrize("settings", [{}, {"CLASS": ""}])
def test_plugins_add_checks(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run: Callable[[], CheckResult],
    expected: dict[str, str],
    settings: dict[str, Any],
) -> None:
    app = make_app(tmp_path, **settings)
    if queue_of(app).storage:
        add_worker(app)
    monkeypatch.setattr(queue_of(app).plugins, "call", lambda hook, **_: [("under_test", [Check("disk", run)])])
    assert red(app) == expected
    assert "under_test.disk" in readiness(app)[1]


def test_metrics_count_instances_by_job_and_state(app: Flask) -> None:
    add_instance(app, State.DEAD)
    add_instance(app, name="other.job")
    add_worker(app)
    found = metrics(app)
    assert found["pijobs_instances", "test.job", "dead"] == 1
    assert found["pijobs_instances", "other.job", "queued"] == 1
    assert found[("pijobs_worker_processes",)] == 1
    assert found[("pijobs_storage_up",)] == 1


def test_late_housekeeping_and_a_full_table_of_series_are_warnings(app: Flask) -> None:
    add_worker(app)
    answer = overview(queue_of(app))
    assert (answer["backlog"], answer["totals"]) == (0, 0)
    for late in (False, True):
        numbers = {"backlog": BACKLOG if late else BACKLOG - 1, "totals": MAX_TOTALS if late else MAX_TOTALS - 1}
        checks = dict(checks_of(queue_of(app), {**answer, **numbers}))
        for name in ("housekeeping", "totals"):
            assert (checks[name].ok, checks[name].warning, bool(checks[name].advice)) == (True, late, late)


def test_a_storage_that_lost_something_is_red_for_a_day(app: Flask) -> None:
    add_worker(app)
    queue = queue_of(app)
    assert dict(checks_of(queue, overview(queue)))["loss"].ok
    storage_of(app).note_loss("emptied")
    answer = overview(queue)
    loss = answer["loss"]
    assert loss["kind"] == "emptied" and loss["at"]
    for age, ok in ((loss["age"], False), (LOSS_TOLD, True)):
        check = dict(checks_of(queue, {**answer, "loss": {**loss, "age": age}}))["loss"]
        assert (check.ok, check.warning, bool(check.advice)) == (ok, False, not ok)
        assert ("was emptied" in check.message and loss["at"] in check.message) == (age < LOSS_TOLD)
    assert any("was emptied" in line for line in sentences(answer))


def test_metrics_tell_what_housekeeping_and_totals_left(app: Flask) -> None:
    storage = storage_of(app)
    storage.add_totals({"pijobs_a_total": 1, "pijobs_b_total": 1}, most=1)
    add_instance(app, deadline=storage.now() - 1)
    found = metrics(app)
    assert found[("pijobs_housekeeping_backlog",)] == 1
    assert found[("pijobs_totals_left_out_total",)] == 1
    assert found[("pijobs_totals",)] == 2


def test_groups_are_listed_page_by_page_and_counted_all(app: Flask) -> None:
    for number in range(1003):
        storage_of(app).pause(f"group {number:04}")
    assert len(overview(queue_of(app))["groups"]) == 1003
    assert len([key for key in metrics(app) if key[0] == "pijobs_group_paused"]) == MOST_SERIES


def test_metrics_tell_the_outage_of_the_storage(app: Flask, tmp_path: Path) -> None:
    shut_storage(app, tmp_path)
    assert metrics(app)[("pijobs_storage_up",)] == 0


def test_metrics_of_all_processes_are_told_by_each(app: Flask, tmp_path: Path) -> None:
    other = make_app(tmp_path)
    for one in (app, other):
        metrics_of(one).attempt("test.job", "smtp:main", "done", waited=0.02, took=0.3, since_enqueue=2)
    metrics(other), metrics(app)
    last = metrics(other)
    assert last["pijobs_attempts_total", "smtp:main", "test.job", "done"] == 2
    assert metrics(app) | {("pijobs_worker_seen_seconds",): 0} == last | {("pijobs_worker_seen_seconds",): 0}


def test_a_histogram_has_the_same_bounds_always_and_counts_from_below(app: Flask) -> None:
    for took in (0.004, 0.3, 100_000):
        metrics_of(app).attempt("test.job", "g", "scheduled", waited=0, took=took, since_enqueue=None)
    found = metrics(app)
    buckets = {key[-1]: value for key, value in found.items() if key[0] == "pijobs_run_seconds_bucket"}
    assert list(buckets) == [*map(repr, BOUNDS), "+Inf"]
    assert (buckets["0.005"], buckets["0.25"], buckets["0.5"], buckets["3600.0"], buckets["+Inf"]) == (1, 1, 2, 2, 3)
    assert found["pijobs_run_seconds_count", "g", "test.job"] == 3
    assert found["pijobs_run_seconds_sum", "g", "test.job"] == pytest.approx(100_000.304)


def test_counters_stay_away_while_the_storage_is(app: Flask, tmp_path: Path) -> None:
    metrics_of(app).lease_lost()
    assert metrics(app)[("pijobs_leases_lost_total",)] == 1
    shut_storage(app, tmp_path)
    metrics_of(app).lease_lost()
    assert {name for name, *_ in metrics(app)} == {"pijobs_storage_up", "pijobs_check_failing"}


def test_metrics_tell_the_breakers_and_what_waits_for_them(app: Flask) -> None:
    add_instance(app, group="smtp:main")
    down = Policy(limit=1, failures=4, opened=2).dumps()
    until = storage_of(app).now() + 60_000
    known = storage_of(app).group("smtp:main")
    version = known.version if known else 0
    assert storage_of(app).set_group("smtp:main", version=version, limit=1, blocked_until=until, policy=down)
    storage_of(app).pause("other")
    found = metrics(app)
    assert [found["pijobs_breaker", "smtp:main", state] for state in ("closed", "half-open", "open")] == [0, 0, 1]
    assert found["pijobs_breaker", "other", "closed"] == 1
    assert found["pijobs_group_instances", "smtp:main", "waiting"] == 1
    assert (found["pijobs_group_paused", "smtp:main"], found["pijobs_group_paused", "other"]) == (0, 1)


def test_what_jobs_measure_is_shown_with_their_labels(app: Flask) -> None:
    metrics_of(app).measure("test.job", "smtp_replies", 2, {"server": 'a "main" \\ one', "code": "2xx"})
    assert metrics(app)["pijobs_smtp_replies_total", "2xx", "test.job", 'a "main" \\ one'] == 2


def test_counters_with_a_short_list_of_values_begin_at_zero(app: Flask) -> None:
    found = metrics(app)
    assert found["pijobs_signs_of_life_total", "unanswered"] == found[("pijobs_leases_lost_total",)] == 0


def test_a_fallback_of_a_server_is_counted(tmp_path: Path) -> None:
    app = make_app(tmp_path, PLUGINS=(JOBS,), WITHOUT_WORKER="direct")
    assert metrics(app)["pijobs_fallbacks_total", "under_test.nothing", "without_worker"] == 0
    queue_of(app).enqueue("under_test.nothing", expires=60)
    assert metrics(app)["pijobs_fallbacks_total", "under_test.nothing", "without_worker"] == 1


def test_metrics_are_those_of_the_installation_alone(app: Flask) -> None:
    assert {name for name, *_ in metrics(app) if not name.startswith("pijobs_")} == set()


def test_a_worker_answers_the_same_from_a_thread(app: Flask) -> None:
    port = serve_health(app.extensions["pijobs"], ("127.0.0.1", 0))
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=120) as response:
        assert json.load(response)["result"]["value"] == {"status": "OK"}
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=10)
    with caught.value as response:
        assert json.load(response)["result"]["value"]["checks"]["worker"]["ok"] is False
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=120) as response:
        assert json.load(response)["result"]["value"]["status"] == "ready"
