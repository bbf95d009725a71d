"""Why did one user's mail not come? Who reads ``--help`` and the how-to page finds out."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from services import free_port, wait_until

from pijobs.jobs import State
from pijobs.observe.readiness import readiness
from pijobs_mail.send import send_mail
from pijobs_mail.servers.definitions import open_store
from pijobs_mail.sink.server import Sink

from .conftest import MakeSite
from .site import Site

PAGE = (Path(__file__).parents[2] / "docs/how-to/find-a-lost-mail.md").read_text()
ADDRESS = "alice@example.com"


@pytest.fixture
def storage_url(tmp_path: Path) -> str:
    """One storage is enough: what the commands tell comes from one place for all."""
    return f"sqlite:///{tmp_path}/queue.sqlite"


@pytest.fixture
def site(make_site: MakeSite) -> Site:
    return make_site(PLUGINS=("mail",), LEASE=5)


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as sink:
        yield sink


def define(site: Site, port: int) -> None:
    """An SMTP server "main" with the box ticked."""
    values = {"server": "127.0.0.1", "port": port, "sender": "otp@example.com", "enqueue_job": True}
    open_store(site.queue.settings).save("main", values)


def send(site: Site, to: str = ADDRESS, **options: Any) -> str:
    """What a login does."""
    return send_mail("main", to=to, subject="Your OTP", text="It is 490137.", queue=site.queue, **options).id


def run(site: Site, *command: str) -> str:
    """What a command prints; the page must name it."""
    done = site.run(*command)
    assert done.returncode == 0, done.stderr
    assert ADDRESS not in done.stdout
    return " ".join(done.stdout.split())


def find(site: Site) -> tuple[str, str]:
    """State and story of the user's mail, by the two commands of the page."""
    assert "pijobs jobs find" in PAGE and "pijobs jobs show" in PAGE
    (row,) = json.loads(site.run("jobs", "find", "Alice@example.com", "--json").stdout)
    return row["state"], run(site, "jobs", "show", row["id"])


def says(story: str, *sentences: str) -> None:
    """The story has these words, and so has the page, so that the reader recognises them."""
    page = " ".join(PAGE.split())
    assert [one for one in sentences if one not in story] == [], story
    assert [one for one in sentences if one not in page] == []


def test_the_help_leads_to_the_two_commands(site: Site) -> None:
    helps = run(site, "jobs", "list", "--help")
    assert "--subject" in helps and "'pijobs jobs show ID'" in helps


def test_a_refused_address(site: Site, sink: Sink) -> None:
    sink.fail_at("RCPT", "550 5.1.1 no such user")
    define(site, sink.port)
    site.start_worker()
    site.wait_for(send(site))
    state, story = find(site)
    assert state == "dead"
    says(story, "attempt 1, begun ", "failed for good", "recipients refused: a***@example.com: 550 5.1.1 no such user")
    assert "pijobs jobs retry" in story
    assert "550 5.1.1 no such user" in run(site, "status")


def test_an_smtp_server_that_is_down(site: Site) -> None:
    define(site, free_port())
    site.start_worker()
    first = send(site)
    site.wait_for(first, State.SCHEDULED)
    told = run(site, "status")
    # Once the failed attempt is stored, so is the state of its group.
    assert "group smtp:main: its destination failed " in told and "Connection refused" in told
    for number in range(3):
        send(site, f"user{number}@example.com")
    state, story = find(site)
    assert state in ("scheduled", "queued")
    says(story, "group smtp:main: its destination failed")
    assert "Connection refused" in story and "(not counted)" in story
    wait_until(lambda: not dict(readiness(site.queue))["breakers"].ok, 40, what="red readiness")
    assert "Connection refused" in dict(readiness(site.queue))["breakers"].message


def test_a_worker_with_the_wrong_key(site: Site, sink: Sink) -> None:
    define(site, sink.port)
    other = site.folder / "other.cfg"
    other.touch(0o600)
    other.write_text(site.config.read_text().replace("acceptance test", "other installation"))
    site.start_worker("--config", str(other))
    instance = send(site)
    wait_until(lambda: len(site.record(instance).history) == 1, what="the worker that could not read it")
    state, story = find(site)
    assert state == "scheduled"
    says(story, "a worker could not run it and gave it back: unknown key", "waits for a worker that can run it")
    says(story, "that it is encrypted with, they have", "give server and workers the same")
    checked = site.run("config", "check")
    assert checked.returncode == 1 and "no live worker has the key" in checked.stdout


def test_no_worker(site: Site, sink: Sink) -> None:
    define(site, sink.port)
    send(site)
    state, story = find(site)
    assert state == "queued"
    says(story, "waits for a worker", "there is no live worker, none was ever seen; start one with 'pijobs worker'")


def test_a_worker_that_ended(site: Site, sink: Sink) -> None:
    define(site, sink.port)
    worker = site.start_worker()
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()
    wait_until(lambda: not site.storage.sessions(), what="the end of the lease")
    send(site)
    assert "there is no live worker, the last one was seen" in find(site)[1]


def test_a_mail_that_expired(site: Site, sink: Sink) -> None:
    define(site, sink.port)
    instance = send(site, expires=0.2)
    wait_until(lambda: site.storage.now() > (site.record(instance).deadline or 0), what="the deadline")
    site.start_worker()
    site.wait_for(instance, State.EXPIRED)
    state, story = find(site)
    assert state == "expired"
    says(story, "the deadline passed while it waited; no worker had begun an attempt, see 'pijobs workers'")
    says(story, "; nothing more happens")
    assert not sink.mails


def test_a_mail_that_the_smtp_server_took(site: Site, sink: Sink) -> None:
    define(site, sink.port)
    site.start_worker()
    site.wait_for(send(site))
    state, story = find(site)
    assert state == "done"
    says(story, "s: done [reply: 250")
