"""A request in every kind of outage: it is not held up, the job takes its other way, and the end is noticed."""

from __future__ import annotations

import logging
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from dead_ends import black_hole
from integration.redis_server import running
from integration.sql_proxy import proxy
from services import free_port, wait_until
from sqlalchemy import make_url

from pijobs.factory import HueyQueue, build
from pijobs.observe.readiness import readiness
from pijobs.request.queue import Queue

TIMEOUT = 0.25
#: Seconds that a busy machine may take on top of time-outs.
GRACE = 4.0
#: Calls after the first one, and seconds that all of them may take: not each its time-out.
NEXT, TOGETHER = 40, 4 * TIMEOUT + GRACE
SECRET = "wr0ng-s3cret"


@dataclass
class Outage:
    """A storage that is away.

    :param end: brings it back; None where that is another test's business.
    """

    url: str
    end: Callable[[], object] | None = None


Stage = Callable[[ExitStack], Outage]


def refused(stack: ExitStack) -> Outage:
    port = free_port()
    return Outage(f"redis://127.0.0.1:{port}/0", lambda: stack.enter_context(running(port=port)))


def never_accepts(stack: ExitStack) -> Outage:
    return Outage(f"redis://:{SECRET}@127.0.0.1:{stack.enter_context(black_hole())}/0")


def postgresql_never_accepts(stack: ExitStack) -> Outage:
    return Outage(f"postgresql+psycopg://user:{SECRET}@127.0.0.1:{stack.enter_context(black_hole())}/pijobs")


def mariadb_never_accepts(stack: ExitStack) -> Outage:
    return Outage(f"mysql+pymysql://user:{SECRET}@127.0.0.1:{stack.enter_context(black_hole())}/pijobs")


def never_answers(stack: ExitStack) -> Outage:
    server = socket.create_server(("127.0.0.1", 0))
    stack.callback(server.close)
    port = server.getsockname()[1]

    def end() -> None:
        server.close()
        stack.enter_context(running(port=port))

    return Outage(f"redis://127.0.0.1:{port}/0", end)


def postgresql_never_answers(stack: ExitStack) -> Outage:
    server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    return Outage(f"postgresql+psycopg://user:{SECRET}@127.0.0.1:{server.getsockname()[1]}/pijobs")


def frozen(stack: ExitStack) -> Outage:
    server = stack.enter_context(running())
    server.freeze()
    return Outage(server.url, server.thaw)


def slow_names(stack: ExitStack) -> Outage:
    """A resolver that takes as long as it likes."""
    server, answers, real = stack.enter_context(running()), threading.Event(), socket.getaddrinfo

    def resolve(host: Any, *rest: Any, **more: Any) -> Any:
        if host != "slow.example":
            return real(host, *rest, **more)
        answers.wait(60)
        return real("127.0.0.1", *rest, **more)

    patch = stack.enter_context(pytest.MonkeyPatch.context())
    patch.setattr(socket, "getaddrinfo", resolve)
    stack.callback(answers.set)
    return Outage(f"redis://slow.example:{server.port}/0", answers.set)


def read_only(stack: ExitStack) -> Outage:
    primary = stack.enter_context(running())
    replica = stack.enter_context(running("--replicaof", "127.0.0.1", str(primary.port)))
    return Outage(replica.url, lambda: replica.client.replicaof("NO", "ONE"))


def out_of_memory(stack: ExitStack) -> Outage:
    server = stack.enter_context(running("--maxmemory", "1", "--maxmemory-policy", "noeviction"))
    return Outage(server.url, lambda: server.client.config_set("maxmemory", "0"))


def wrong_password(stack: ExitStack) -> Outage:
    server = stack.enter_context(running(password="right"))
    return Outage(
        f"redis://:{SECRET}@127.0.0.1:{server.port}/0", lambda: server.client.config_set("requirepass", SECRET)
    )


STAGES: list[Stage] = [
    refused, never_accepts, postgresql_never_accepts, mariadb_never_accepts, never_answers, postgresql_never_answers,
    frozen, slow_names, read_only, out_of_memory, wrong_password,
]  # fmt: skip


@contextmanager
def queue_at(url: str, timeout: float = TIMEOUT) -> Iterator[Queue]:
    values = {"URL": url, "NAME": f"outage-{uuid4().hex}", "CLASS": "pijobs.HueyQueue", "ENQUEUE_TIMEOUT": timeout}
    values |= {"PLUGINS": ("outage_jobs",)}
    queue = build({"SECRET_KEY": "s", **{f"PI_JOB_QUEUE_{name}": value for name, value in values.items()}}).queue
    assert queue.storage is not None
    try:
        yield queue
    finally:
        queue.storage.close()


