"""A server may fork at any moment, also while a thread of ours connects to a storage that needs one."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest
from contract.workers import new_instance
from services import wait_until

from pijobs.base import threads
from pijobs.errors import StorageUnavailable
from pijobs.storage.contract import Storage
from pijobs.storage.redis import RedisStorage
from pijobs.storage.sql import SqlStorage

URLS = {
    "sentinel": "redis+sentinel://127.0.0.1:{port}/main",
    "cluster": "redis+cluster://127.0.0.1:{port}",
    "postgresql": "postgresql+psycopg://user@127.0.0.1:{port}/queue",
    "mariadb": "mysql+pymysql://user@127.0.0.1:{port}/queue",
}


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A server that lets connect, and never says anything."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        server.settimeout(60)
        yield server


@pytest.fixture(params=URLS)
def storage(request: pytest.FixtureRequest, silent: socket.socket) -> Iterator[Storage]:
    url = URLS[request.param].format(port=silent.getsockname()[1])
    made = RedisStorage(url, "forks") if url.startswith("redis") else SqlStorage(url, "forks")
    yield made
    made.close()


def tries(storage: Storage) -> None:
    with pytest.raises(StorageUnavailable):
        storage.enqueue(new_instance(), timeout=0.1)


def connects() -> bool:
    return any(one.name == "pijobs-connect" for one in threads.running())


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_connects_that_was_forked_while_its_parent_did(storage: Storage, silent: socket.socket) -> None:
    tries(storage)
    of_parent, _ = silent.accept()
    wait_until(connects, what="a thread that connects")
    child = os.fork()
    if child == 0:
        tries(storage)
        signal.pause()
    try:
        of_child, _ = silent.accept()  # it does not wait for a thread that is not there
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    for connection in (of_parent, of_child):
        connection.close()
