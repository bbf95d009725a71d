"""Forks of a process that uses SQLite files, with real forks: no connection is open at one, and nothing gets lost."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from contract.workers import Worker, new_instance
from services import wait_until

from pijobs.base import forks
from pijobs.database import Database
from pijobs.errors import DatabaseUnavailable, StorageUnavailable
from pijobs.jobs import State
from pijobs.storage.sql import SqlStorage

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "queue.sqlite"


@pytest.fixture
def storage(path: Path) -> Iterator[SqlStorage]:
    one = SqlStorage(f"sqlite:///{path}", "forks")
    yield one
    one.close()


def in_c() -> int:
    """A fork that tells Python nothing beforehand, as uWSGI's."""
    return int(ctypes.PyDLL(None).fork())


def forked(work: Callable[[], object], fork: Callable[[], int] = os.fork) -> int:
    """The pid of a child that does the work; its exit code is 0 if nothing was raised."""
    if child := fork():
        return child
    code = 1
    try:
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def succeeds(child: int) -> bool:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def open_files(path: Path) -> list[str]:
    """The open files of this process that belong to a database."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
        except FileNotFoundError:  # that of the listing
            continue
    return [name for name in found if name.startswith(str(path))]


def seen_by_another_process(path: Path) -> set[str]:
    """What somebody sees who opens the file, and is the last to close it if nobody else has it open."""
    program = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1])\n"
    program += "print(*(i for i, in c.execute('SELECT id FROM pijobs_instance'))); c.close()"
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def enqueue_and_look(storage: SqlStorage, path: Path) -> None:
    for number in range(3):
        storage.enqueue(new_instance(id=f"child-{number}"), timeout=5)
        assert f"child-{number}" in seen_by_another_process(path)
    assert {"parent", "child-0", "child-1", "child-2"} <= seen_by_another_process(path)


@pytest.mark.parametrize("fork", [os.fork, in_c])
@pytest.mark.parametrize("end", ["stays", "closes", "exits"])
def test_a_child_loses_nothing_whatever_its_parent_does(
    storage: SqlStorage, path: Path, end: str, fork: Callable[[], int]
) -> None:
    heard, tell = os.pipe()
    result, report = os.pipe()

    def child() -> None:
        os.read(heard, 1)
        enqueue_and_look(storage, path)
        os.write(report, b"ok")

    def parent() -> None:
        storage.enqueue(new_instance(id="parent"), timeout=5)
        grandchild = forked(child, fork)
        if end == "closes":
            storage.close()
        os.write(tell, b"x")
        if end != "exits":
            assert succeeds(grandchild)

    assert succeeds(forked(parent))
    os.close(report)
    with os.fdopen(result, "rb") as reader:
        assert reader.read() == b"ok"
    os.close(heard)
    os.close(tell)


def test_no_file_is_open_at_a_fork_while_threads_enqueue_and_wait(
    storage: SqlStorage, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy disk a transaction may take longer than a fork waits for it otherwise.
    monkeypatch.setattr(forks, "PATIENCE", 60)
    worker = Worker(storage, lambda ms: None)
    storage.enqueue(new_instance(id="parent", priority=-5), timeout=60)
    stop = threading.Event()
    failed: list[Exception] = []

    def enqueue() -> None:
        while not stop.is_set():
            try:
                storage.enqueue(new_instance(), timeout=60)
            except Exception as error:
                failed.append(error)

    def wait() -> None:
        while not stop.is_set():
            storage.wait(0.01, floor=5)

    threads = [threading.Thread(target=target) for target in (enqueue, enqueue, wait)]
    for thread in threads:
        thread.start()

    def child() -> None:
        assert not open_files(path)
        storage.enqueue(new_instance(id=f"child-{os.getpid()}"), timeout=60)
        worker.beat()
        storage.close()

    children = [forked(child) for _ in range(8)]
    succeeded = [*map(succeeds, children)]
    stop.set()  # whatever became of them: threads that go on would disturb the tests that follow
    for thread in threads:
        thread.join()
    assert all(succeeded) and not failed
    assert {f"child-{child}" for child in children} <= seen_by_another_process(path)


def test_the_poller_goes_on_after_a_fork(storage: SqlStorage) -> None:
    worker = Worker(storage, lambda ms: None)
    storage.wait(0.01)
    assert succeeds(forked(lambda: None))
    woken = threading.Event()

    def wait() -> None:
        storage.wait(20)
        woken.set()

    thread = threading.Thread(target=wait)
    thread.start()
    assert succeeds(forked(lambda: SqlStorage.enqueue(storage, new_instance(), timeout=5)))
    assert woken.wait(120)
    thread.join()
    assert worker.step(want=1).leases


def test_a_fork_that_waited_in_vain_makes_the_file_unusable_in_the_child_only(
    storage: SqlStorage, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forks, "PATIENCE", 0.05)
    storage.enqueue(new_instance(), timeout=5)
    inside, leave = threading.Event(), threading.Event()

    def hang() -> None:
        with forks.gate.use(str(path), 1):
            inside.set()
            leave.wait(30)

    thread = threading.Thread(target=hang)
    thread.start()
    assert inside.wait(120)

    def child() -> None:
        with pytest.raises(StorageUnavailable, match=r"forked while its parent was using .*queue\.sqlite"):
            storage.enqueue(new_instance(), timeout=1)
        storage.close()
        other = SqlStorage(f"sqlite:///{path}2", "forks")
        assert other.enqueue(new_instance(), timeout=5).fresh

    assert succeeds(forked(child))
    leave.set()
    thread.join()
    assert storage.enqueue(new_instance(), timeout=5).fresh


def test_a_fork_in_the_middle_of_ones_own_transaction_does_not_wait_for_itself(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/pijobs.sqlite", tmp_path)

    def child() -> None:
        with pytest.raises(DatabaseUnavailable, match="forked while"), database.begin():
            pass

    with database.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (n INTEGER)")
        began = time.monotonic()
        process = forked(child)
        assert time.monotonic() - began < forks.PATIENCE
        assert succeeds(process)
    with database.read() as connection:
        assert sa.inspect(connection).has_table("t")


def test_a_fork_waits_for_transactions_of_the_definitions(tmp_path: Path) -> None:
    path = tmp_path / "pijobs.sqlite"
    database = Database(f"sqlite:///{path}", tmp_path)
    inside, forking = threading.Event(), threading.Event()

    def work() -> None:
        with database.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE t (n INTEGER)")
            inside.set()
            wait_until(lambda: bool(forks.gate._forks), what="the fork")
            assert not forking.is_set()

    def child() -> None:
        assert not open_files(path)
        with database.begin() as connection:
            connection.exec_driver_sql("INSERT INTO t VALUES (1)")

    thread = threading.Thread(target=work)
    thread.start()
    assert inside.wait(120)
    process = forked(child)
    forking.set()
    thread.join()
    assert succeeds(process)
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT n FROM t").scalar() == 1


def test_who_comes_while_a_fork_takes_long_is_told_in_time(storage: SqlStorage, path: Path) -> None:
    storage.enqueue(new_instance(), timeout=5)
    forks.gate._before()
    try:
        told: list[StorageUnavailable] = []

        def enqueue() -> None:
            try:
                storage.enqueue(new_instance(), timeout=0.1)
            except StorageUnavailable as error:
                told.append(error)

        thread = threading.Thread(target=enqueue)
        thread.start()
        thread.join(120)
        assert "is just being forked" in str(told)
    finally:
        forks.gate._after_in_parent()
    assert storage.enqueue(new_instance(), timeout=1).state is State.QUEUED


def test_who_watches_a_file_has_it_open_at_no_fork_and_misses_no_change_after_it(tmp_path: Path) -> None:
    path = tmp_path / "pijobs.sqlite"
    database = Database(f"sqlite:///{path}", tmp_path)

    def change(statement: str = "INSERT INTO t VALUES (1)") -> None:
        before = database.version()
        assert before is not None and before == database.version()
        with database.begin() as connection:
            connection.exec_driver_sql(statement)
        assert before != database.version()

    def child() -> None:
        assert not open_files(path)
        change()

    with database.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (n INTEGER)")
    change()
    before = database.version()
    assert succeeds(forked(child))
    assert succeeds(forked(change, in_c))
    assert before != database.version()
    change()
