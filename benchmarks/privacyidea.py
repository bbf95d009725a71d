"""How long a request of privacyIDEA takes that sends an SMS, a push message, a notification or a web hook.

    make bench-privacyidea ARGS="--rounds 12 --delay 0.5"

Each in the request and by the queue, at a receiver that answers at once and at one that takes ``--delay`` seconds for
each reply. The shortest of the rounds, in milliseconds: what a busy machine adds is not the request's. The ratio is
that of the queue at a slow receiver to the request at a fast one; below 1.2 it is as promised. Before 3.14 there is no
push by the queue.
"""

from __future__ import annotations

import sys

sys.path.pop(0)  # this folder: a module "queue" in it would hide the one of the standard library

import argparse
import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

from phone import Phone
from redis_on_disk import Redis
from services import free_port, wait_until
from sms_gateway import Answer, Gateway

from pijobs_mail.sink.server import Sink
from pijobs_privacyidea.instance import Instance

HTTP = "privacyidea.lib.smsprovider.HttpSMSProvider.HttpSMSProvider"
PUSH = {"HTTP_METHOD": "POST", "SEND_DATA_AS_JSON": "yes", "ALLOW_PUSH": "yes", "text": "{message}"}
PIN = "1234"
MOST = 1.2
#: Seconds for a message to come.
PATIENCE = 60.0


class Bench:
    """A privacyIDEA whose messages come here. :ivar delay: seconds before each reply, now."""

    def __init__(self, instance: Instance, gateway: Gateway, sink: Sink, intake: int) -> None:
        self.instance, self.gateway, self.sink, self.intake = instance, gateway, sink, intake
        self.delay = 0.0
        self.handlers: dict[str, int] = {}
        gateway.answer = self._answer

    def _answer(self, number: int) -> Answer:
        time.sleep(self.delay)
        return Answer()

    def set_up(self) -> None:
        ask = self.instance.ask
        for kind, options in (("sms", {"HTTP_METHOD": "GET", "text": "{otp}"}), ("push", PUSH)):
            given = {"URL": self.gateway.url, "to": "{phone}", **options}
            ask("/smsgateway", name=kind, module=HTTP, **{f"option.{key}": each for key, each in given.items()})
            self.command("privacyidea", "sms-gateway", f"queued-{kind}", "--wraps", kind)
        ask("/token/init", type="sms", user="alice", realm="demo", pin=PIN, phone="+491701234567")
        for user, gateway in (("bob", "push"), ("carol", "queued-push")):
            action = f"push_firebase_configuration={gateway}, push_registration_url={self.instance.url}/ttype/push"
            ask("/policy/push", scope="enrollment", action=action)
            Phone(self.instance, device=f"device of {user}").enrol(user, PIN)
        for queued, hook in ((False, self.gateway.url), (True, f"http://127.0.0.1:{self.intake}/audit")):
            name = f"mail-{queued}"
            self.instance.set_smtp_server(name, self.sink.port, queued=queued)
            mail = {"To": "email", "To email": "x@example.com", "emailconfig": name, "subject": "s", "body": "b"}
            self.add_handler(name, "UserNotification", "sendmail", mail)
            self.add_handler(
                f"hook-{queued}", "WebHook", "post_webhook", {"URL": hook, "content_type": "json", "data": "{}"}
            )

    def add_handler(self, name: str, module: str, action: str, options: dict[str, str]) -> None:
        given = {f"option.{key}": value for key, value in options.items()}
        answer = self.instance.ask(
            "/event", name=name, event="token_disable", handlermodule=module, action=action, position="post",
            conditions={}, **given,
        )  # fmt: skip
        self.handlers[name] = answer["result"]["value"]
        self.instance.ask(f"/event/disable/{self.handlers[name]}")

    def command(self, *arguments: str) -> None:
        pijobs = str(Path(sys.executable).with_name("pijobs"))
        done = self.instance.run(pijobs, "--config", str(self.instance.config), *arguments)
        assert done.returncode == 0, done.stderr

    @contextlib.contextmanager
    def chosen(self, kind: str, queued: bool) -> Iterator[Callable[[], Any]]:
        """What to ask for, with that way chosen."""
        ask = self.instance.ask
        if kind == "sms":
            ask("/system/setConfig", **{"sms.identifier": "queued-sms" if queued else "sms"})
            yield lambda: self.instance.challenge("alice", PIN)
        elif kind == "push":
            yield lambda: self.instance.challenge("carol" if queued else "bob", PIN)
        else:
            id = self.handlers[f"{kind}-{queued}"]
            ask(f"/event/enable/{id}")
            yield lambda: ask("/token/disable", user="dave", realm="demo")
            ask(f"/event/disable/{id}")

    def measure(self, kind: str, queued: bool, delay: float) -> float:
        """Seconds of the second request; the first one after a change reads the configuration anew."""
        with self.chosen(kind, queued) as request:
            self.arrived(request)
            self.delay = self.sink.delay = delay
            took = self.arrived(request)
            self.delay = self.sink.delay = 0
        return took

    def arrived(self, request: Callable[[], Any]) -> float:
        before = self.count()
        began = time.perf_counter()
        request()
        took = time.perf_counter() - began
        wait_until(lambda: self.count() > before, PATIENCE, what="the message")
        return took

    def count(self) -> int:
        return len(self.gateway.requests) + len(self.sink.mails)


