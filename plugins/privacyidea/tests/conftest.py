"""A privacyIDEA for the tests of this folder, which run in an environment of its own (``make test-privacyidea``)."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from preloaded import PRIVACYIDEA, Programs, importing
from redis_on_disk import Redis
from services import mariadb_url as mariadb_url
from services import postgresql_url as postgresql_url

if TYPE_CHECKING:
    from pijobs_mail.sink.server import Sink
    from pijobs_privacyidea.instance import Instance

if importlib.util.find_spec("privacyidea") is None:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def redis_on_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    server = Redis(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture
def redis_server(redis_on_disk: Redis) -> Redis:
    """With nothing in it: what a test before left behind is not to be taken for one's own."""
    redis_on_disk.empty()
    return redis_on_disk


@pytest.fixture
def sink() -> Iterator[Sink]:
    from pijobs_mail.sink.server import Sink

    with Sink() as sink:
        yield sink


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Programs]:
    with importing(tmp_path_factory.mktemp("programs"), PRIVACYIDEA) as place:
        yield Programs(place)


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory, redis_on_disk: Redis, programs: Programs) -> Iterator[Instance]:
    """privacyIDEA with users, of whom alice has an e-mail token; the server runs.

    It has no spool, and time: a busy machine must not make a fallback of what is no test of fallbacks.
    """
    from quick_instance import made

    here = tmp_path_factory.mktemp("privacyidea")
    with made(here, programs, redis_on_disk.url, PI_JOB_QUEUE_ENQUEUE_TIMEOUT=5) as instance:
        yield instance


@pytest.fixture
def instance(installed: Instance, redis_server: Redis) -> Instance:
    """With nothing in its queue."""
    return installed


@pytest.fixture(scope="session")
def send_mail(installed: Instance) -> Callable[..., None]:
    """Sends a mail as privacyIDEA's event handlers and tokens do it, from this process."""
    from pijobs_privacyidea.host import make_app

    app = make_app(installed.config)

    def send(server: str, recipient: str | list[str], body: Any = "body", **fields: Any) -> None:
        from privacyidea.lib.smtpserver import send_email_identifier

        with app.test_request_context():
            assert send_email_identifier(server, recipient, "subject", body, **fields) is True

    return send
