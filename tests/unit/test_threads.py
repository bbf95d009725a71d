"""Where a thread of ours may run, as uWSGI tells it."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from pijobs.base import threads


@pytest.mark.parametrize(("worker", "allowed"), [(0, False), (1, True), (4, True)])
def test_uwsgi_has_no_thread_of_ours_before_it_forks(
    monkeypatch: pytest.MonkeyPatch, worker: int, allowed: bool
) -> None:
    monkeypatch.setitem(sys.modules, "uwsgi", SimpleNamespace(worker_id=lambda: worker, has_threads=1))
    assert threads.may_start() is allowed


@pytest.mark.parametrize(("has_threads", "stopped"), [(0, True), (1, False)])
def test_a_uwsgi_without_threads_stops_them_between_requests(
    monkeypatch: pytest.MonkeyPatch, has_threads: int, stopped: bool
) -> None:
    monkeypatch.setitem(sys.modules, "uwsgi", SimpleNamespace(worker_id=lambda: 1, has_threads=has_threads))
    assert threads.are_stopped_between_requests() is stopped


def test_anywhere_else_threads_run() -> None:
    assert threads.may_start() and not threads.are_stopped_between_requests()


def test_no_thread_starts_while_the_interpreter_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "is_finalizing", lambda: True)
    assert not threads.may_start()
