"""Queues in databases under gevent and asyncio servers: enqueues are bounded, and no greenlet stops the others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from services import PROGRAM, free_port, wait_until

UNDER_GEVENT = """
import sys
if sys.argv[2] == "driver first":
    import psycopg, pymysql
from gevent import monkey
monkey.patch_all()
import gevent, json, time
from contract.workers import new_instance
from pijobs.errors import StorageUnavailable
from pijobs.storage.sql import SqlStorage

storage = SqlStorage(sys.argv[1], "gevent")
states = [storage.enqueue(new_instance(), timeout=20).state.value for _ in range(3)]
greenlets = [gevent.spawn(lambda: storage.enqueue(new_instance(), timeout=20).state.value) for _ in range(10)]
gevent.joinall(greenlets)
states += [greenlet.value for greenlet in greenlets]

ticks = 0
def tick():
    global ticks
    while True:
        gevent.sleep(0.01)
        ticks += 1
gevent.spawn(tick)
live = storage._live
sleep = "SELECT pg_sleep(15)" if "postgresql" in sys.argv[1] else "SELECT sleep(15)"
began = time.monotonic()
try:
    live.transactions.read(live.quick, lambda tx: tx.link.run(sleep), timeout=0.5)
except StorageUnavailable as error:
    told = str(error)
print(json.dumps({"states": states, "ticks": ticks, "told": told, "took": time.monotonic() - began}))
storage.close()
"""


@pytest.fixture(params=["postgresql", "mariadb"])
def database(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.mark.parametrize("order", ["gevent first", "driver first"])
def test_an_enqueue_is_bounded_under_gevent_and_others_go_on(database: str, order: str) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-W", "ignore", "-c", UNDER_GEVENT, database, order]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PROGRAM)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["states"] == ["queued"] * 13
    assert "did not answer in time" in found["told"] and found["took"] < 10
    assert found["ticks"] >= 3  # while the server was silent


APP = """
import flask
from pijobs import Job, hookimpl
from pijobs.flask import JobQueue

def quick(number: int) -> None: ...

@hookimpl
def register_jobs(settings):
    return [Job("served.quick", quick)]

app = flask.Flask(__name__)
app.config.update(
    SECRET_KEY="x" * 32, PI_JOB_QUEUE_CLASS="pijobs.HueyQueue", PI_JOB_QUEUE_URL={url!r},
    PI_JOB_QUEUE_PLUGINS=["served_app"], PI_JOB_QUEUE_NAME="served", PI_JOB_QUEUE_FALLBACK=(),
    PI_JOB_QUEUE_ENQUEUE_TIMEOUT=20,
)
jobs = JobQueue(app)

@app.post("/")
def enqueue():
    return jobs.enqueue("served.quick", (1,)).state.value

from a2wsgi import WSGIMiddleware
asgi = WSGIMiddleware(app)
"""


@pytest.mark.parametrize("server", ["gunicorn with gevent", "uvicorn"])
def test_a_server_enqueues_into_a_database(database: str, server: str, tmp_path: Path) -> None:
    (tmp_path / "served_app.py").write_text(APP.format(url=database))
    port = free_port()
    command = {
        "uvicorn": ["uvicorn", "--port", str(port), "--log-level", "warning", "served_app:asgi"],
        "gunicorn with gevent": ["gunicorn", "-k", "gevent", "-b", f"127.0.0.1:{port}", "served_app:app"],
    }[server]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", *command], cwd=tmp_path, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}/"

    def answers() -> bool:
        assert process.poll() is None, (tmp_path / "log").read_text()
        try:
            return post(url) == "queued"
        except OSError:
            return False

    try:
        wait_until(answers, what="the first answer")
        assert [post(url) for _ in range(5)] == ["queued"] * 5
    finally:
        process.terminate()
        process.wait(120)


def post(url: str) -> str:
    with urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=120) as answer:
        return str(answer.read().decode())
