"""The worker, as an operator meets it."""

from __future__ import annotations

import os
import signal
import socket
import time
from contextlib import suppress

import pytest
from services import wait_until

from pijobs.jobs import State

from .conftest import MakeSite
from .site import Site, children

TYPES = ["thread", "process"]


@pytest.fixture(params=TYPES)
def worker_type(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.each_storage
def test_runs_what_is_enqueued_before_and_after_it_starts(site: Site, worker_type: str) -> None:
    before = site.queue.enqueue("test.count", (1,))
    site.start_worker("-w", "2", "-k", worker_type)
    after = site.queue.enqueue("test.count", (2,))
    assert site.wait_for(before.id).state is State.DONE
    assert site.wait_for(after.id).state is State.DONE
    assert sorted(site.effects_of("count")) == ["1", "2"]


@pytest.mark.each_storage
@pytest.mark.parametrize("storage_url", ["sqlite", "redis", "postgresql", "mariadb"], indirect=True)
def test_greenlets_run_jobs_too(site: Site) -> None:
    worker = site.start_worker("-w", "2", "-k", "greenlet")
    handle = site.queue.enqueue("test.count", (1,))
    assert site.wait_for(handle.id).state is State.DONE
    worker.terminate()
    assert worker.wait(120) == 0


def test_runs_each_job_in_an_app_context(site: Site, worker_type: str) -> None:
    site.start_worker("-k", worker_type)
    assert site.wait_for(site.queue.enqueue("test.context").id).state is State.DONE
    assert site.effects_of("context") == ["pijobs.worker"]


def test_tries_again_and_tells_each_attempt(site: Site) -> None:
    site.start_worker()
    record = site.wait_for(site.queue.enqueue("test.flaky", (2,)).id)
    assert (record.state, record.attempts) == (State.DONE, 3)
    assert len(record.history) == 3
    assert "somebody@example.com" not in "".join(record.history) + site.output()


@pytest.mark.each_storage
def test_a_killed_worker_loses_nothing_and_another_begins_within_one_lease(site: Site, worker_type: str) -> None:
    workers = [site.start_worker("-k", worker_type) for _ in range(2)]
    handle = site.queue.enqueue("test.hold", ("job", 3))
    wait_until(lambda: site.effects_of("begin") == ["job 1"], what="the first run")
    pids = {session.info.id: session.info.pid for session in site.storage.sessions()}
    runs = pids[site.record(handle.id).session or ""]
    first = next(worker for worker in workers if runs in {worker.pid, *children(worker.pid)})
    killed = time.monotonic()
    os.killpg(first.pid, signal.SIGKILL)
    wait_until(lambda: len(site.effects_of("begin")) == 2, what="the second run")
    # One lease (1 s), and the beat of the other worker that finds it out (a third of a lease); far from the default.
    assert time.monotonic() - killed < 8
    record = site.wait_for(handle.id)
    assert (record.state, record.crashes) == (State.DONE, 1)
    assert site.effects_of("end") == ["job 1"]


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_running_job_end(site: Site, worker_type: str, signum: signal.Signals) -> None:
    worker = site.start_worker("-k", worker_type)
    running = site.queue.enqueue("test.hold", ("job", 1.0))
    wait_until(lambda: site.effects_of("begin") == ["job 1"], what="the start")
    waiting = site.queue.enqueue("test.count", (1,))
    os.killpg(worker.pid, signum)  # as systemd and terminals do: the whole group
    assert worker.wait(120) == 0
    assert site.record(running.id).state is State.DONE
    assert site.record(waiting.id).state is State.QUEUED
    assert not site.storage.sessions()


def test_after_the_shutdown_time_what_runs_goes_back_uncounted(site: Site, worker_type: str) -> None:
    worker = site.start_worker("-k", worker_type, "-t", "0.2")
    handle = site.queue.enqueue("test.hold", ("job", 30))
    wait_until(lambda: site.effects_of("begin") == ["job 1"], what="the start")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(120) == 0
    record = site.record(handle.id)
    assert (record.state, record.attempts, record.crashes) == (State.QUEUED, 0, 0)


def test_a_second_signal_gives_back_at_once(site: Site, worker_type: str) -> None:
    worker = site.start_worker("-k", worker_type, "-t", "60")
    handle = site.queue.enqueue("test.hold", ("job", 60))
    wait_until(lambda: site.effects_of("begin") == ["job 1"], what="the start")
    worker.send_signal(signal.SIGTERM)
    wait_until(lambda: "the worker stops" in site.output(), what="the first signal")
    worker.send_signal(signal.SIGINT)
    assert worker.wait(120) == 0
    record = site.record(handle.id)
    assert (record.state, record.attempts, record.crashes) == (State.QUEUED, 0, 0)


def test_sighup_gives_back_what_runs_uncounted_and_starts_again(site: Site, worker_type: str) -> None:
    worker = site.start_worker("-k", worker_type, "-t", "0.2")
    handle = site.queue.enqueue("test.hold", ("job", 2))
    wait_until(lambda: site.effects_of("begin") == ["job 1"], what="the first run")
    worker.send_signal(signal.SIGHUP)
    record = site.wait_for(handle.id)
    assert (record.state, record.attempts, record.crashes) == (State.DONE, 1, 0)
    assert site.effects_of("begin") == ["job 1", "job 1"] and worker.poll() is None


def test_a_job_past_its_timeout_goes_back_as_a_crash(site: Site, worker_type: str) -> None:
    worker = site.start_worker("-w", "1", "-k", worker_type)
    handle = site.queue.enqueue("test.stuck", ("job", 3600))
    wait_until(lambda: site.record(handle.id).crashes >= 1, what="the end of the lease")
    # It starves nobody, although there is one worker, and a thread can't be ended.
    assert site.wait_for(site.queue.enqueue("test.count", (1,)).id).state is State.DONE
    assert site.wait_for(handle.id).state is State.DEAD
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(120) == 0


def test_a_worker_that_did_its_number_of_jobs_is_replaced_at_once(make_site: MakeSite, worker_type: str) -> None:
    site = make_site(LEASE=600)  # else health is looked at each half a second
    site.start_worker("-M", "1", "-k", worker_type)
    ids = [site.queue.enqueue("test.count", (number,)).id for number in range(5)]
    began = time.monotonic()
    assert {site.wait_for(one).state for one in ids} == {State.DONE}
    assert time.monotonic() - began < 20  # 10 s each, before


def test_what_a_job_leaves_behind_reaches_neither_the_next_job_nor_the_worker(site: Site, worker_type: str) -> None:
    worker = site.start_worker("-k", worker_type)
    assert site.wait_for(site.queue.enqueue("test.litter").id).state is State.DONE
    after = site.queue.enqueue("test.count", (1,)).id
    assert site.wait_for(after).state is State.DONE
    wait_until(lambda: f"{after}: running -> done" in site.output(), what="the log of the next job")
    assert "a job changed the working directory and the umask" in site.output()
    worker.send_signal(signal.SIGHUP)
    wait_until(lambda: "restarts" in site.output(), what="the restart")
    again = site.queue.enqueue("test.count", (2,)).id
    assert site.wait_for(again).state is State.DONE
    assert site.wait_for(site.queue.enqueue("test.litter").id).state is State.DONE
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(120) == 0
    for pid in site.effects_of("litter"):
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


def test_a_job_that_takes_down_its_workers_ends_dead(site: Site) -> None:
    site.start_worker("-k", "process", "-c", "0.2")
    record = site.wait_for(site.queue.enqueue("test.poison").id)
    assert (record.state, record.crashes) == (State.DEAD, 3)
    assert len(set(site.effects_of("poison"))) == 3


def test_the_child_of_a_job_never_becomes_a_worker(site: Site, worker_type: str) -> None:
    worker = site.start_worker("-k", worker_type)
    for how in ("returns", "exits"):
        handle = site.queue.enqueue("test.fork", (how,))
        assert site.wait_for(handle.id).state is State.DONE
    after = [site.queue.enqueue("test.count", (number,)) for number in range(20)]
    assert {site.wait_for(one.id).state for one in after} == {State.DONE}
    assert site.effects_of("fork") == ["returns", "exits"] and len(site.effects_of("count")) == 20
    assert worker.poll() is None and len(site.storage.sessions()) == 1
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(120) == 0


@pytest.mark.each_storage
def test_what_a_killed_worker_ran_goes_on_at_once_when_the_next_one_starts_on_its_host(make_site: MakeSite) -> None:
    site = make_site(LEASE=600)
    worker = site.start_worker()
    handle = site.queue.enqueue("test.hold", ("job", 1))
    wait_until(lambda: site.effects_of("begin") == ["job 1"], what="the first run")
    worker.kill()
    worker.wait()
    site.start_worker()
    wait_until(lambda: len(site.effects_of("begin")) == 2, what="the second run, far within the lease")
    assert site.wait_for(handle.id).crashes == 1


def test_a_job_that_interrupts_itself_fails_like_any_other(site: Site, worker_type: str) -> None:
    site.start_worker("-k", worker_type)
    record = site.wait_for(site.queue.enqueue("test.interrupt").id)
    assert (record.state, record.error) == (State.DEAD, "KeyboardInterrupt")
    assert site.effects_of("interrupt") == ["1", "2"]


def test_children_end_when_their_parent_is_killed(site: Site) -> None:
    worker = site.start_worker("-k", "process")
    orphans = list(children(worker.pid))
    assert orphans
    worker.kill()
    worker.wait()
    wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in orphans), what="the end of the children")


