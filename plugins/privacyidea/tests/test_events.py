"""What privacyIDEA's event handlers do leaves the request: notifications by mail and SMS, web hooks, scripts."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from challenges import PATIENCE, PIN, jobs, pijobs
from preloaded import Programs
from quick_instance import made
from redis_on_disk import Redis
from services import free_port, wait_until
from sms_gateway import Gateway

from pijobs import FailJob, JobContext, RetryJob
from pijobs_mail.sink.server import Sink
from pijobs_privacyidea import HueyQueue, scripts
from pijobs_privacyidea.instance import MOBILE, Instance, end

# privacyIDEA's own warnings are not ours to mend.
pytestmark = pytest.mark.filterwarnings("default")

HTTP = "privacyidea.lib.smsprovider.HttpSMSProvider.HttpSMSProvider"


@pytest.fixture(scope="module")
def receiver() -> Iterator[Gateway]:
    with Gateway() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def installed(
    tmp_path_factory: pytest.TempPathFactory, redis_on_disk: Redis, programs: Programs, receiver: Gateway
) -> Iterator[Instance]:
    here = tmp_path_factory.mktemp("events")
    for folder in ("handlers", "queued"):
        (here / folder).mkdir()
    settings = {
        "PI_JOB_QUEUE_WEBHOOK_ENDPOINTS": {"audit": receiver.url},
        "PI_SCRIPT_HANDLER_DIRECTORY": str(here / "handlers"), "PI_JOB_QUEUE_PRIVACYIDEA_SCRIPTS": str(here / "queued"),
    }  # fmt: skip
    pi = Path(sys.executable).with_name("pijobs")
    script(here / "handlers/told", f'exec {pi} --config {here}/pi.cfg privacyidea queue-script told "$@"')
    script(here / "queued/told", 'echo "told $@" > told.txt')
    with made(here, programs, redis_on_disk.url, **settings) as instance:
        yield instance


def script(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


def add_handler(instance: Instance, module: str, action: str, **options: str) -> None:
    given = {f"option.{name}": value for name, value in options.items()}
    instance.ask(
        "/event", name=f"{module} {action}", event="token_init", handlermodule=module, action=action, position="post",
        conditions={}, **given,
    )  # fmt: skip


def test_notifications_web_hooks_and_scripts_go_by_the_worker(
    instance: Instance, sink: Sink, receiver: Gateway
) -> None:
    port = free_port()
    listening = instance.start(
        sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--threads", "2",
        "pijobs_webhook.intake:create_app()",
    )  # fmt: skip
    with Gateway() as gateway:
        options = {"URL": gateway.url, "HTTP_METHOD": "GET", "to": "{phone}", "text": "{otp}"}
        given = {f"option.{name}": value for name, value in options.items()}
        instance.ask("/smsgateway", name="main", module=HTTP, **given)
        assert pijobs(instance, "privacyidea", "sms-gateway", "queued", "--wraps", "main").returncode == 0
        instance.set_smtp_server("notices", sink.port, queued=True)
        add_handler(
            instance, "UserNotification", "sendmail", To="tokenowner", emailconfig="notices", subject="New",
            body="{serial}",
        )  # fmt: skip
        add_handler(instance, "UserNotification", "sendsms", To="tokenowner", smsconfig="queued", body="new {serial}")
        hook = {"URL": f"http://127.0.0.1:{port}/audit", "content_type": "json", "replace": "1"}
        # Names that all releases know.
        add_handler(instance, "WebHook", "post_webhook", data='{"user": "{logged_in_user}"}', **hook)
        add_handler(instance, "Script", "told", background="background", user="1")
        instance.ask("/token/init", type="spass", user="bob", realm="demo", pin=PIN)
        names = ["privacyidea.script", "privacyidea.sms", "smtpserver.send_email", "webhook.forward"]
        wait_until(lambda: sorted(job["name"] for job in jobs(instance)) == names, PATIENCE, what="four jobs")
        assert (sink.mails, gateway.requests, receiver.requests) == ([], [], [])
        with instance.working():
            wait_until(lambda: all(job["state"] == "done" for job in jobs(instance)), PATIENCE, what="their ends")
        assert ("bob@example.com",) in [mail.recipients for mail in sink.mails]
        assert gateway.requests[0].query["to"] == MOBILE + "1"
    assert receiver.requests[0].body == '{"user": "bob"}' and "webhook-id" in {
        name.lower() for name in receiver.requests[0].headers
    }
    assert (instance.here / "queued/told.txt").read_text() == "told --user bob\n"
    end(listening)


def test_a_script_that_is_none_is_told(tmp_path: Path) -> None:
    def settings(folder: str) -> Any:
        return HueyQueue({"keys": ["k"], "privacyidea_scripts": folder}).settings

    with pytest.raises(ValueError, match="expected the folder of the scripts"):
        scripts.script_in(settings(""), "told")
    for name in ("told", "../told", ""):
        with pytest.raises(ValueError, match=r"expected (a|the name of a) script"):
            scripts.script_in(settings(str(tmp_path)), name)


def test_a_script_that_fails_is_tried_again(tmp_path: Path) -> None:
    ctx = JobContext(
        id="0af3c1", name=scripts.NAME, attempt=1, deadline=None, now=time.time, count=lambda *_: None,
        settings=HueyQueue({"keys": ["k"], "privacyidea_scripts": str(tmp_path)}).settings,
        log=logging.LoggerAdapter(logging.getLogger("test"), {}),
    )  # fmt: skip
    script(tmp_path / "told", "echo no such user >&2; exit 3")
    with pytest.raises(RetryJob, match="told ended with 3: no such user"):
        scripts.run_script(ctx, "told", ["--user", "bob"])
    with pytest.raises(FailJob, match="expected a script"):
        scripts.run_script(ctx, "other")
