"""The server as a client meets it: an app on files of its own, people who signed in, and a queue to fill."""

from __future__ import annotations

import uuid
from importlib import metadata
from pathlib import Path
from typing import Any

from argon2 import PasswordHasher
from flask import Flask
from flask.testing import FlaskClient
from jinja2.bccache import Bucket, BytecodeCache
from werkzeug.test import TestResponse

from pijobs.database import Database
from pijobs.jobs import State
from pijobs.payload.keys import KeyRing
from pijobs.request.queue import Queue
from pijobs.server import create_app
from pijobs.server.accounts import Accounts
from pijobs.settings import Settings
from pijobs.storage.contract import Storage
from pijobs.storage.protocol import NEWEST
from pijobs.storage.sessions import SessionInfo
from pijobs.storage.values import End, NewInstance

PASSWORD = "correct horse battery"
SECRET_KEY = "the secret key of a test server"
LEASE = 60_000  # ms


class _Templates(BytecodeCache):
    """Templates that this process compiled: each app has its own environment, which would compile them again."""

    def __init__(self) -> None:
        self._compiled: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        if bucket.key in self._compiled:
            bucket.bytecode_from_string(self._compiled[bucket.key])

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._compiled[bucket.key] = bucket.bytecode_to_string()


_TEMPLATES = _Templates()


def make_app(directory: Path, **settings: Any) -> Flask:
    """A server with a queue in SQLite and without plugins; ``settings`` without their prefix."""
    values = {
        "SECRET_KEY": SECRET_KEY,
        "SQLALCHEMY_DATABASE_URI": f"sqlite:///{directory}/pijobs.sqlite",
        "PI_JOB_QUEUE_CLASS": "pijobs.HueyQueue",
        "PI_JOB_QUEUE_URL": f"sqlite:///{directory}/queue.sqlite",
        "PI_JOB_QUEUE_PLUGINS": (),
        **{f"PI_JOB_QUEUE_{name}": value for name, value in settings.items()},
    }
    app = create_app(settings=values)
    app.jinja_env.bytecode_cache = _TEMPLATES
    database, quick = Database.of(settings_of(app)), PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    settings_of(app).resource(Accounts, lambda: Accounts(database, quick))
    return app


def settings_of(app: Flask) -> Settings:
    settings: Settings = app.extensions["pijobs"].settings
    return settings


def queue_of(app: Flask) -> Queue:
    queue: Queue = app.extensions["pijobs"].queue
    return queue


def storage_of(app: Flask) -> Storage:
    storage = queue_of(app).storage
    assert storage is not None
    return storage


class Client:
    """Somebody with an account, who signed in.

    :param role: of the account, which is made; it is its name, too.
    """

    def __init__(self, app: Flask, role: str) -> None:
        accounts = Accounts.of(settings_of(app))
        if accounts.get(role) is None:
            accounts.add(role, PASSWORD, role)
        self._client: FlaskClient = app.test_client()
        response = self._client.post("/auth", json={"username": role, "password": PASSWORD})
        assert response.json is not None
        self.token: str = response.json["result"]["value"]["token"]

    def ask(self, method: str, path: str, **query: Any) -> TestResponse:
        return self._client.open(path, method=method, query_string=query, headers={"Authorization": self.token})

    def send(self, method: str, path: str, body: object) -> TestResponse:
        """A request with a JSON body."""
        return self._client.open(path, method=method, json=body, headers={"Authorization": self.token})

    def get(self, path: str, **query: Any) -> Any:
        """The value of an answer that must be a success."""
        return value_of(self.ask("GET", path, **query))


def value_of(response: TestResponse) -> Any:
    assert response.json is not None
    assert response.json["result"]["status"] is True, response.json
    return response.json["result"]["value"]


def error_of(response: TestResponse) -> tuple[int, int]:
    """HTTP status and code of an answer that must be an error in the envelope."""
    body = response.json
    assert body is not None
    assert (body["jsonrpc"], body["id"], body["result"]["status"]) == ("2.0", 1, False)
    assert body["result"]["error"]["message"]
    return response.status_code, body["result"]["error"]["code"]


def add_worker(app: Flask, *, keys: tuple[str, ...] | None = None) -> str:
    """The sign of life of a worker process; returns the id of its session."""
    storage, session = storage_of(app), uuid.uuid4().hex
    known = KeyRing.of(settings_of(app)).ids if keys is None else keys
    jobs = ("test.job", *queue_of(app).registry)
    release = metadata.version("pijobs")
    info = SessionInfo(
        session, "worker.example.com", 4711, storage.now(), release, keys=known, jobs=jobs, protocol=NEWEST
    )
    storage.open_session(info, lease=LEASE)
    return session


def add_instance(app: Flask, state: State = State.QUEUED, **fields: Any) -> str:
    """An instance in one of the states; returns its id."""
    storage, instance = storage_of(app), uuid.uuid4().hex
    due = storage.now() + 3_600_000 if state is State.SCHEDULED else None
    values = {"name": "test.job", "group": "test.job", "created": storage.now(), "due": due, **fields}
    storage.enqueue(NewInstance(instance, envelope=b"the envelope", body=b"the body", **values), timeout=5)
    if state is State.CANCELLED:
        storage.cancel(instance, reason="a test")
    elif state not in (State.QUEUED, State.SCHEDULED):
        session = add_worker(app)
        (lease,) = storage.step(session, [], want=1).leases
        assert lease.id == instance, "add what runs or ended before what is queued"
        if state is not State.RUNNING:
            reason = "550 no such user" if state is State.DEAD else None
            storage.step(session, [End(instance, lease.token, state, reason=reason)], want=0)
            storage.close_session(session)
    return instance
