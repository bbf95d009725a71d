"""Two nodes of privacyIDEA with one database, and one Redis or two: a challenge at one, a sign-in at the other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from challenges import arrives_and_signs_in, challenge
from preloaded import Programs
from quick_instance import QuickInstance
from redis_on_disk import Redis

from pijobs_mail.sink.server import Sink
from pijobs_privacyidea.instance import Instance

# privacyIDEA's own warnings are not ours to mend.
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture
def second(instance: Instance, sink: Sink, tmp_path: Path, programs: Programs) -> Iterator[Instance]:
    """A node with the database, the keys and the settings of the first one; it does not serve yet."""
    instance.set_smtp_server("otp", sink.port, queued=True)
    with QuickInstance(tmp_path, {}, programs) as node:
        own = {"PI_LOGFILE": str(tmp_path / "privacyidea.log"), "PI_NODE": "second"}
        lines = [f"{name} = {value!r}\n" for name, value in own.items()]
        node.config.write_text(instance.config.read_text() + "".join(lines))
        node.password = instance.password
        yield node


def test_with_one_redis_the_worker_of_the_other_node_goes_on(instance: Instance, second: Instance, sink: Sink) -> None:
    second.serve()
    with instance.working() as worker, second.working():
        arrives_and_signs_in(second, sink, challenge(instance))
        worker.kill()
        arrives_and_signs_in(second, sink, challenge(instance))


def test_with_one_redis_each_a_node_goes_on_alone(
    instance: Instance, second: Instance, sink: Sink, redis_server: Redis, tmp_path: Path
) -> None:
    folder = tmp_path / "redis"
    folder.mkdir()
    own = Redis(folder)
    try:
        with second.config.open("a") as config:
            config.write(f"PI_JOB_QUEUE_URL = {own.url!r}\n")
        second.serve()
        with instance.working() as worker, second.working():
            arrives_and_signs_in(second, sink, challenge(instance))
            arrives_and_signs_in(instance, sink, challenge(second))
            worker.kill()
            with redis_server.away():
                arrives_and_signs_in(second, sink, challenge(second))
    finally:
        own.stop()