def test_a_reserved_worker_takes_only_what_is_urgent(site: Site) -> None:
    site.start_worker("-w", "1", "-r", "1:10")
    site.queue.enqueue("test.hold", ("slow", 5))
    wait_until(lambda: site.effects_of("begin") == ["slow 1"], what="the slow job")
    ordinary = site.queue.enqueue("test.count", (1,))
    urgent = site.queue.enqueue("test.count", (2,), priority=10)
    assert site.wait_for(urgent.id, timeout=4).state is State.DONE
    assert site.record(ordinary.id).state is State.QUEUED


def test_refuses_a_broken_plugin_with_exit_code_4(make_site: MakeSite) -> None:
    site = make_site(PLUGINS=("jobs_under_test", "no_such_module"))
    done = site.run("worker", "-l", "-")
    assert done.returncode == 4
    assert "no_such_module" in done.stderr


def test_refuses_an_address_in_use_with_exit_code_2(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = site.run("worker", "-l", "-", "--http", f"127.0.0.1:{taken.getsockname()[1]}")
    assert done.returncode == 2
    assert "--http: expected a free address" in done.stderr


def test_refuses_to_work_without_a_queue_with_exit_code_2(make_site: MakeSite) -> None:
    done = make_site(IMMEDIATE=True).run("worker", "-l", "-")
    assert done.returncode == 2
    assert "PI_JOB_QUEUE_CLASS" in done.stderr
