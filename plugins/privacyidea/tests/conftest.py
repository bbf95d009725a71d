"""A privacyIDEA for the tests of this folder, which run in an environment of its own (``make test-privacyidea``)."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from redis_on_disk import Redis

if TYPE_CHECKING:
    import flask

    from pijobs_mail.sink import Sink
    from pijobs_privacyidea.instance import Instance

if importlib.util.find_spec("privacyidea") is None:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    server = Redis(tmp_path_factory.mktemp("redis"))
    try:
        yield server
    finally:
        server.process.kill()
        server.process.wait()


@pytest.fixture
def sink() -> Iterator[Sink]:
    from pijobs_mail.sink import Sink

    with Sink() as sink:
        yield sink


@pytest.fixture(scope="session")
def instance(tmp_path_factory: pytest.TempPathFactory, redis_server: Redis) -> Iterator[Instance]:
    """privacyIDEA with users and an e-mail token; the server runs."""
    from pijobs_privacyidea.instance import Instance

    here = tmp_path_factory.mktemp("privacyidea")
    settings = {
        "PI_JOB_QUEUE_CLASS": "pijobs_privacyidea.HueyQueue",
        "PI_JOB_QUEUE_URL": redis_server.url,
        "PI_JOB_QUEUE_LEASE": 3,
        "PI_JOB_QUEUE_SPOOL": str(here / "spool.sqlite"),
        "PI_JOB_QUEUE_PRIVACYIDEA_OTP_SERVERS": ["otp"],
        # The hashes of PINs are slow by intent; no test is about them.
        "PI_HASH_ALGO_LIST": ["pbkdf2_sha512"],
        "PI_HASH_ALGO_PARAMS": {"pbkdf2_sha512__rounds": 1000},
    }
    with Instance(here, settings) as instance:
        instance.create()
        instance.serve()
        instance.add_people("alice", "bob")
        instance.ask("/system/setConfig", **{"email.identifier": "otp"})
        instance.set_smtp_server("otp", 9, queued=True)
        instance.add_email_token("alice", "1234")
        yield instance


@pytest.fixture(scope="session")
def app(instance: Instance) -> flask.Flask:
    """privacyIDEA's app in this process, as a server would have it."""
    from pijobs_privacyidea.host import make_app

    return make_app(instance.config)
