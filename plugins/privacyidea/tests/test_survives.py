"""An SMS, a push message, a notification and a web hook of an event arrive, though something was away or killed."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from challenges import PATIENCE, PIN, challenge, jobs, pijobs
from phone import Phone
from preloaded import Programs
from quick_instance import RELEASE, made
from redis_on_disk import Redis
from services import free_port, wait_until
from sms_gateway import Answer, Gateway, first

from pijobs_mail.sink.server import Fault, Sink
from pijobs_privacyidea.instance import Instance

# privacyIDEA's own warnings are not ours to mend.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("default"),
    pytest.mark.skipif(
        RELEASE < (3, 14),
        reason="before 3.14 a push token takes privacyIDEA's Firebase class only",
    ),
]

HTTP = "privacyidea.lib.smsprovider.HttpSMSProvider.HttpSMSProvider"
AWAY = 20.0  # seconds
KINDS = ("sms", "push", "hook")  # by HTTP
PORTS = {kind: free_port() for kind in (*KINDS, "mail", "intake")}


class Receivers:
    """What the four go to, at ports that stay the same."""

    def __init__(self, *, hang: bool = False) -> None:
        """:param hang: the first one to each is not answered."""
        self._stack = ExitStack()
        self.sink = Sink(port=PORTS["mail"])
        if hang:
            self.sink.fail_at("DATA", Fault(hang=True, times=1))
        answer = first(Answer(hang=True)) if hang else first()
        self.gateways = {kind: Gateway(answer, port=PORTS[kind]) for kind in KINDS}

    def __enter__(self) -> Receivers:
        self._stack.enter_context(self.sink)
        for gateway in self.gateways.values():
            self._stack.enter_context(gateway)
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def wait_for(self, number: int, *, mails: int) -> None:
        """So many requests at each gateway, and so many mails."""
        self.sink.wait_for(mails, PATIENCE)
        for gateway in self.gateways.values():
            gateway.wait_for(number, PATIENCE)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, redis_on_disk: Redis, programs: Programs) -> Iterator[Instance]:
    here = tmp_path_factory.mktemp("survives")
    settings = {
        "PI_JOB_QUEUE_SPOOL": str(here / "spool.sqlite"),
        "PI_JOB_QUEUE_WEBHOOK_ENDPOINTS": {"audit": f"http://127.0.0.1:{PORTS['hook']}/events"},
    }
    with made(here, programs, redis_on_disk.url, **settings) as instance:
        intake = (f"127.0.0.1:{PORTS['intake']}", "--threads", "2", "pijobs_webhook.intake:create_app()")
        instance.start(sys.executable, "-m", "gunicorn", "--bind", *intake)
        set_up(instance)
        yield instance


def set_up(instance: Instance) -> None:
    """bob has an SMS token, carol a push token; each new token is told by mail and by web hook."""
    push = {"HTTP_METHOD": "POST", "SEND_DATA_AS_JSON": "yes", "ALLOW_PUSH": "yes", "text": "{message}"}
    for kind, further in (("sms", {}), ("push", push)):
        options = {"URL": f"http://127.0.0.1:{PORTS[kind]}/send", "HTTP_METHOD": "GET", "to": "{phone}"}
        given = {"text": "{otp}", **options, **further}
        instance.ask("/smsgateway", name=kind, module=HTTP, **{f"option.{key}": each for key, each in given.items()})
        assert pijobs(instance, "privacyidea", "sms-gateway", f"queued-{kind}", "--wraps", kind).returncode == 0
    instance.ask("/system/setConfig", **{"sms.identifier": "queued-sms"})
    instance.ask("/token/init", type="sms", user="bob", realm="demo", pin=PIN, phone="+491701234567")
    action = f"push_firebase_configuration=queued-push, push_registration_url={instance.url}/ttype/push"
    instance.ask("/policy/push", scope="enrollment", action=action)
    Phone(instance, device="device").enrol("carol", PIN)
    instance.set_smtp_server("notices", PORTS["mail"], queued=True)
    mail = {"To": "tokenowner", "emailconfig": "notices", "subject": "New", "body": "{serial}"}
    hook = {"URL": f"http://127.0.0.1:{PORTS['intake']}/audit", "content_type": "json", "data": "{}"}
    for module, action, options in (("UserNotification", "sendmail", mail), ("WebHook", "post_webhook", hook)):
        given = {f"option.{name}": value for name, value in options.items()}
        instance.ask(
            "/event", name=module, event="token_init", handlermodule=module, action=action, position="post",
            conditions={}, **given,
        )  # fmt: skip


def make_all(instance: Instance) -> None:
    """One of each."""
    challenge(instance, "bob")
    challenge(instance, "carol")
    instance.ask("/token/init", type="spass", user="alice", realm="demo", pin=PIN)


def test_all_arrive_though_the_worker_is_killed_while_it_sends_them(instance: Instance) -> None:
    with Receivers(hang=True) as receivers:
        with instance.working("-w", "5"):  # it is killed at the end of the block
            make_all(instance)
            wait_until(lambda: receivers.sink.steps["DATA"] > 0, PATIENCE, what="the mail")
            receivers.wait_for(1, mails=0)
        with instance.working():
            receivers.wait_for(2, mails=1)


def test_all_arrive_though_nobody_took_them_for_20_s(instance: Instance) -> None:
    with instance.working():
        make_all(instance)
        back = time.monotonic() + AWAY
        wait_until(lambda: {job["state"] for job in jobs(instance)} == {"scheduled"}, PATIENCE, what="first attempts")
        wait_until(lambda: time.monotonic() > back, PATIENCE)
        with Receivers() as receivers:
            receivers.wait_for(1, mails=1)


def test_all_arrive_though_redis_is_away_at_the_request(instance: Instance, redis_server: Redis) -> None:
    with Receivers() as receivers, instance.working(), redis_server.away():
        make_all(instance)
        receivers.wait_for(1, mails=1)
