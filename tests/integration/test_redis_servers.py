"""The kinds of servers a URL may name, and what stays in them."""

from __future__ import annotations

import subprocess
import time
import traceback
from contextlib import AbstractContextManager
from pathlib import Path
from uuid import uuid4

import pytest
import redis
from integration.redis_server import LONG, Server, new_instance, open_session, opened, program, running, sentinel_of
from services import free_port, missing, wait_until

from pijobs.errors import ConfigurationError, InstanceNotFound, StorageUnavailable
from pijobs.jobs import State
from pijobs.storage.redis import RedisStorage
from pijobs.storage.values import End, NewInstance, Retention


def works(storage: RedisStorage) -> bool:
    """Whether an instance goes all its way."""
    new = new_instance()
    storage.enqueue(new, timeout=5)
    session = open_session(storage)
    (lease,) = storage.step(session, [], want=1).leases
    storage.step(session, [End(lease.id, lease.token, State.DONE)], want=0)
    storage.wait(0.02)
    return storage.get(new.id).state is State.DONE


def test_a_unix_socket_is_used() -> None:
    with running("--unixsocket", "redis.sock") as server, opened(f"unix://{server.place}/redis.sock?db=1") as storage:
        assert works(storage)
        assert server.client.dbsize() == 0


@pytest.mark.parametrize("in_url", [True, False])
def test_a_password_is_used_from_the_url_or_apart(in_url: bool) -> None:
    with running(password="p@ss/word") as server:
        url = server.url.replace("//", "//:p%40ss%2Fword@") if in_url else server.url
        with opened(url, password=None if in_url else "p@ss/word") as storage:
            assert works(storage)


