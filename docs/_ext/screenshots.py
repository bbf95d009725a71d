"""The screenshots of the README: ``make screenshots``; with ``--all FOLDER`` each page, light, dark and on a phone.

The server is the real one; the hour that it shows is made up, on a clock of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))

from acceptance.browser import launched
from integration.served import PASSWORD, make_app, queue_of, settings_of
from playwright.sync_api import BrowserContext
from werkzeug.serving import WSGIRequestHandler, make_server

from pijobs.execution.groups import Policy
from pijobs.jobs import State
from pijobs.payload.keys import KeyRing
from pijobs.request.queue import Queue
from pijobs.server.accounts import Accounts
from pijobs.server.machines import Machines
from pijobs.storage import periods
from pijobs.storage.memory import MemoryStorage
from pijobs.storage.sessions import SessionInfo
from pijobs.storage.values import End, Lease
from pijobs.testing.clock import ManualClock
from pijobs_mail.servers.definitions import open_store
from pijobs_sms import gateways
from pijobs_statistics.store import Store
from pijobs_statistics.values import minute

STATIC = Path(__file__).resolve().parents[1] / "_static"
#: Pixels of a picture in the README.
LONGEST = 980
SIZES = {"light": (1180, 700), "dark": (1180, 700), "phone": (390, 844)}
REFUSED = "1 of 1 recipients refused: {}***@example.org: 550 5.1.1 mailbox unavailable"
DEFERRED = "1 of 1 recipients deferred: {}***@example.com: 451 4.7.1 greylisted, try again later"


class Quiet(WSGIRequestHandler):
    def log_request(self, *args: Any, **kwargs: Any) -> None:
        """Says nothing."""


class Hour:
    """Fills a queue with an hour of mails."""

    def __init__(self, queue: Queue, storage: MemoryStorage, clock: ManualClock) -> None:
        self.queue, self.storage, self.clock = queue, storage, clock
        self.chance = random.Random(4)
        self.sessions = [self._worker(host, pid) for host, pid in (("jobs1", 1712), ("jobs2", 903))]

    def _worker(self, host: str, pid: int) -> str:
        known = KeyRing.of(self.queue.settings).ids
        info = SessionInfo(
            f"{host}-{pid}", f"{host}.example.com", pid, self.storage.now(), metadata.version("pijobs"), workers=4,
            keys=known, jobs=tuple(self.queue.registry),
        )  # fmt: skip
        self.storage.open_session(info, lease=7_200_000)
        return info.id

    def mail(self, server: str = "main", user: str = "alice", **options: Any) -> str:
        kwargs = {"server": server, "to": f"{user}@example.com", "subject": "Your code", "text": "…"}
        return self.queue.enqueue("mail.send", (), kwargs, **options).id

    def lease(self) -> Lease:
        (lease,) = self.storage.step(self.sessions[0], [], want=1).leases
        return lease

    def end(self, lease: Lease, state: State, took: float, reason: str | None = None, **more: Any) -> None:
        started = self.storage.now()
        self.clock.advance(took)
        entry = {
            "at": self.storage.now(), "event": "attempt", "attempt": lease.attempts + 1, "started": started,
            "outcome": state.value, "reason": reason, **more.pop("entry", {}),
        }  # fmt: skip
        end = End(lease.id, lease.token, state, reason=reason, entry=json.dumps(entry), **more)
        self.storage.step(self.sessions[0], [end], want=0)
        self.count(lease, state, took)

    def count(self, lease: Lease, state: State, took: float) -> None:
        since = (self.storage.now() - self.storage.get(lease.id).created) / 1000 if state is State.DONE else None
        self.queue.metrics.attempt(lease.name, lease.group, state, waited=0.02, took=took, since_enqueue=since)
        if state is State.DEAD:
            self.queue.metrics.failed(lease.name, lease.group, state)
        self.queue.metrics.flush(partial(periods.add, self.storage))

    def pass_by(self, end: float) -> None:
        """Mails up to a moment: some refusals in the beginning, and a slow minute."""
        step = 0
        while self.clock.time() < end - 25:
            step += 1
            self.clock.advance(self.chance.expovariate(1 / 23))
            self.mail(user=self.chance.choice("abcdefgh"))
            self.clock.advance(self.chance.uniform(0.004, 0.03))
            slow = 4 if 80 < step < 92 else 0
            took = self.chance.lognormvariate(-1.2, 0.5) + slow * self.chance.random()
            refused = step in (9, 31, 33, 70)
            self.end(
                self.lease(), State.DEAD if refused else State.DONE, took, REFUSED.format("m") if refused else None
            )

    def life(self) -> str:
        """A mail that has seen something."""
        id = self.mail()
        self.clock.advance(0.02)
        down = "mail.example.com:587 does not answer: connection refused"
        due = self.storage.now() + 2600
        self.end(self.lease(), State.SCHEDULED, 0.006, down, due=due, counted=False, entry={"counted": False})
        self.clock.advance(2.61)
        self.end(self.lease(), State.SCHEDULED, 0.21, DEFERRED.format("a"), due=self.storage.now() + 4000)
        self.clock.advance(4.02)
        notes = {"reply": "250 2.0.0 Ok: queued as 4T2bXk1Zz9", "queue_id": "4T2bXk1Zz9"}
        self.end(self.lease(), State.DONE, 0.244, entry={"notes": notes})
        return id

    def present(self) -> None:
        """What is going on now."""
        policy = Policy(failures=3, opened=1, reason="mail.partner.example:25 does not answer: timed out").dumps()
        blocked = self.storage.now() + 18_000
        self.storage.set_group("smtp:partner", version=0, limit=2, blocked_until=blocked, policy=policy)
        self.mail(server="reminders", delay=900)
        self.mail(user="dora")
        self.lease()

    def catch_up(self) -> None:
        """To now, with workers that live."""
        self.clock.advance(max(0.0, time.time() - self.clock.time() - 0.3))
        for session in self.sessions:
            self.storage.beat(session, lease=7_200_000)
        self.clock.advance(0.3)


def count_usage(store: Store) -> None:
    """Two days of logins."""
    chance, now = random.Random(5), minute()
    rows = []
    for hour in range(48):
        busy = 40 if 7 <= (now // 3600 - hour) % 24 <= 18 else 6
        at = now - hour * 3600
        rows += [
            [at, "login", f'{{"realm":"{realm}","result":"{result}"}}', number, number * 1000]
            for realm, share in (("staff", 3), ("guests", 1))
            for result, number in (("ok", chance.randint(1, busy * share)), ("wrong_otp", chance.randint(0, 3)))
        ]
        rows.append([at, "answer.bytes", "{}", busy, chance.randint(900, 2100) * busy * 1000])
    store.apply("two days", rows)


@contextmanager
def shown() -> Iterator[tuple[str, str, Hour]]:
    """A server with its hour: its address, and the id of an instance with a life."""
    with tempfile.TemporaryDirectory() as folder:
        app = make_app(
            Path(folder), URL="memory://", SPOOL=f"{folder}/spool", NAME="privacyidea",
            PLUGINS=("mail", "sms", "statistics"), STATISTICS_JOURNAL=f"{folder}/journal",
        )  # fmt: skip
        Accounts.of(settings_of(app)).add("root", PASSWORD, "admin")
        Machines.of(settings_of(app)).add("shop", ["enqueue:mail.send", "status"], days=90)
        store, values = open_store(settings_of(app)), {"sender": "otp@example.com", "enqueue_job": True}
        store.save(
            "main", {"server": "mail.example.com", "port": 587, "tls": True, "description": "OTP mails", **values}
        )
        store.save(
            "reminders", {"server": "relay.example.com", "tls": True, "description": "Monthly reminders", **values}
        )
        store.save("partner", {**values, "server": "mail.partner.example", "tls": True, "enqueue_job": False})
        gateways.open_store(settings_of(app)).save(
            "main",
            {"url": "https://sms.example.com/send", "region": "DE", "description": "OTP SMS"},
        )
        count_usage(Store.of(settings_of(app)))
        clock, queue = ManualClock(time.time() - 3600), queue_of(app)
        storage = queue.storage = MemoryStorage(clock=clock)
        hour = Hour(queue, storage, clock)
        hour.pass_by(time.time() - 8)
        clock.advance(max(0.0, time.time() - clock.time() - 7.6))
        id = hour.life()
        hour.present()
        server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", id, hour
        finally:
            server.shutdown()


def sign_in(context: BrowserContext, base: str, picture: Path | None) -> None:
    page = context.new_page()
    page.goto(f"{base}/pages/sign-in")
    if picture is not None:
        page.screenshot(path=picture)
    page.fill("#username", "root")
    page.fill("#password", PASSWORD)
    page.click("text=Sign in >> nth=-1")
    page.wait_for_selector("nav")
    page.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", type=Path, metavar="FOLDER")
    given = parser.parse_args()
    take(given.all or STATIC, all_pages=given.all is not None)


def take(folder: Path, *, all_pages: bool = False) -> None:
    """Write the pictures into a folder."""
    with shown() as (base, id, hour), launched() as browser:
        pages = {"overview": "/pages/", "life": f"/pages/jobs/{id}"}
        looks = {"light": SIZES["light"]}
        if all_pages:
            more = {
                "jobs": "/jobs",
                "failures": "/failures",
                "schedule": "/schedule",
                "messages": "/messages",
                "workers": "/workers",
                "events": "/events",
                "audit": "/audit",
                "tokens": "/tokens",
                "token": "/tokens/new",
                "account": "/account",
                "smtp": "/smtp/",
                "server": "/smtp/edit/main",
                "new": "/smtp/new",
                "gateways": "/sms/",
                "gateway": "/sms/new",
                "statistics": "/statistics/",
                "statistic": "/statistics/?name=login",
                "problem": "/jobs/nothing",
            }
            pages |= {name: f"/pages{path}" for name, path in more.items()}
            looks = SIZES
        os.makedirs(folder, exist_ok=True)
        for look, (width, height) in looks.items():
            context = browser.new_context(
                viewport={"width": width, "height": height}, color_scheme="dark" if look == "dark" else "light"
            )
            sign_in(context, base, folder / f"signin-{look}.png" if all_pages else None)
            for name, path in pages.items():
                page = context.new_page()
                hour.catch_up()
                page.goto(base + path)
                name = f"{name}-{look}" if all_pages else name
                height = page.evaluate("document.documentElement.scrollHeight")
                part: Any = {"x": 0, "y": 0, "width": width, "height": height if all_pages else min(height, LONGEST)}
                page.screenshot(path=folder / f"{name}.png", full_page=True, clip=part, animations="disabled")
                page.close()
            context.close()


if __name__ == "__main__":
    main()
