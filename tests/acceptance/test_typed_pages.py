"""The commands of the how-to pages, typed as they stand, with this machine's names in the place of the pages'."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from services import program, wait_until
from sms_gateway import Gateway

from pijobs_mail.sink.server import Sink

from .conftest import MakeSite
from .site import JOBS_MODULE, Site
from .web import Web

PAGES = Path(__file__).parents[2] / "docs/how-to"
PASSWORD = "correct horse battery"
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
pytestmark = pytest.mark.slow


def commands_of(page: str, *, block_with: str) -> list[str]:
    """The commands of the blocks that hold a text, in their order, without the outputs."""
    blocks = [block for block in BLOCK.findall((PAGES / page).read_text()) if block_with in block]
    assert blocks, f"{page} has no block with {block_with!r}"
    found = [re.findall(r"^\$ ((?:.*\\\n)*.*)$", block, re.MULTILINE) for block in blocks]
    return [command for commands in found for command in commands]


def typed(site: Site, web: Web | None, commands: list[str], **instead: str) -> str:
    """What one shell prints that is given all commands; each must succeed."""
    program("curl")
    script = "\n".join(commands)
    replaced = {"http://127.0.0.1:5000": web.base if web else "", "password=…": f"'password={PASSWORD}'", **instead}
    for old, new in replaced.items():
        script = script.replace(old, new)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**site.environment, "PATH": path, "PRIVACYIDEA_CONFIGFILE": str(site.config)}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=site.folder, env=environment, capture_output=True, text=True,
        timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}{site.output()}"
    assert '"status": false' not in done.stdout and '"status":false' not in done.stdout, done.stdout
    return done.stdout


def test_send_mail(make_site: MakeSite) -> None:
    site = make_site(PLUGINS=("mail",))
    site.start_worker()
    with Sink(logins={"otp": PASSWORD}) as sink:
        commands = commands_of("send-mail.md", block_with="smtpserver/main")
        typed(site, site.start_server(), commands, **{
            "smtp://mail.example.com": "smtp://127.0.0.1", "port=587": f"port={sink.port}", "tls=1": "tls=0",
        })  # fmt: skip
        (mail,) = sink.wait_for(1, 60)
        assert mail.recipients == ("you@example.com",)
        commands = [
            command for command in commands_of("send-mail.md", block_with="pijobs mail probe") if "probe" in command
        ]
        assert "OK" in typed(site, None, commands)


def test_send_sms(make_site: MakeSite) -> None:
    site = make_site(PLUGINS=("sms",))
    site.start_worker()
    with Gateway() as gateway:
        commands = commands_of("send-sms.md", block_with="smsgateway/main")
        typed(
            site,
            site.start_server(),
            commands,
            **{"https://sms.example.com/send": gateway.url, "success='^OK'": "success="},
        )
        (request,) = gateway.wait_for(1, 60)
        assert request.form["to"] == "+491701234567"


def test_count_usage(make_site: MakeSite) -> None:
    site = make_site(PLUGINS=("statistics", JOBS_MODULE))
    site.start_worker()
    site.wait_for(site.queue.enqueue("test.count", (1,)).id)
    web = site.start_server()
    commands = commands_of("count-usage.md", block_with="pijobs statistics jobs")
    wait_until(lambda: "test.count" in typed(site, web, commands), what="the count of the job")
    assert (site.folder / "logins.csv").exists()


def test_operate_the_worker(make_site: MakeSite) -> None:
    site = make_site()
    site.start_worker()
    dead = site.wait_for(site.queue.enqueue("test.flaky", (99,)).id)
    commands = commands_of("operate-the-worker.md", block_with="pijobs jobs retry")
    said = typed(site, None, commands, ID=dead.id)
    assert dead.id in said and "all 3 attempts used up" in said
