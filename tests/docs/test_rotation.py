"""The page on rotating keys, typed as it stands, with real workers, and mails before, between and after."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from acceptance.site import Site
from services import wait_until

from pijobs.factory import build
from pijobs.jobs import State
from pijobs.settings import read_config
from pijobs_mail.servers.definitions import open_store
from pijobs_mail.sink.server import Sink

PAGE = (Path(__file__).parents[2] / "docs/how-to/rotate-keys.md").read_text()
COMMANDS = re.findall(r"^ *\$ pijobs (.*)$", PAGE, re.MULTILINE)
PASSWORD = "the-smtp-password-9f2"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path, {"PI_JOB_QUEUE_URL": f"sqlite:///{tmp_path}/queue.sqlite", "PI_JOB_QUEUE_PLUGINS": ("mail",)})
    yield site
    site.close()


def restarted(site: Site, worker: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(120) == 0
    return site.start_worker("-w", "1")


def send(site: Site, text: str, *, delay: float | None = None) -> str:
    """As a server does that starts now."""
    queue = build(read_config(site.config), directory=site.folder, file=site.config).queue
    mail = {"server": "main", "to": ["alice@example.com"], "subject": "s", "text": text}
    instance = queue.enqueue("mail.send", kwargs=mail, expires=36_000, delay=delay).id
    assert queue.storage is not None
    queue.storage.close()
    return instance


def test_the_page_is_typed_and_no_mail_is_lost(site: Site) -> None:
    new, retire, list_keys = (command.split() for command in COMMANDS)
    with Sink(logins={"otp": PASSWORD}) as sink:
        place = {"server": sink.host, "port": sink.port, "sender": "a@example.com", "username": "otp"}
        open_store(site.queue.settings).save("main", {**place, "password": PASSWORD})
        worker = site.start_worker("-w", "1")
        send(site, "before")
        later = send(site, "waits over it all", delay=3600)

        text = site.config.read_text()
        line = site.run(*new).stdout.strip()
        site.config.write_text(f"{text}{line}\n")
        worker = restarted(site, worker)
        sink.wait_for(1, timeout=120)
        assert PASSWORD not in line

        send(site, "between")
        sink.wait_for(2, timeout=120)
        wait_until(lambda: site.run(*retire).returncode == 0, what="the end of the older key")

        site.config.write_text(f"{text}{line.replace(', SECRET_KEY', '')}\n")
        restarted(site, worker)
        send(site, "after")
        sink.wait_for(3, timeout=120)
        listed = site.run(*list_keys)
    assert listed.returncode == 0 and len(listed.stdout.splitlines()) == 1, listed.stdout
    assert [mail.content.decode().splitlines()[-1] for mail in sink.mails] == ["before", "between", "after"]
    record = site.record(later)
    assert record.state is State.SCHEDULED
    queue = build(read_config(site.config), directory=site.folder, file=site.config).queue
    assert queue.codec().decode(record.envelope, site.storage.body(later)).kwargs["text"] == "waits over it all"
