"""What an acknowledged enqueue is worth is a choice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import sqlalchemy as sa
from integration.redis_server import Server, new_instance, running
from services import wait_until

from pijobs.errors import ConfigurationError, StorageUnavailable, StorageUnfit
from pijobs.jobs import State
from pijobs.storage import open_storage
from pijobs.storage.contract import Storage
from pijobs.storage.sql import inserts as saving
from pijobs.storage.values import Durability, Retention


def opened(url: str, durability: Durability) -> Any:
    return closing(open_storage(url, "durability", Retention(), durability))


@pytest.fixture(scope="module")
def master() -> Iterator[Server]:
    with running("--repl-diskless-sync-delay", "0") as server:
        yield server


@pytest.fixture
def replica(master: Server) -> Iterator[Server]:
    with running("--replicaof", f"127.0.0.1 {master.port}") as server:
        wait_until(lambda: server.client.info("replication")["master_link_status"] == "up", what="the replica")
        yield server


def test_an_enqueue_waits_until_a_replica_has_it(master: Server, replica: Server) -> None:
    with opened(master.url, "replica") as storage:
        storage.try_out()
        stored = storage.enqueue(new_instance(), timeout=5)
        with opened(replica.url, "server") as there:
            assert there._ask("HGET", f"i:{stored.id}", "state") == b"queued"


def test_an_enqueue_that_no_replica_confirms_is_a_doubt(master: Server, replica: Server) -> None:
    with opened(master.url, "replica") as storage:
        storage.ping()
        replica.freeze()
        new = new_instance()
        with pytest.raises(StorageUnavailable, match="not in a replica"):
            storage.enqueue(new, timeout=1)
        assert storage.get(new.id).state is State.QUEUED


def test_a_redis_that_can_not_tell_of_its_disk_is_refused(master: Server) -> None:
    with opened(master.url, "disk") as storage, pytest.raises(StorageUnfit, match=r"Redis 7\.2 with appendonly yes"):
        storage.try_out()  # this one has no AOF, whatever its version


@pytest.mark.parametrize(
    ("url", "durability"),
    [("sqlite:////tmp/x", "replica"), ("mysql+pymysql://h/db", "disk"), ("mysql+pymysql://h/db", "replica"),
     ("memory://", "disk")],
)  # fmt: skip
def test_what_a_storage_can_not_give_is_refused(url: str, durability: Durability) -> None:
    with pytest.raises(ConfigurationError, match=f"found {durability!r}"):
        open_storage(url, "durability", Retention(), durability)


@pytest.mark.parametrize(("durability", "found"), [("server", "off"), ("disk", "on")])
def test_postgresql_commits_an_enqueue_as_asked(
    postgresql_url: str, durability: Durability, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    enqueue = saving.enqueue_many

    def look(tx: Any, *args: Any) -> Any:
        seen.append(tx.link.run("SHOW synchronous_commit")[0][0])
        return enqueue(tx, *args)

    monkeypatch.setattr(saving, "enqueue_many", look)
    url = sa.make_url(postgresql_url).update_query_dict({"options": "-c synchronous_commit=off"})
    with opened(url.render_as_string(hide_password=False), durability) as storage:
        connected: Storage = storage
        connected.ping()
        connected.enqueue(new_instance(), timeout=10)
    assert seen == [found]


def test_postgresql_without_a_standby_can_not_give_a_replica(postgresql_url: str) -> None:
    with opened(postgresql_url, "replica") as storage, pytest.raises(StorageUnfit, match="synchronous_standby_names"):
        storage.try_out()
