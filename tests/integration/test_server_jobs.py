"""Instances, workers and groups over HTTP."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from integration.served import Client, add_instance, add_worker, error_of, make_app, settings_of, storage_of, value_of

from pijobs.errors import InstanceNotFound
from pijobs.jobs import State
from pijobs.payload.keys import KeyRing

MOMENT = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    return make_app(tmp_path)


@pytest.fixture
def viewer(app: Flask) -> Client:
    return Client(app, "viewer")


@pytest.fixture
def operator(app: Flask) -> Client:
    return Client(app, "operator")


def ids(answer: dict[str, Any]) -> list[str]:
    return [row["id"] for row in answer["jobs"]]


def all_pages(client: Client, **query: Any) -> list[list[str]]:
    """The ids, page by page."""
    pages, cursor = [], None
    while True:
        answer = client.get("/jobs", **query, **({"cursor": cursor} if cursor else {}))
        pages.append(ids(answer))
        cursor = answer["cursor"]
        if cursor is None:
            return pages


def test_an_instance_is_shown_without_its_body(app: Flask, viewer: Client) -> None:
    instance = add_instance(app, State.DEAD)
    row = viewer.get(f"/jobs/{instance}")
    assert (row["id"], row["name"], row["state"], row["reason"]) == (instance, "test.job", "dead", "550 no such user")
    assert MOMENT.fullmatch(row["created"])
    assert row["age"] >= 0
    assert "body" not in str(row)
    assert "envelope" not in str(row)


def test_an_unknown_instance_is_not_found(viewer: Client) -> None:
    assert error_of(viewer.ask("GET", "/jobs/nobody")) == (404, 601)


@pytest.mark.parametrize("state", list(State))
def test_instances_are_found_by_state(app: Flask, viewer: Client, state: State) -> None:
    instance = add_instance(app, state)
    assert ids(viewer.get("/jobs", state=state.value)) == [instance]
    others = [other.value for other in State if other is not state]
    assert [ids(viewer.get("/jobs", state=other)) for other in others] == [[]] * len(others)


def test_instances_are_found_by_name_group_and_subject(app: Flask, viewer: Client) -> None:
    subject = KeyRing.of(settings_of(app)).newest.lookup("subject", "alice")
    first = add_instance(app, name="first.job")
    second = add_instance(app, group="smtp:main")
    third = add_instance(app, subject=subject)
    assert ids(viewer.get("/jobs", name="first.job")) == [first]
    assert ids(viewer.get("/jobs", group="smtp:main")) == [second]
    assert ids(viewer.get("/jobs", subject="alice")) == [third]
    assert ids(viewer.get("/jobs", subject="bob")) == []


def test_pages_follow_each_other_through_all_states(app: Flask, viewer: Client) -> None:
    added = [add_instance(app, state) for state in (State.DONE, State.DEAD, State.RUNNING)]
    added += [add_instance(app) for _ in range(4)]
    pages = all_pages(viewer, limit=3)
    assert sorted(instance for page in pages for instance in page) == sorted(added)
    assert [len(page) for page in pages if page] == [3, 3, 1]


@pytest.mark.parametrize(
    "query",
    [
        {"state": "lost"},
        {"limit": 0},
        {"limit": 501},
        {"limit": "²"},
        {"limit": "ten"},
        {"cursor": "²."},
        {"cursor": "99."},
        {"cursor": "0.nonsense"},
        {"cursor": "nonsense"},
        {"cursor": "9" * 5000},
    ],
)
def test_what_can_not_be_asked_is_refused(viewer: Client, query: dict[str, Any]) -> None:
    assert error_of(viewer.ask("GET", "/jobs", **query)) == (400, 905)


def test_a_dead_letter_is_queued_again(app: Flask, operator: Client) -> None:
    instance = add_instance(app, State.DEAD)
    assert operator.get(f"/jobs/{instance}")["can_be_retried"] is True
    assert value_of(operator.ask("POST", f"/jobs/{instance}/retry")) is True
    assert operator.get(f"/jobs/{instance}")["state"] == "queued"


@pytest.mark.parametrize("state", [state for state in State if state is not State.DEAD])
def test_nothing_else_can_be_retried(app: Flask, operator: Client, state: State) -> None:
    instance = add_instance(app, state)
    assert error_of(operator.ask("POST", f"/jobs/{instance}/retry")) == (409, 409)


@pytest.mark.parametrize("state", [State.QUEUED, State.SCHEDULED])
def test_what_waits_is_cancelled_by_name(app: Flask, operator: Client, state: State) -> None:
    instance = add_instance(app, state)
    assert value_of(operator.ask("DELETE", f"/jobs/{instance}")) == "cancelled"
    row = operator.get(f"/jobs/{instance}")
    assert (row["state"], row["reason"]) == ("cancelled", "cancelled by operator")


@pytest.mark.parametrize("state", [State.DONE, State.DEAD, State.EXPIRED, State.CANCELLED])
def test_what_has_ended_is_removed(app: Flask, operator: Client, state: State) -> None:
    instance = add_instance(app, state)
    assert value_of(operator.ask("DELETE", f"/jobs/{instance}")) == "removed"
    with pytest.raises(InstanceNotFound):
        storage_of(app).get(instance)


def test_what_runs_is_not_touched(app: Flask, operator: Client) -> None:
    instance = add_instance(app, State.RUNNING)
    assert error_of(operator.ask("DELETE", f"/jobs/{instance}")) == (409, 409)
    assert storage_of(app).get(instance).state is State.RUNNING


@pytest.mark.parametrize(("method", "path"), [("POST", "/jobs/{}/retry"), ("DELETE", "/jobs/{}")])
def test_a_viewer_only_looks(app: Flask, viewer: Client, method: str, path: str) -> None:
    instance = add_instance(app, State.DEAD)
    assert error_of(viewer.ask(method, path.format(instance))) == (403, 303)
    assert storage_of(app).get(instance).state is State.DEAD


@pytest.mark.parametrize(("method", "path"), [("POST", "/jobs/nobody/retry"), ("DELETE", "/jobs/nobody")])
def test_nothing_is_done_to_what_is_not_there(operator: Client, method: str, path: str) -> None:
    assert error_of(operator.ask(method, path)) == (404, 601)


def test_workers_are_shown_with_their_sign_of_life(app: Flask, viewer: Client) -> None:
    assert viewer.get("/workers") == []
    session = add_worker(app)
    (row,) = viewer.get("/workers")
    assert (row["id"], row["host"], row["pid"], row["jobs"]) == (session, "worker.example.com", 4711, ["test.job"])
    assert MOMENT.fullmatch(row["seen"])
    assert row["seen_age"] < 60


def test_groups_are_shown_with_limit_and_breaker(app: Flask, viewer: Client) -> None:
    add_instance(app, group="smtp:main", limit=2)
    row = next(row for row in viewer.get("/groups") if row["name"] == "smtp:main")
    assert (row["waiting"], row["running"], row["limit"], row["breaker"]) == (1, 0, 2, "closed")


def test_a_storage_that_does_not_answer_is_told(app: Flask, viewer: Client, tmp_path: Path) -> None:
    storage_of(app).close()
    (tmp_path / "queue.sqlite").mkdir()
    assert error_of(viewer.ask("GET", "/jobs")) == (503, 503)


def test_groups_come_page_by_page(app: Flask, viewer: Client) -> None:
    for name in ("a", "b", "c"):
        storage_of(app).pause(name)
    assert [row["name"] for row in viewer.get("/groups", limit=2)] == ["a", "b"]
    assert [row["name"] for row in viewer.get("/groups", limit=2, after="b")] == ["c"]
    assert error_of(viewer.ask("GET", "/groups", limit=0)) == (400, 905)


def test_a_retry_that_gives_way_to_a_newer_instance_is_told(app: Flask, operator: Client) -> None:
    storage = storage_of(app)
    old = add_instance(app, State.DEAD, key="user-7")
    new = add_instance(app, key="user-7")
    code, number = error_of(operator.ask("POST", f"/jobs/{old}/retry"))
    assert (code, number) == (409, 409)
    assert [storage.get(one).state for one in (old, new)] == [State.CANCELLED, State.QUEUED]


def test_changes_of_an_instance_are_told_as_they_happen(
    app: Flask, viewer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = add_instance(app, State.QUEUED)
    waits = iter([False, True])

    def sleep(seconds: float) -> None:
        if next(waits):
            storage_of(app).cancel(instance, reason="by admin")

    monkeypatch.setattr("pijobs.base.clock.sleep", sleep)
    response = viewer.ask("GET", f"/jobs/{instance}/events")
    assert response.mimetype == "text/event-stream"
    text = response.get_data(as_text=True)
    states = re.findall(r'^event: job\ndata: .*"state": "(\w+)"', text, re.MULTILINE)
    assert states == ["queued", "cancelled"] and ": nothing new\n\n" in text


def test_events_of_what_is_not_there_are_not_found(viewer: Client) -> None:
    assert viewer.ask("GET", "/jobs/unknown/events").status_code == 404


def test_listeners_leave_threads_to_others(app: Flask, viewer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    instance = add_instance(app, State.DONE)
    for _ in range(25):
        response = viewer.ask("GET", f"/jobs/{instance}/events")
        assert response.status_code == 200
        response.close()
    monkeypatch.setattr("pijobs.server.jobs_api._listeners", threading.BoundedSemaphore(1))
    first = viewer.ask("GET", f"/jobs/{instance}/events")
    assert viewer.ask("GET", f"/jobs/{instance}/events").status_code == 503
    first.close()
