"""What can be wrong with the file of an SQLite queue."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from contract.workers import Worker, new_instance
from services import PROGRAM

from pijobs.errors import ConfigurationError, StorageUnavailable, StorageVersion
from pijobs.jobs import State
from pijobs.storage.sql import SqlStorage
from pijobs.storage.sql.schema import ADDITIONS, FIRST_VERSION

NOBODY = 65534


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "queue.sqlite"


@pytest.fixture
def storage(path: Path) -> Iterator[SqlStorage]:
    one = SqlStorage(f"sqlite:///{path}", "files")
    yield one
    one.close()


@pytest.fixture
def worker(storage: SqlStorage) -> Worker:
    return Worker(storage, lambda ms: None)


def test_only_the_owner_may_read_the_file(storage: SqlStorage, path: Path) -> None:
    storage.enqueue(new_instance(), timeout=5)
    files = list(path.parent.iterdir())
    assert path in files
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


PASSER_BY = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
print(connection.execute("SELECT count(*) FROM pijobs_instance").fetchone()[0])
connection.execute("PRAGMA user_version=7")
connection.close()
"""


def test_another_process_that_closes_the_file_leaves_our_log_alone(
    storage: SqlStorage, worker: Worker, path: Path
) -> None:
    # SQLite's lock on the file tells a process that closes it whether it is the last one; the last one removes the log.
    def passer_by() -> int:
        return int(subprocess.run([sys.executable, "-c", PASSER_BY, path], capture_output=True, check=True).stdout)

    for number in range(3):
        storage.enqueue(new_instance(), timeout=5)
        worker.beat()
        assert passer_by() == number + 1
    assert storage.page(State.QUEUED).records[2:]


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    storage = SqlStorage(f"sqlite:///{tmp_path}/nowhere/queue.sqlite", "files")
    with pytest.raises(StorageUnavailable, match=f"directory {tmp_path}/nowhere .* does not exist; create it"):
        storage.ping()


def test_a_directory_that_was_missing_is_found_at_once(tmp_path: Path) -> None:
    storage = SqlStorage(f"sqlite:///{tmp_path}/later/queue.sqlite", "files")
    with pytest.raises(StorageUnavailable):
        storage.ping()
    (tmp_path / "later").mkdir()
    assert storage.enqueue(new_instance(), timeout=5).fresh
    storage.close()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:queue?uri=true"])
def test_a_database_that_can_not_be_shared_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        SqlStorage(url, "files")


@pytest.mark.parametrize("url", ["postgresql://localhost/db", "oracle://localhost/db", "nonsense"])
def test_other_databases_are_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        SqlStorage(url, "files")


def test_a_read_only_file_is_unavailable(storage: SqlStorage, path: Path) -> None:
    storage.enqueue(new_instance(), timeout=5)
    storage.close()
    path.chmod(0o400)
    path.parent.chmod(0o500)
    privileged = os.geteuid() == 0
    if privileged:
        # For root, modes are no obstacle.
        os.chown(path, NOBODY, NOBODY)
        os.chown(path.parent, NOBODY, NOBODY)
        for parent in list(path.parents)[1:-2]:
            parent.chmod(parent.stat().st_mode | 0o111)
        os.seteuid(NOBODY)
    try:
        with pytest.raises(StorageUnavailable, match=r"can't open the SQLite file: .* belongs to nobody"):
            storage.enqueue(new_instance(), timeout=0.25)
    finally:
        if privileged:
            os.seteuid(0)
        path.parent.chmod(0o700)


def test_a_lock_is_waited_for_until_the_time_is_over(storage: SqlStorage, path: Path) -> None:
    storage.enqueue(new_instance(), timeout=5)
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    start = time.monotonic()
    with pytest.raises(StorageUnavailable, match="did not answer in time"):
        storage.enqueue(new_instance(), timeout=0.25)
    took = time.monotonic() - start
    blocker.execute("COMMIT")
    blocker.close()
    assert 0.2 < took < 3  # SQLite's own patience is 5 s
    assert storage.enqueue(new_instance(), timeout=0.25).fresh


def test_people_can_look_while_the_file_is_locked(storage: SqlStorage, path: Path) -> None:
    stored = storage.enqueue(new_instance(), timeout=5)
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    assert storage.get(stored.id).state is State.QUEUED
    assert storage.depths().counts == {("test.job", State.QUEUED): 1}
    blocker.execute("ROLLBACK")
    blocker.close()


FULL = """
import resource, signal, sys
sys.path[:0] = {path!r}
from contract.workers import new_instance
from pijobs.errors import StorageUnavailable
from pijobs.storage.sql import SqlStorage

storage = SqlStorage({url!r}, "files")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, resource.RLIM_INFINITY))
stored = []
try:
    while True:
        stored.append(storage.enqueue(new_instance(body=bytes(5000)), timeout=5).id)
except StorageUnavailable as error:
    print(*stored)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(storage.enqueue(new_instance(), timeout=5).id)
"""


def test_a_full_disk_loses_nothing_that_was_stored(storage: SqlStorage, path: Path, worker: Worker) -> None:
    program = FULL.format(path=sys.path, url=f"sqlite:///{path}")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PROGRAM, check=True)
    before, after = done.stdout.splitlines()
    assert len(before.split()) > 5
    assert worker.take_ids(1000) == [*before.split(), after]


def test_a_file_that_was_removed_is_made_again(storage: SqlStorage, path: Path) -> None:
    storage.enqueue(new_instance(), timeout=5)
    for file in path.parent.iterdir():
        file.unlink()
    stored = storage.enqueue(new_instance(), timeout=5)
    other = SqlStorage(f"sqlite:///{path}", "files")
    assert other.get(stored.id).state is State.QUEUED
    other.close()