@contextlib.contextmanager
def started() -> Iterator[Bench]:
    with contextlib.ExitStack() as stack:
        here = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (here / "redis").mkdir()
        redis = Redis(here / "redis")
        stack.callback(redis.stop)
        gateway, sink = stack.enter_context(Gateway()), stack.enter_context(Sink())
        port = free_port()
        settings = {
            "PI_JOB_QUEUE_CLASS": "pijobs_privacyidea.HueyQueue", "PI_JOB_QUEUE_URL": redis.url,
            "PI_JOB_QUEUE_WEBHOOK_ENDPOINTS": {"audit": gateway.url},
        }  # fmt: skip
        (here / "pi").mkdir()
        instance = stack.enter_context(Instance(here / "pi", settings))
        instance.create()
        server = (sys.executable, "-m", "gunicorn", "--threads", "2")
        instance.serve(*server, "--bind", "127.0.0.1:{port}", "pijobs_privacyidea.wsgi:create_app()")
        instance.start(*server, "--bind", f"127.0.0.1:{port}", "pijobs_webhook.intake:create_app()")
        instance.work("-w", "2")
        instance.add_people("alice", "bob", "carol", "dave")
        instance.ask("/token/init", type="spass", user="dave", realm="demo")
        bench = Bench(instance, gateway, sink, port)
        bench.set_up()
        yield bench


def main() -> int:
    options = argparse.ArgumentParser()
    options.add_argument("--rounds", type=int, default=12)
    options.add_argument("--delay", type=float, default=0.5)
    given = options.parse_args()
    rows = ((False, 0.0), (False, given.delay), (True, 0.0), (True, given.delay))
    worst = 0.0
    with started() as bench:
        print(f"{'':14}{'in the request':>22}{'by the queue':>22}{'ratio':>8}")
        print(f"{'per reply':14}" + f"{'0 ms':>11}{given.delay * 1000:>8.0f} ms" * 2)
        for kind, name in (("sms", "SMS"), ("push", "push"), ("mail", "notification"), ("hook", "web hook")):
            took = {row: float("inf") for row in rows}
            for turn in range(given.rounds):
                for row in rows:  # in turns, so that a machine that is busy for a while is so for all
                    if turn == 0 or row != (False, given.delay):
                        took[row] = min(took[row], bench.measure(kind, *row))
            ratio = took[True, given.delay] / took[False, 0.0]
            worst = max(worst, ratio)
            print(f"{name:14}" + "".join(f"{took[row] * 1000:>8.0f} ms" for row in rows) + f"{ratio:>8.2f}")
    return 0 if worst <= MOST else 1


if __name__ == "__main__":
    sys.exit(main())
