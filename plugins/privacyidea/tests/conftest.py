"""A privacyIDEA for the tests of this folder, which run in an environment of its own (``make test-privacyidea``)."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from redis_on_disk import Redis

if TYPE_CHECKING:
    from pijobs_mail.sink import Sink
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
    from pijobs_mail.sink import Sink

    with Sink() as sink:
        yield sink


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory, redis_on_disk: Redis) -> Iterator[Instance]:
    """privacyIDEA with users, of whom alice has an e-mail token; the server runs."""
    from pijobs_privacyidea.instance import Instance

    here = tmp_path_factory.mktemp("privacyidea")
    settings = {
        "PI_JOB_QUEUE_CLASS": "pijobs_privacyidea.HueyQueue",
        "PI_JOB_QUEUE_URL": redis_on_disk.url,
        "PI_JOB_QUEUE_LEASE": 3,
        # The hashes of PINs are slow by intent; no test is about them.
        "PI_HASH_ALGO_LIST": ["pbkdf2_sha512"],
        "PI_HASH_ALGO_PARAMS": {"pbkdf2_sha512__rounds": 1000},
    }
    if _has_spool():
        settings["PI_JOB_QUEUE_SPOOL"] = str(here / "spool.sqlite")
    with Instance(here, settings) as instance:
        instance.create()
        instance.serve()
        instance.add_people("alice", "bob", "carol")
        instance.ask("/system/setConfig", **{"email.identifier": "otp"})
        instance.set_smtp_server("otp", 9, queued=True)
        instance.add_email_token("alice", "1234")
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


def _has_spool() -> bool:
    """A spool is a SQL storage, and that wants SQLAlchemy 2; releases up to 3.12 come with 1.4."""
    import sqlalchemy

    return not sqlalchemy.__version__.startswith("1.")
