"""A storage that does not answer: told in time, by one kind of error, without a password."""

from __future__ import annotations

import socket
import sqlite3
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from services import free_port

from pijobs.errors import StorageUnavailable
from pijobs.jobs import State
from pijobs.storage.contract import Storage
from pijobs.storage.values import End

from .conftest import open_kind
from .workers import new_instance

SECRET = "s3cr3t-passw0rd"
#: Seconds that a loaded machine may add; what has no bound takes far longer here, or for ever.
LOADED = 4.0
URLS = {
    "redis": "redis://user:{secret}@127.0.0.1:{port}/0",
    "postgresql": "postgresql+psycopg://user:{secret}@127.0.0.1:{port}/pijobs",
    "mariadb": "mysql+pymysql://user:{secret}@127.0.0.1:{port}/pijobs",
}
OpenAt = Callable[[int], Storage]


@pytest.fixture(params=list(URLS))
def open_at(request: pytest.FixtureRequest) -> Iterator[OpenAt]:
    """Make a storage whose server should be at a port of this machine."""
    opened: list[Storage] = []

    def open_one(port: int) -> Storage:
        url = URLS[request.param].format(secret=SECRET, port=port)
        opened.append(open_kind(request.param, url, "contract-unavailable"))
        return opened[-1]

    yield open_one
    for storage in opened:
        storage.close()


@pytest.fixture
def nobody(open_at: OpenAt) -> Storage:
    """A storage whose server is not there."""
    return open_at(free_port())


@pytest.fixture
def silence(open_at: OpenAt) -> Iterator[Storage]:
    """A storage whose server takes the connection and then says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield open_at(server.getsockname()[1])


OPERATIONS: dict[str, Callable[[Storage], object]] = {
    "ping": lambda storage: storage.ping(),
    "enqueue": lambda storage: storage.enqueue(new_instance(), timeout=0.5),
    "enqueue_periodic": lambda storage: storage.enqueue_periodic(new_instance(), due=1),
    "step": lambda storage: storage.step("session", [End("id", "token", State.DONE)], want=1),
    "beat": lambda storage: storage.beat("session", lease=1000),
    "close_session": lambda storage: storage.close_session("session"),
    "get": lambda storage: storage.get("id"),
    "page": lambda storage: storage.page(State.DEAD),
    "depths": lambda storage: storage.depths(),
    "cancel": lambda storage: storage.cancel("id", reason="by admin"),
    "pause": lambda storage: storage.pause(),
    "make_room": lambda storage: storage.make_room("test.job", priority=1, reason=""),
    "groups": lambda storage: storage.groups(),
    "count": lambda storage: storage.count("key", limit=1, per=1000),
}


@pytest.mark.parametrize("operation", list(OPERATIONS))
def test_an_absent_storage_is_unavailable(nobody: Storage, operation: str) -> None:
    with pytest.raises(StorageUnavailable) as caught:
        OPERATIONS[operation](nobody)
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__cause__ is not None


def test_a_constructor_neither_connects_nor_starts_a_thread(open_at: OpenAt) -> None:
    before = threading.active_count()
    open_at(free_port())
    assert threading.active_count() == before


def test_the_display_url_has_no_password(nobody: Storage) -> None:
    assert SECRET not in nobody.display_url
    assert "127.0.0.1" in nobody.display_url


def test_the_representation_has_no_password(nobody: Storage) -> None:
    assert SECRET not in repr(nobody)


def test_now_falls_back_to_the_clock_of_the_host(nobody: Storage) -> None:
    assert abs(nobody.now() - time.time() * 1000) < 1000


@pytest.mark.parametrize("timeout", [0.1, 0.25, 0.6])
def test_an_enqueue_gives_up_in_time_when_the_server_is_silent(silence: Storage, timeout: float) -> None:
    start = time.monotonic()
    with pytest.raises(StorageUnavailable):
        silence.enqueue(new_instance(), timeout=timeout)
    assert time.monotonic() - start < timeout + LOADED


def test_the_second_enqueue_of_an_outage_is_no_slower(silence: Storage) -> None:
    for _ in range(3):
        start = time.monotonic()
        with pytest.raises(StorageUnavailable):
            silence.enqueue(new_instance(), timeout=0.25)
        assert time.monotonic() - start < 0.25 + LOADED


# -- SQLite: the file ------------------------------------------------------------------------------------------------


def open_sqlite(path: Path) -> Storage:
    return open_kind("sqlite", f"sqlite:///{path}", "contract-unavailable")


def test_a_file_that_can_not_be_made_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    storage = open_sqlite(tmp_path / "file" / "queue.sqlite")
    with pytest.raises(StorageUnavailable):
        storage.enqueue(new_instance(), timeout=1)
    storage.close()


def test_a_file_that_is_no_database_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "queue.sqlite").write_bytes(b"this is not a database" * 100)
    storage = open_sqlite(tmp_path / "queue.sqlite")
    with pytest.raises(StorageUnavailable):
        storage.enqueue(new_instance(), timeout=1)
    storage.close()


def test_a_constructor_makes_no_file(tmp_path: Path) -> None:
    open_sqlite(tmp_path / "queue.sqlite").close()
    assert list(tmp_path.iterdir()) == []


def test_an_enqueue_gives_up_in_time_when_the_file_is_locked(tmp_path: Path) -> None:
    path = tmp_path / "queue.sqlite"
    storage = open_sqlite(path)
    storage.enqueue(new_instance(), timeout=5)
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN EXCLUSIVE")
    start = time.monotonic()
    with pytest.raises(StorageUnavailable):
        storage.enqueue(new_instance(), timeout=0.25)
    assert time.monotonic() - start < 0.25 + LOADED
    blocker.execute("ROLLBACK")
    blocker.close()
    assert storage.enqueue(new_instance(), timeout=5).fresh
    storage.close()
