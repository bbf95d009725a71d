"""PostgreSQL and MariaDB behind a network that fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
from contract.workers import LONG, new_instance
from integration.live_sessions import leased_after_beats, live_session
from integration.sql_proxy import Proxy, proxy
from services import wait_until
from sqlalchemy import make_url

from pijobs.errors import StorageUnavailable
from pijobs.jobs import State
from pijobs.storage.sessions import SessionInfo
from pijobs.storage.sql import SqlStorage, connection_sources
from pijobs.storage.values import End

#: Seconds that a slow machine may take on top of a time-out.
GRACE = 4.0


@pytest.fixture(params=["postgresql", "mariadb"])
def direct(request: pytest.FixtureRequest) -> str:
    """The URL of a server on its UNIX socket."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    if not {"host", "unix_socket"} & set(make_url(url).query):
        pytest.skip("needs a server on a UNIX socket, to stand a proxy before it")
    return url


@pytest.fixture
def network(direct: str) -> Iterator[Proxy]:
    query = make_url(direct).query
    target = query["unix_socket"] if "unix_socket" in query else f"{query['host']}/.s.PGSQL.5432"
    with proxy(str(target)) as one:
        yield one


@pytest.fixture
def storage(direct: str, network: Proxy) -> Iterator[SqlStorage]:
    url = make_url(direct).set(host="127.0.0.1", port=network.port, query={})
    one = SqlStorage(url.render_as_string(hide_password=False), f"network-{uuid4().hex}")
    one.enqueue(new_instance(), timeout=10)
    yield one
    network.thaw()
    one.close()


def open_session(storage: SqlStorage) -> str:
    session = uuid4().hex
    storage.open_session(SessionInfo(session, "host.example", 1, storage.now(), "1.0"), lease=LONG)
    return session


def seconds_of(call: Callable[[], object]) -> float:
    start = time.monotonic()
    with pytest.raises(StorageUnavailable):
        call()
    return time.monotonic() - start


def test_an_enqueue_gives_up_in_time_when_the_network_falls_silent(storage: SqlStorage, network: Proxy) -> None:
    network.freeze()
    assert seconds_of(lambda: storage.enqueue(new_instance(), timeout=0.25)) < 0.25 + GRACE


def test_further_enqueues_of_an_outage_give_up_in_time(storage: SqlStorage, network: Proxy) -> None:
    network.freeze()
    for _ in range(3):
        assert seconds_of(lambda: storage.enqueue(new_instance(), timeout=0.25)) < 0.25 + GRACE


def test_an_enqueue_works_again_when_the_network_is_back(storage: SqlStorage, network: Proxy) -> None:
    network.freeze()
    seconds_of(lambda: storage.enqueue(new_instance(), timeout=0.2))
    network.thaw()

    def works() -> bool:
        try:
            return storage.enqueue(new_instance(), timeout=1).fresh
        except StorageUnavailable:
            return False

    wait_until(works, what="an enqueue")


@pytest.mark.parametrize("at", ["first", "prepared", "looked at"])
def test_a_connection_that_falls_silent_when_it_is_new_is_given_up(
    storage: SqlStorage, network: Proxy, direct: str, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_sources, "READY_WITHIN", 0.5)
    words = {"first": b"version", "prepared": b"pg_backend_pid", "looked at": b"pijobs_meta"}
    if direct.startswith("mysql"):
        words = {"first": b"max_allowed_packet", "prepared": b"lock_wait_timeout", "looked at": b"pijobs_meta"}
    if at == "first":  # what SQLAlchemy asks once
        storage.close()
    else:
        network.cut()
    network.fall_silent_at = words[at]

    def works() -> bool:
        try:
            storage.enqueue(new_instance(), timeout=0.5)
        except StorageUnavailable:
            return False
        return network.fall_silent_at is None

    wait_until(works, what="an enqueue that is stored after the silence")


def test_connections_that_were_ended_while_idle_cost_nothing(storage: SqlStorage, network: Proxy) -> None:
    storage.ping()
    network.cut()
    # The end has to arrive before it can be seen.
    time.sleep(0.05)
    assert storage.enqueue(new_instance(), timeout=2).fresh


def test_leases_nobody_was_told_of_go_back(storage: SqlStorage, network: Proxy) -> None:
    session = live_session(storage)
    network.swallow_answer_to = b"COMMIT"
    with pytest.raises(StorageUnavailable):
        session.step([], want=1)
    assert storage.get(leased_after_beats(session).id).crashes == 0


def test_an_enqueue_whose_answer_was_lost_is_stored_once(storage: SqlStorage, network: Proxy, direct: str) -> None:
    new = new_instance()
    # PostgreSQL stores it by one statement.
    network.swallow_answer_to = new.id.encode() if direct.startswith("postgresql") else b"COMMIT"
    seconds_of(lambda: storage.enqueue(new, timeout=2))

    def stored() -> bool:
        try:
            return not storage.enqueue(new, timeout=2).fresh
        except StorageUnavailable:
            return False

    wait_until(stored, what="the second enqueue")


def test_an_end_whose_answer_was_lost_happened_once(storage: SqlStorage, network: Proxy) -> None:
    session = open_session(storage)
    (lease,) = storage.step(session, [], want=1).leases
    end = End(lease.id, lease.token, State.DONE)
    network.swallow_answer_to = b"COMMIT"
    with pytest.raises(StorageUnavailable):
        storage.step(session, [end], want=0)

    def ended() -> bool:
        try:
            return storage.step(session, [end], want=0).lost == [lease.id]
        except StorageUnavailable:
            return False

    wait_until(ended, what="the second step")
    assert storage.get(lease.id).attempts == 1


def test_diagnose_tells_version_and_clock(storage: SqlStorage) -> None:
    facts = storage.diagnose()
    assert facts["version"][0].isdigit()
    assert "against this host" in facts["clock"]


def test_a_connection_whose_server_became_read_only_is_dropped(direct: str) -> None:
    storage = SqlStorage(direct, f"read-only-{uuid4().hex}")
    storage.enqueue(new_instance(), timeout=10)
    live = storage._live
    command = (
        "SET default_transaction_read_only = on" if "postgresql" in direct else "SET SESSION TRANSACTION READ ONLY"
    )
    # Of this connection only: the address leads to a new primary.
    live.transactions.read(live.quick, lambda tx: tx.link.run(command), timeout=5)
    with pytest.raises(StorageUnavailable, match=r"25006|the server is read-only"):
        storage.enqueue(new_instance(), timeout=5)

    def stores() -> bool:
        try:
            return storage.enqueue(new_instance(), timeout=5).fresh
        except StorageUnavailable:
            return False

    wait_until(stores, what="the next connection")
    storage.close()
