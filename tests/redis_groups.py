"""Redis servers that stand in for each other, below three sentinels or in a Redis Cluster; whichever has the queue can
be killed and started again."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import redis
from integration.redis_server import program
from services import free_port, wait_until
from services import program as find

from pijobs.storage.redis.topology import key_prefix

#: Seconds within which servers find each other, and another one takes over.
PATIENCE = 180.0
#: A server without its data that comes back as a master empties its replicas, says Redis's page on replication.
KEPT = ("--save", "", "--appendonly", "yes")


class Node:
    """A redis-server in a folder of its own."""

    def __init__(self, *options: str, port: int | None = None) -> None:
        self.place = Path(tempfile.mkdtemp(prefix="pijobs-redis-"))
        self.port = port or free_port()
        self._options = options
        self.client = redis.Redis(port=self.port)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        place = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.place)]
        with (self.place / "log").open("ab") as log:
            self.process = subprocess.Popen([program(), *self._options, *place], cwd=self.place, stdout=log)
        wait_until(self.answers, what="the start of redis-server")

    def answers(self) -> bool:
        assert not self.is_dead(), (self.place / "log").read_text(errors="replace")[-2000:]
        return self.ask("PING") is not None

    def ask(self, *words: str | int) -> Any:
        """The answer, or None from a server that is dead, busy or not the right one."""
        try:
            return self.client.execute_command(*words)  # type: ignore[no-untyped-call]
        except redis.RedisError:
            return None

    def is_dead(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def is_master(self) -> bool:
        role = self.ask("ROLE")
        return bool(role) and role[0] == b"master"

    def is_in_sync(self, written: dict[int, int]) -> bool:
        """As a replica with its master; as a master with all replicas that have found it and told to have what was
        written at the first look. They tell once a second, and others write meanwhile.

        One that has loaded a first copy is ``online`` a second before it gets what was written since.

        :param written: bytes at the first look, by port."""
        facts = self.ask("INFO", "replication") or {}
        if facts.get("role") == "slave":
            return bool(facts["master_link_status"] == "up")
        replicas = [value for name, value in facts.items() if name.startswith("slave") and isinstance(value, dict)]
        before = written.setdefault(self.port, facts.get("master_repl_offset", 0))
        return bool(replicas) and all(one["state"] == "online" and one["offset"] >= before for one in replicas)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self.client.close()
        if not self.is_dead():
            self.kill()
        shutil.rmtree(self.place, ignore_errors=True)


class Group(ABC):
    """:ivar url: for the queue."""

    url: str

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes

    @abstractmethod
    def has(self, node: Node, queue: str) -> bool:
        """Whether clients are led to this node."""

    def is_whole(self, queue: str, written: dict[int, int]) -> bool:
        """Whether another one could take over, with all that was written before; see :meth:`Node.is_in_sync`."""
        return self.master(queue) is not None and all(node.is_in_sync(written) for node in self.nodes)

    def master(self, queue: str) -> Node | None:
        return next((node for node in self.nodes if not node.is_dead() and self.has(node, queue)), None)

    def wait_whole(self, queue: str) -> Node:
        """Until another one could take over; returns who has the queue."""
        written: dict[int, int] = {}
        return self._wait_master(queue, lambda: self.is_whole(queue, written), "replicas that are in sync")

    def wait_successor(self, queue: str) -> Node:
        return self._wait_master(queue, lambda: True, "another master")

    def _wait_master(self, queue: str, is_ready: Callable[[], bool], what: str) -> Node:
        found: list[Node] = []

        def is_there() -> bool:
            # Asked once: on a busy machine the next answer may not come in time.
            if is_ready() and (master := self.master(queue)) is not None:
                found.append(master)
            return bool(found)

        wait_until(is_there, PATIENCE, what=what)
        return found[0]

    def story(self) -> str:
        """What they logged of who is master."""
        lines = [line for node in self.nodes for line in (node.place / "log").read_text(errors="replace").splitlines()]
        return "\n".join(sorted(line for line in lines if "master" in line.lower() or "failover" in line.lower()))

    def revive(self) -> None:
        for node in self.nodes:
            if node.is_dead():
                node.start()


class Sentinels(Group):
    """A master and a replica, and three sentinels that know them as ``main``."""

    def __init__(self, nodes: list[Node], sentinels: list[Node]) -> None:
        super().__init__(nodes)
        self.sentinels = sentinels
        self.url = f"redis+sentinel://{','.join(one.host for one in sentinels)}/main/1"

    def has(self, node: Node, queue: str) -> bool:
        named = [one.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main") for one in self.sentinels if not one.is_dead()]
        return all(place == [b"127.0.0.1", str(node.port).encode()] for place in named) and node.is_master()

    def is_whole(self, queue: str, written: dict[int, int]) -> bool:
        return super().is_whole(queue, written) and all(map(self._knows_all, self.sentinels))

    def _knows_all(self, sentinel: Node) -> bool:
        flat = sentinel.ask("SENTINEL", "MASTER", "main") or []
        facts = dict(zip(flat[::2], flat[1::2], strict=True)) if isinstance(flat, list) else flat
        found = {name if isinstance(name, str) else name.decode(): value for name, value in facts.items()}
        return int(found.get("num-other-sentinels", 0)) == 2 and int(found.get("num-slaves", 0)) == 1


class Cluster(Group):
    """Three masters with one replica each."""

    def __init__(self, nodes: list[Node]) -> None:
        super().__init__(nodes)
        # Not all: a client learns from any node who has the queue.
        self.url = f"redis+cluster://{','.join(node.host for node in nodes[:4])}"

    def has(self, node: Node, queue: str) -> bool:
        return node.is_master() and node.ask("EXISTS", key_prefix(queue)) is not None


@contextmanager
def sentinels() -> Iterator[Sentinels]:
    with ExitStack() as stack:

        def start(*options: str) -> Node:
            node = Node(*options)
            stack.callback(node.close)
            node.start()
            return node

        first = start(*KEPT)
        second = start(*KEPT, "--replicaof", "127.0.0.1", str(first.port))
        watching = []
        for _ in range(3):
            sentinel = Node("sentinel.conf", "--sentinel")
            stack.callback(sentinel.close)
            (sentinel.place / "sentinel.conf").write_text(
                f"sentinel monitor main 127.0.0.1 {first.port} 2\n"
                "sentinel down-after-milliseconds main 2000\nsentinel failover-timeout main 6000\n"
            )
            sentinel.start()
            watching.append(sentinel)
        group = Sentinels([first, second], watching)
        group.wait_whole("any")
        yield group


@contextmanager
def cluster() -> Iterator[Cluster]:
    client = find("redis-cli")
    with ExitStack() as stack:
        nodes = []
        for _ in range(6):
            # They talk to each other on the port 10,000 above.
            while (port := free_port()) > 55_000:
                pass
            node = Node("--cluster-enabled", "yes", "--cluster-node-timeout", "2000", *KEPT, port=port)
            stack.callback(node.close)
            node.start()
            nodes.append(node)
        hosts = [node.host for node in nodes]
        create = [client, "--cluster", "create", *hosts, "--cluster-replicas", "1", "--cluster-yes"]
        done = subprocess.run(create, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, done.stdout + done.stderr
        group = Cluster(nodes)
        wait_until(lambda: all(map(is_ok, nodes)), PATIENCE, what="a cluster")
        group.wait_whole("any")
        yield group


def is_ok(node: Node) -> bool:
    facts = node.ask("CLUSTER", "INFO") or b""
    return b"cluster_state:ok" in facts and b"cluster_known_nodes:6" in facts


GROUPS: Mapping[str, Callable[[], AbstractContextManager[Group]]] = {
    "redis sentinel": sentinels,
    "redis cluster": cluster,
}
