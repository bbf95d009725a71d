"""Two nodes of privacyIDEA with one database, and one queue or two: a challenge at one, a sign-in at the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from challenges import arrives_and_signs_in, challenge
from preloaded import Programs
from quick_instance import RELEASE, QuickInstance
from redis_on_disk import Redis

from pijobs_mail.sink.server import Sink
from pijobs_privacyidea.instance import Instance

# privacyIDEA's own warnings are not ours to mend.
pytestmark = pytest.mark.filterwarnings("default")


Node = Callable[..., Instance]


@pytest.fixture
def another(instance: Instance, sink: Sink, tmp_path: Path, programs: Programs) -> Iterator[Node]:
    """Makes nodes with the database, the keys and the settings of the first one; they do not serve yet."""
    instance.set_smtp_server("otp", sink.port, queued=True)
    with ExitStack() as nodes:

        def make(name: str = "second", **settings: str) -> Instance:
            here = tmp_path / name
            here.mkdir()
            node = nodes.enter_context(QuickInstance(here, {}, programs))
            own = {"PI_LOGFILE": str(here / "privacyidea.log"), "PI_NODE": name, **settings}
            lines = [f"{name} = {value!r}\n" for name, value in own.items()]
            node.config.write_text(instance.config.read_text() + "".join(lines))
            node.password = instance.password
            return node

        yield make


@pytest.fixture
def second(another: Node) -> Instance:
    return another()


def test_with_one_redis_the_worker_of_the_other_node_goes_on(instance: Instance, second: Instance, sink: Sink) -> None:
    second.serve()
    with instance.working() as worker, second.working():
        arrives_and_signs_in(second, sink, challenge(instance))
        worker.kill()
        arrives_and_signs_in(second, sink, challenge(instance))


@pytest.mark.skipif(RELEASE < (3, 13), reason="this privacyIDEA has no SQLAlchemy for a queue in a database")
@pytest.mark.parametrize("database", ["mariadb", "postgresql"])
def test_with_one_queue_in_a_database_the_worker_of_the_other_node_goes_on(
    another: Node, sink: Sink, request: pytest.FixtureRequest, database: str
) -> None:
    url = request.getfixturevalue(f"{database}_url")
    first, second = (another(name, PI_JOB_QUEUE_URL=url) for name in ("first", "second"))
    first.serve()
    second.serve()
    with first.working() as worker, second.working():
        arrives_and_signs_in(second, sink, challenge(first))
        worker.kill()
        arrives_and_signs_in(second, sink, challenge(first))


def test_with_one_redis_each_a_node_goes_on_alone(
    instance: Instance, another: Node, sink: Sink, redis_server: Redis, tmp_path: Path
) -> None:
    folder = tmp_path / "redis"
    folder.mkdir()
    own = Redis(folder)
    try:
        second = another(PI_JOB_QUEUE_URL=own.url)
        second.serve()
        with instance.working() as worker, second.working():
            arrives_and_signs_in(second, sink, challenge(instance))
            arrives_and_signs_in(instance, sink, challenge(second))
            worker.kill()
            with redis_server.away():
                arrives_and_signs_in(second, sink, challenge(second))
    finally:
        own.stop()
