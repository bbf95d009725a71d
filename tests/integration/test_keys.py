"""Key rotation by its commands: nothing is lost, nothing is retired that is needed."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from click.testing import CliRunner, Result

from pijobs.cli.main import cli
from pijobs.factory import build
from pijobs.jobs import State
from pijobs.payload.codec import open_envelope
from pijobs.payload.keys import KeyRing
from pijobs.request.queue import Queue
from pijobs.settings import read_config
from pijobs.storage.sessions import SessionInfo
from pijobs.storage.values import End, NewInstance
from pijobs_mail.servers.definitions import open_store

SECRET = "the secret key of this test, long enough"
DEFINITION = {"server": "smtps://mail.example.com", "password": "hunter2", "enqueue_job": True}
LEASE = 600_000


class Host:
    """A ``pi.cfg``, and commands that are given with it."""

    def __init__(self, folder: Path, url: str, name: str) -> None:
        self.config = folder / "pi.cfg"
        values = {
            "SECRET_KEY": SECRET, "PI_JOB_QUEUE_CLASS": "pijobs.HueyQueue", "PI_JOB_QUEUE_URL": url,
            "PI_JOB_QUEUE_NAME": name, "PI_JOB_QUEUE_PLUGINS": ["mail"],
            "PI_JOB_QUEUE_SPOOL": f"{folder}/spool.sqlite",
        }  # fmt: skip
        self.text = "".join(f"{name} = {value!r}\n" for name, value in values.items())
        self.write("")

    def write(self, line: str) -> None:
        self.config.write_text(self.text + line + "\n")
        self.config.chmod(0o600)

    def pijobs(self, *arguments: str) -> Result:
        return CliRunner().invoke(cli, ["--config", str(self.config), *arguments], standalone_mode=False)

    @property
    def queue(self) -> Queue:
        """As a process has it that starts now."""
        return build(read_config(self.config), directory=self.config.parent, file=self.config).queue


@pytest.fixture(params=["sqlite", "redis"])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Host:
    url = request.getfixturevalue("redis_url") if request.param == "redis" else f"sqlite:///{tmp_path}/queue.sqlite"
    return Host(tmp_path, url, f"keys-{uuid4().hex}")


def new_line(host: Host) -> str:
    """The line that ``pijobs keys new`` prints."""
    found = re.search(r"^PI_JOB_QUEUE_KEYS = .*$", host.pijobs("keys", "new").output, re.MULTILINE)
    assert found is not None
    return found[0]


def open_worker(queue: Queue, name: str) -> Callable[..., Any]:
    """A worker with the keys of this process; returns its step."""
    assert queue.storage is not None
    storage = queue.storage
    info = SessionInfo(name, f"{name}.example.com", 4711, storage.now(), "1", keys=KeyRing.of(queue.settings).ids)
    storage.open_session(info, lease=LEASE)
    storage.update_session(info)
    return lambda *ends, want=0: storage.step(name, ends, want=want)


def enqueue(queue: Queue, **options: Any) -> str:
    return queue.enqueue("mail.send", kwargs={"server": "main", "to": ["a@example.com"], "text": "t"}, **options).id


def read(queue: Queue, instance_id: str) -> tuple[str, Any]:
    """The key of an instance, and its text."""
    assert queue.storage is not None
    record, body = queue.storage.get(instance_id), queue.storage.body(instance_id)
    assert body is not None
    return open_envelope(record.envelope).key_id, queue.codec().decode(record.envelope, body).kwargs["text"]


def test_a_rotation_by_the_book_loses_nothing_and_the_old_key_can_go(host: Host) -> None:
    before = host.queue
    open_store(before.settings).save("main", DEFINITION)
    step = open_worker(before, "first")
    assert before.storage is not None and before.spool is not None
    waits, dead, runs = enqueue(before, delay=3600), enqueue(before, expires=36000), enqueue(before, expires=36000)
    for lease in step(want=10).leases:
        if lease.id == dead:
            step(End(lease.id, lease.token, State.DEAD))
        else:
            running = lease
    assert running.id == runs
    envelope, body = before.codec().encode(id="spooled", name="mail.send", call=_call(), created=0, deadline=None)
    before.spool.enqueue(NewInstance("spooled", "mail.send", envelope, body, "smtp:main"), timeout=5)

    host.write(new_line(host))
    refused = host.pijobs("keys", "retire")
    assert refused.return_value == 1 and "first.example.com pid 4711" in refused.output
    assert "workers first" in refused.output

    between = host.queue
    open_worker(between, "first")
    half = host.pijobs("keys", "retire")
    assert half.return_value == 1 and "is still needed: 1 instances or secrets" in half.output, half.output
    step(End(runs, running.token, State.SCHEDULED, due=before.storage.now() + LEASE))
    again = host.pijobs("keys", "retire")
    assert again.return_value == 0 and "needed no more" in again.output, again.output

    new = KeyRing.of(between.settings).newest.id
    host.write(re.sub(r", SECRET_KEY\]", "]", host.config.read_text().splitlines()[-1]))
    after = host.queue
    assert KeyRing.of(after.settings).ids == (new,)
    assert open_store(after.settings).get("main")["password"] == "hunter2"
    assert {read(after, one) for one in (waits, dead, runs)} == {(new, "t")}
    assert after.spool is not None
    assert open_envelope(after.spool.get("spooled").envelope).key_id == new
    listed = host.pijobs("keys", "list").output
    assert re.search(
        rf"{new}  newest .*1 secrets of definitions, 3 instances in the storage, 1 instances in the spool", listed
    )


def _call() -> Any:
    from pijobs.payload.codec import Call

    return Call((), {"server": "main", "to": ["a@example.com"]})


def test_what_can_not_be_read_keeps_its_key_from_being_retired(host: Host) -> None:
    open_store(host.queue.settings).save("main", DEFINITION)
    lost = enqueue(host.queue, delay=3600)
    old = KeyRing.of(host.queue.settings).newest.id
    host.write('PI_JOB_QUEUE_KEYS = ["another key, long enough"]')
    refused = host.pijobs("keys", "retire")
    assert refused.return_value == 1 and f"key {old} is still needed: 2 instances or secrets" in refused.output, (
        refused.output
    )
    listed = host.pijobs("keys", "list").output
    assert f"{old}  not here" in listed
    host.write('PI_JOB_QUEUE_KEYS = ["another key, long enough", SECRET_KEY]')
    assert host.pijobs("keys", "retire").return_value == 0
    assert read(host.queue, lost)[1] == "t"


def test_without_an_older_key_there_is_nothing_to_retire(host: Host) -> None:
    done = host.pijobs("keys", "retire")
    assert done.return_value == 0 and "there is no older key" in done.output


def test_a_new_key_is_another_one_each_time_and_is_stored_nowhere(host: Host) -> None:
    assert new_line(host) != new_line(host)
    assert [path.name for path in host.config.parent.iterdir()] == ["pi.cfg"]


def test_what_an_older_release_left_in_clear_is_told_in_red_and_encrypted_by_retire(host: Host) -> None:
    queue = host.queue
    open_store(queue.settings).save("main", {**DEFINITION, "password": "hunter2"})
    database = sqlite3.connect(host.config.parent / "pijobs.sqlite")
    with database:
        (content,) = database.execute("SELECT content FROM pijobs_definition").fetchone()
        bare = json.dumps({**json.loads(content), "password": "hunter2"})
        database.execute("UPDATE pijobs_definition SET content = ?, secrets = '{}'", (bare,))
    found = CliRunner().invoke(
        cli, ["--config", str(host.config), "config", "check"], standalone_mode=False, color=True
    )
    line = next(line for line in found.output.splitlines() if "lie in clear" in line)
    assert line.startswith("\x1b[31m") and "'main': password lie in clear" in line and "hunter2" not in found.output
    host.pijobs("keys", "retire")
    (content,) = database.execute("SELECT content FROM pijobs_definition").fetchone()
    database.close()
    assert "hunter2" not in content and "lie in clear" not in host.pijobs("config", "check").output
    assert open_store(host.queue.settings).get("main")["password"] == "hunter2"