@pytest.fixture(autouse=True)
def outage_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin with one job that does nothing."""
    (tmp_path / "outage_jobs.py").write_text(
        "from pijobs import Job, hookimpl\n\n\n"
        "@hookimpl\ndef register_jobs(settings):\n    return [Job('outage.job', lambda: None)]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)


def seconds_of(queue: Queue, via: str) -> float:
    start = time.monotonic()
    assert queue.enqueue("outage.job").via == via
    return time.monotonic() - start


def recovers(queue: Queue) -> bool:
    return queue.enqueue("outage.job").via == "storage"


def lines(caplog: pytest.LogCaptureFixture, text: str) -> int:
    return sum(text in record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING)


def suffer(queue: Queue, caplog: pytest.LogCaptureFixture) -> None:
    """What every request of every outage may count on."""
    caplog.clear()
    fallbacks = queue.outage.fallbacks
    assert seconds_of(queue, "direct") < TIMEOUT + GRACE
    assert sum(seconds_of(queue, "direct") for _ in range(NEXT)) < TOGETHER
    assert lines(caplog, "jobs take") == 1
    assert queue.outage.fallbacks == fallbacks + 1 + NEXT and queue.outage.since is not None
    assert SECRET not in caplog.text


def recover(queue: Queue, caplog: pytest.LogCaptureFixture) -> None:
    wait_until(lambda: recovers(queue) and recovers(queue), what="enqueues after the outage")
    # On a busy machine an answer can be late once more: that is another outage, and each is told once.
    assert lines(caplog, "jobs take") == lines(caplog, "answers again") >= 1
    assert queue.outage.since is None


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.__name__)
def test_no_outage_holds_up_a_request(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    with ExitStack() as stack:
        outage = stage(stack)
        with queue_at(outage.url) as queue:
            suffer(queue, caplog)
            if outage.end is not None:
                outage.end()
                recover(queue, caplog)


def test_a_redis_that_freezes_between_two_requests_holds_up_neither(caplog: pytest.LogCaptureFixture) -> None:
    with running() as server, queue_at(server.url) as queue:
        assert recovers(queue)
        server.freeze()
        suffer(queue, caplog)
        server.thaw()
        recover(queue, caplog)


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_a_database_whose_network_falls_silent_holds_up_no_request(
    kind: str, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    direct = make_url(request.getfixturevalue(f"{kind}_url"))
    if not {"host", "unix_socket"} & set(direct.query):
        pytest.skip("needs a server on a UNIX socket, to stand a proxy before it")
    target = direct.query["unix_socket"] if kind == "mariadb" else f"{direct.query['host']}/.s.PGSQL.5432"
    with proxy(str(target)) as network:
        url = direct.set(host="127.0.0.1", port=network.port, query={}).render_as_string(hide_password=False)
        with queue_at(url) as queue:
            wait_until(lambda: recovers(queue), what="the first enqueue")
            network.freeze()
            suffer(queue, caplog)
            network.thaw()
            recover(queue, caplog)


def test_a_locked_sqlite_file_holds_up_no_request(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "queue.sqlite"
    with queue_at(f"sqlite:///{path}") as queue:
        wait_until(lambda: recovers(queue), what="the first enqueue")
        blocker = sqlite3.connect(path, isolation_level=None)
        blocker.execute("BEGIN EXCLUSIVE")
        suffer(queue, caplog)
        blocker.execute("ROLLBACK")
        blocker.close()
        recover(queue, caplog)


def test_requests_at_the_same_time_tell_of_an_outage_once(caplog: pytest.LogCaptureFixture) -> None:
    with queue_at(f"redis://127.0.0.1:{free_port()}/0") as queue:
        threads = [threading.Thread(target=queue.enqueue, args=("outage.job",)) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert lines(caplog, "jobs take") == 1
    assert queue.outage.since is not None


def test_a_slow_answer_within_the_time_out_is_no_outage() -> None:
    with ExitStack() as stack:
        server = stack.enter_context(running())
        real = socket.getaddrinfo

        def resolve(*rest: Any, **more: Any) -> Any:
            time.sleep(0.3)  # a name that takes its time, but less than the enqueue may
            return real(*rest, **more)

        stack.enter_context(pytest.MonkeyPatch.context()).setattr(socket, "getaddrinfo", resolve)
        queue = stack.enter_context(queue_at(server.url, timeout=5.0))
        assert queue.enqueue("outage.job").via == "storage"


@pytest.mark.parametrize("fallback", ["spool", "direct"])
def test_a_database_of_a_later_release_takes_the_fallback_and_readiness_is_red(tmp_path: Path, fallback: str) -> None:
    path, values = tmp_path / "queue.sqlite", {
        "SECRET_KEY": "the key of this test", "PI_JOB_QUEUE_CLASS": "pijobs.HueyQueue",
        "PI_JOB_QUEUE_URL": f"sqlite:///{tmp_path}/queue.sqlite", "PI_JOB_QUEUE_PLUGINS": (),
        "PI_JOB_QUEUE_SPOOL": f"{tmp_path}/spool.sqlite", "PI_JOB_QUEUE_FALLBACK": (fallback,),
    }  # fmt: skip
    ran: list[int] = []

    def process() -> HueyQueue:
        queue = build(values).queue
        assert isinstance(queue, HueyQueue)
        queue.register_job("good.job", ran.append)
        return queue

    first = process()
    assert first.enqueue("good.job", [1]).via == "storage"
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE pijobs_meta SET value = value + 1 WHERE name = 'schema'")
    connection.close()
    restarted = process()
    assert restarted.enqueue("good.job", [2]).via == fallback
    assert ran == ([2] if fallback == "direct" else [])
    red = {name: found for name, found in readiness(restarted) if not found.ok}
    assert "has protocol" in red["storage"].message
    for queue in (first, restarted):
        for storage in (queue.storage, queue.spool):
            assert storage is not None
            storage.close()