def test_tables_of_an_older_release_get_what_is_new(storage: SqlStorage, path: Path) -> None:
    stored = storage.enqueue(new_instance(), timeout=5)
    storage.close()
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE pijobs_total")
        connection.execute("UPDATE pijobs_meta SET value = 1")
    storage.add_totals({"a": 1})
    assert storage.totals() == {"a": 1}
    assert storage.get(stored.id).state is State.QUEUED
    storage.close()
    with sqlite3.connect(path) as connection:
        assert dict(connection.execute("SELECT name, value FROM pijobs_meta")) == {
            "schema": FIRST_VERSION, "additions": ADDITIONS,
        }  # fmt: skip


def test_tables_of_another_version_are_refused(storage: SqlStorage, path: Path) -> None:
    storage.ping()
    storage.close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE pijobs_meta SET value = 99")
    connection.close()
    with pytest.raises(StorageVersion, match=r"the database \(SQLite\) has protocol 99"):
        storage.ping()


def test_a_relative_path_stays_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    storage = SqlStorage("sqlite:///queue.sqlite", "files")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    storage.ping()
    assert (tmp_path / "queue.sqlite").exists()
    assert "absolute path" in storage.diagnose()["warning"]
    storage.close()


def test_diagnose_tells_what_matters_of_the_file(storage: SqlStorage, path: Path) -> None:
    facts = storage.diagnose()
    assert (facts["journal mode"], facts["mode"], facts["path"]) == ("wal", "0600", str(path))
    assert "warning" not in facts
    path.chmod(0o644)
    assert "chmod 600" in storage.diagnose()["warning"]


WORKER = """
import sys
sys.path[:0] = {path!r}
from contract.workers import Worker
from pijobs.jobs import State
from pijobs.storage.values import End
from pijobs.storage.sql import SqlStorage

worker = Worker(SqlStorage({url!r}, "files"), lambda ms: None)
ends = []
while True:
    leases = worker.step(*ends, want=3).leases
    if not leases:
        break
    for lease in leases:
        print(lease.id, flush=True)
    ends = [End(lease.id, lease.token, State.DONE) for lease in leases]
"""


def test_killing_workers_in_the_middle_of_their_steps_loses_nothing(storage: SqlStorage, path: Path) -> None:
    ids = {storage.enqueue(new_instance(), timeout=5).id for _ in range(400)}
    program = WORKER.format(path=sys.path, url=f"sqlite:///{path}")
    for count in (20, 50, 90):
        process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for _ in range(count):
            assert process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.stdout.close()
        process.wait()
        for session in storage.sessions():
            storage.close_session(session.info.id, crashed=True)
    last = Worker(storage, lambda ms: None)
    while leases := last.take(50):
        for lease in leases:
            last.end(lease, State.DONE)
    assert {storage.get(one).state for one in ids} == {State.DONE}
    assert storage.depths().counts == {("test.job", State.DONE): 400}


def test_many_processes_make_the_tables_at_once(path: Path) -> None:
    program = FIRST.format(path=sys.path, url=f"sqlite:///{path}")
    processes = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(4)]
    assert [process.wait(120) for process in processes] == [0] * 4
    storage = SqlStorage(f"sqlite:///{path}", "files")
    assert storage.depths().counts == {("test.job", State.QUEUED): 4}
    storage.close()


FIRST = """
import sys
sys.path[:0] = {path!r}
from contract.workers import new_instance
from pijobs.storage.sql import SqlStorage

storage = SqlStorage({url!r}, "files")
storage.enqueue(new_instance(), timeout=10)
"""


def test_an_idle_worker_asks_only_after_a_change(storage: SqlStorage, worker: Worker) -> None:
    worker.take()
    looks = CountingLooks(storage)
    storage.wait(0.4)
    # One when it began to wait, and one since the poller had never looked before.
    assert looks.count <= 2


class CountingLooks:
    """Counts how often a storage looks for what could be leased."""

    def __init__(self, storage: SqlStorage) -> None:
        self.count = 0
        live = storage._live
        look = live.transactions.read

        def counted(*arguments: object, **options: object) -> object:
            self.count += 1
            return look(*arguments, **options)  # type: ignore[arg-type]

        live.transactions.read = counted  # type: ignore[method-assign,assignment]


def test_the_tables_of_0_1_0_are_taken_over_and_given_back(storage: SqlStorage, path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.executescript((Path(__file__).parent / "tables_of_0_1_0.sql").read_text())
        before = schema_of(connection)
    connection.close()
    storage.enqueue(new_instance(id="waits"), timeout=5)
    with sqlite3.connect(path) as connection:
        assert schema_of(connection).keys() > before.keys()
    connection.close()
    storage.step_down()
    storage.close()
    with sqlite3.connect(path) as connection:
        assert schema_of(connection) == before
        assert connection.execute("SELECT id FROM pijobs_instance").fetchall() == [("waits",)]
    connection.close()
    assert storage.get("waits").state is State.QUEUED  # and up again


def schema_of(connection: sqlite3.Connection) -> dict[str, str]:
    """The columns of each table and index, and what the tables tell of themselves."""
    found = {}
    for kind, name in connection.execute("SELECT type, name FROM sqlite_master WHERE name LIKE 'pijobs%'").fetchall():
        columns = connection.execute(f"PRAGMA {kind}_info({name})").fetchall()
        found[name] = ", ".join(str(column[1:6] if kind == "table" else column[2]) for column in columns)
    told = connection.execute(
        "SELECT name, value FROM pijobs_meta WHERE name IN ('schema', 'additions', 'oldest_reader')"
    )
    return {**found, "told": str(told.fetchall())}
