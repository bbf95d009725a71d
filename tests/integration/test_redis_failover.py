"""The master is killed: no request waits for its successor, what was taken is there, and work goes on."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from uuid import uuid4

import pytest
from integration.redis_server import LONG, new_instance, open_session, opened
from integration.test_redis_servers import took
from redis_groups import GROUPS, Group, Node, cluster, sentinels
from services import free_port, wait_until

from pijobs.errors import InstanceNotFound, StorageUnavailable
from pijobs.factory import build
from pijobs.jobs import State
from pijobs.request.queue import Handle, Queue
from pijobs.storage.contract import Storage
from pijobs.storage.redis import RedisStorage, topology
from pijobs.storage.values import End, Lease

TIMEOUT = 0.25
#: Seconds that a busy machine may take on top of a time-out; the spool waits for its disk.
GRACE = 3.0
JOBS = """
from pijobs import Job, hookimpl

@hookimpl
def register_jobs(settings):
    return [Job("failover.job", lambda: None)]
"""


@dataclass
class Failover:
    """What a server saw while its master was killed.

    :ivar before: calls before the kill.
    :ivar longest: seconds of the slowest call.
    :ivar took: seconds from the kill to the new master.
    :ivar found: what the new master has.
    """

    before: int
    handles: list[Handle]
    longest: float
    took: float
    found: set[str]
    lease: State
    alive: bool


@pytest.fixture(scope="module", params=list(GROUPS))
def failover(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Failover]:
    folder = tmp_path_factory.mktemp("failover")
    (folder / "failover_jobs.py").write_text(JOBS)
    with GROUPS[request.param]() as group, pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        values = {
            "URL": group.url, "NAME": f"failover-{uuid4().hex}", "CLASS": "pijobs.HueyQueue",
            "PLUGINS": ("failover_jobs",), "ENQUEUE_TIMEOUT": TIMEOUT, "SPOOL": str(folder / "spool.sqlite"),
        }  # fmt: skip
        queue = build({"SECRET_KEY": "s", **{f"PI_JOB_QUEUE_{name}": value for name, value in values.items()}}).queue
        assert queue.storage is not None and queue.spool is not None
        # Makes the tables, which takes longer than a fallback should.
        queue.spool.depths()
        yield fail_over(group, queue, queue.storage)
        queue.storage.close()
        queue.spool.close()


def fail_over(group: Group, queue: Queue, storage: Storage) -> Failover:
    handles, longest = list[Handle](), 0.0

    def enqueue() -> str:
        nonlocal longest
        start = time.monotonic()
        handles.append(queue.enqueue("failover.job"))
        longest = max(longest, time.monotonic() - start)
        return handles[-1].via

    wait_until(lambda: queue.enqueue("failover.job").via == "storage", what="the first connection")
    session = open_session(storage)
    for _ in range(20):
        assert enqueue() == "storage"
    (lease,) = storage.step(session, [], want=1).leases
    master, before = group.wait_whole(queue.settings.name), len(handles)
    running = {record.id for record in storage.page(State.RUNNING).records}
    # Servers that a busy machine holds up fail over by themselves, and forget by Redis's own rules.
    assert there(storage) | running >= {handle.id for handle in handles} | {lease.id}, "lost before the kill"
    master.kill()
    killed = time.monotonic()
    wait_until(lambda: enqueue() == "storage", what="an enqueue on the new master")
    failed_over = time.monotonic() - killed
    try:
        wait_until(lambda: ends(storage, session, lease), what="the end of the lease")
    except InstanceNotFound as error:
        keys = {node.port: node.ask("DBSIZE") for node in group.nodes}
        raise AssertionError(f"{error}; keys by port: {keys}; servers said:\n{group.story()}") from None

    def emptied() -> bool:
        """A server empties the spool in the thread of an enqueue."""
        queue.enqueue("failover.job")
        return {handle.id for handle in handles} <= there(storage)

    wait_until(emptied, what="what was spooled")
    alive = storage.beat(session, lease=LONG).alive
    return Failover(before, handles, longest, failed_over, there(storage), storage.get(lease.id).state, alive)


def ends(storage: Storage, session: str, lease: Lease) -> bool:
    try:
        storage.step(session, [End(lease.id, lease.token, State.DONE)], want=0)
        return storage.get(lease.id).state is State.DONE  # the answer to an earlier try may have got lost
    except StorageUnavailable:
        return False


def there(storage: Storage) -> set[str]:
    return {record.id for state in (State.QUEUED, State.DONE) for record in storage.page(state, limit=5000).records}


def test_no_request_waits_for_a_failover(failover: Failover) -> None:
    during = failover.handles[failover.before : -1]
    assert {handle.via for handle in during} == {"spool"}
    # A busy machine holds up a call, too, but not for as long as the failover takes.
    assert failover.longest < max(TIMEOUT + GRACE, failover.took / 2)


def test_what_was_taken_before_and_meanwhile_is_on_the_new_master(failover: Failover) -> None:
    # One replica that was in sync: nothing is missing.
    assert {handle.id for handle in failover.handles} <= failover.found


def test_a_lease_outlives_its_master(failover: Failover) -> None:
    assert (failover.lease, failover.alive) == (State.DONE, True)


def test_a_sentinel_that_hangs_is_waited_for_once() -> None:
    with sentinels() as group:
        first = group.sentinels[0].process
        assert first is not None
        first.send_signal(signal.SIGSTOP)
        with opened(group.url) as storage:
            wait_until(lambda: took(storage, new_instance()), what="the second sentinel")
            seconds = []
            for _ in range(3):
                start = time.monotonic()
                storage._place.connect().close()
                seconds.append(time.monotonic() - start)
            # The quickest shows it on a machine that has other work, too.
            assert min(seconds) < topology.SENTINEL_TIMEOUT
        first.send_signal(signal.SIGCONT)


def test_a_cluster_is_found_by_any_node_that_answers() -> None:
    with cluster() as group:
        dead = f"redis+cluster://127.0.0.1:{free_port()},"
        with opened(group.url.replace("redis+cluster://", dead)) as storage:
            wait_until(lambda: took(storage, new_instance()), what="a node that answers")


def test_a_queue_that_moves_to_another_node_of_a_cluster_refuses_and_keeps() -> None:
    with cluster() as group, opened(group.url) as storage:
        queue = queue_of(storage)
        kept = [new_instance() for _ in range(20)]
        for new in kept:
            wait_until(lambda new=new: took(storage, new), what="an enqueue")  # type: ignore[misc]
        source = group.wait_whole(queue)
        target = next(node for node in group.nodes if node.is_master() and node is not source)
        slot = source.client.cluster("KEYSLOT", storage._prefix)
        names = {node: node.client.cluster("MYID").decode() for node in (source, target)}
        target.client.cluster("SETSLOT", slot, "IMPORTING", names[source])
        source.client.cluster("SETSLOT", slot, "MIGRATING", names[target])
        with pytest.raises(StorageUnavailable, match="moves to another node"):
            storage.enqueue(new_instance(), timeout=5)
        while keys := source.client.cluster("GETKEYSINSLOT", slot, 10):
            source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
            assert not took(storage, new_instance())
        for node in (target, source):
            node.client.cluster("SETSLOT", slot, "NODE", names[target])
        new = new_instance()
        wait_until(lambda: took(storage, new), what="an enqueue on the other node")
        assert group.master(queue) is target
        assert {record.id for record in storage.page(State.QUEUED).records} == {one.id for one in [*kept, new]}


@pytest.mark.chaos
def test_of_the_queues_of_several_realms_on_a_cluster_a_dead_node_stops_only_its_own_until_a_replica_takes_over() -> (
    None
):
    with cluster() as group, ExitStack() as stack:
        realms: dict[Node, RedisStorage] = {}
        while len(realms) < 3:  # a name decides which node has its queue
            storage = stack.enter_context(opened(group.url))
            node = group.wait_whole(queue_of(storage))
            realms.setdefault(node, storage)
        kept = {node: new_instance() for node in realms}
        for node, storage in realms.items():
            wait_until(lambda node=node, storage=storage: took(storage, kept[node]), what="an enqueue")  # type: ignore[misc]
        dead, *others = realms
        dead.kill()
        assert not took(realms[dead], new_instance())
        for node in others:
            assert took(realms[node], new_instance())
        group.wait_successor(queue_of(realms[dead]))
        wait_until(lambda: took(realms[dead], new_instance()), what="an enqueue on the replica")
        assert realms[dead].get(kept[dead].id).state is State.QUEUED


def queue_of(storage: RedisStorage) -> str:
    return storage._prefix.removeprefix("{pijobs:").removesuffix("}:")