def test_tls_is_used(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*make, *name, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    port = free_port()
    options = ["--tls-port", str(port), "--tls-cert-file", str(certificate), "--tls-key-file", str(key)]
    options += ["--tls-auth-clients", "no", "--tls-ca-cert-file", str(certificate)]
    if b"libssl" not in subprocess.run(["ldd", program()], capture_output=True).stdout:
        missing("a redis-server with TLS")
    with running(*options) as server, opened(f"rediss://localhost:{port}/0?ssl_ca_certs={certificate}") as storage:
        assert works(storage)
        before = server.client.info("stats")["total_connections_received"]
        for _ in range(5):
            storage.enqueue(new_instance(), timeout=5)
        assert server.client.info("stats")["total_connections_received"] == before


def test_sentinel_tells_the_master_and_its_successor() -> None:
    with running() as first, running() as second, sentinel_of(first) as sentinel:
        url = f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{sentinel.port}/main/2"
        with opened(url) as storage:
            assert works(storage)
            assert first.client.info("keyspace")["db2"]["keys"] > 0
            first.client.replicaof("127.0.0.1", second.port)
            sentinel.command("SENTINEL", "REMOVE", "main")
            sentinel.command("SENTINEL", "MONITOR", "main", "127.0.0.1", second.port, 1)
            new = new_instance()
            wait_until(lambda: took(storage, new), what="an enqueue on the new master")
        assert second.client.info("keyspace")["db2"]["keys"] > 0


def took(storage: RedisStorage, new: NewInstance) -> bool:
    try:
        return bool(storage.enqueue(new, timeout=1).id)
    except StorageUnavailable:
        return False


def test_any_node_of_a_cluster_leads_to_the_one_that_has_the_keys() -> None:
    with cluster_node() as one, cluster_node() as other:
        for node, slots in ((one, range(8192)), (other, range(8192, 16384))):
            node.command("CLUSTER", "ADDSLOTS", *slots)
        one.command("CLUSTER", "MEET", "127.0.0.1", other.port)

        def agree() -> bool:
            return all(b"cluster_state:ok" in node.command("CLUSTER", "INFO") for node in (one, other))

        wait_until(agree, what="a cluster")
        for node in (one, other):
            with opened(node.url) as storage:
                assert works(storage)


def cluster_node() -> AbstractContextManager[Server]:
    # The nodes talk to each other on the port 10,000 above.
    while (port := free_port()) > 55_000:
        pass
    return running("--cluster-enabled", "yes", port=port)


@pytest.mark.parametrize(
    "url",
    [
        "http://user:s3cret@localhost/0",
        "redis+sentinel://user:s3cret@localhost:1/",
        "redis+sentinel://user:s3cret@localhost:port/main",
        "redis+cluster://user:s3cret@localhost:port",
        "redis+cluster://user:s3cret@localhost:1/1",
        "redis+cluster://user:s3cret@",
        "redis://user:s3cret@localhost:port/0",
    ],
)
def test_a_url_that_can_not_be_read_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        RedisStorage(url, "test")
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


def test_a_diagnosis_tells_what_an_operator_checks(redis_url: str) -> None:
    with opened(redis_url) as storage:
        facts = storage.diagnose()
    assert (facts["role"], facts["maxmemory-policy"]) == ("master", "noeviction")
    assert facts["redis_version"][0].isdigit()


def test_a_diagnosis_does_without_rights(redis_url: str) -> None:
    with running() as server:
        rules = ("on", ">pw", "~*", "+@all", "-info", "-config")
        server.command("ACL", "SETUSER", "worker", *rules)
        with opened(server.url.replace("//", "//worker:pw@")) as storage:
            assert storage.diagnose() == {"local": "yes", "login": "yes", "tls": "no"}
            assert works(storage)


@pytest.mark.parametrize("missing_right", ["zadd", "sadd"])
def test_what_a_missing_right_kept_from_being_stored_is_not_run_when_it_is_granted(missing_right: str) -> None:
    with running() as server:
        server.command("ACL", "SETUSER", "jobs", "on", ">x", "~*", "&*", "+@all")
        with opened(server.url.replace("//", "//jobs:x@")) as storage:
            assert works(storage)
            server.command("ACL", "SETUSER", "jobs", f"-{missing_right}")
            new = new_instance(group="another", name="test.another")
            with pytest.raises(StorageUnavailable, match=r"^Redis is not available: .*can't run this command"):
                storage.enqueue(new, timeout=5)
            server.command("ACL", "SETUSER", "jobs", f"+{missing_right}")
            list(storage.check(repair=True))
            assert storage.step(open_session(storage), [], want=1).leases == []
            with pytest.raises(InstanceNotFound):
                storage.get(new.id)


def test_a_queue_that_was_used_leaves_only_what_must_stay(redis_url: str) -> None:
    client = redis.Redis.from_url(redis_url)
    storage = RedisStorage(redis_url, name := f"test-{uuid4().hex}", retention=Retention(1, 0, 1))
    for number in range(5):
        facts = {"group": f"group-{number}", "subject": "s", "deadline": round(time.time() * 1000) + LONG, "limit": 2}
        storage.enqueue(new_instance(**facts, key=f"key-{number}"), timeout=5)
    session = open_session(storage)
    states = [State.DONE, State.DEAD, State.EXPIRED, State.DONE, State.DONE]
    leases = storage.step(session, [], want=9).leases
    storage.step(session, [End(one.id, one.token, state) for one, state in zip(leases, states, strict=True)], want=0)
    ended = storage.now()
    wait_until(lambda: storage.now() > ended + 20)
    storage.beat(session, lease=LONG)
    storage.close_session(session)
    left = {key.decode().rpartition("}:")[2] for key in client.scan_iter(f"*{name}*", count=1000)}
    storage.close()
    assert left <= {"audit", "meta", "names", "wake"}


def test_a_page_and_the_depths_of_a_long_queue_take_no_scan(redis_url: str) -> None:
    with opened(redis_url) as storage:
        for _ in range(300):
            storage.enqueue(new_instance(subject="s"), timeout=5)
        client = redis.Redis.from_url(redis_url)
        client.config_resetstat()
        page = storage.page(State.QUEUED, subject="s", limit=10)
        storage.depths()
        calls = client.info("commandstats")
        looked_at = calls["cmdstat_hmget"]["calls"]
        client.close()
    assert len(page.records) == 10 and page.cursor
    assert looked_at <= 12
    assert not {"cmdstat_scan", "cmdstat_keys", "cmdstat_zscan"} & set(calls)
