"""Challenges, mails and sign-ins at a privacyIDEA, as its users and administrators see them."""

from __future__ import annotations

import http.cookiejar
import re
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services import wait_until

from pijobs_mail.sink.server import Received, Sink

if TYPE_CHECKING:
    from pijobs_privacyidea.instance import Instance

#: Seconds to wait for what must happen; the machine may be busy.
PATIENCE = 60.0
PIN = "1234"
#: Seconds that a request may take longer while the queue's storage is away: the time of an enqueue, and of a fallback.
#: A challenge itself takes 0.2 to 1.5, by the release and the machine.
LONGER = 1.0


def otp_of(received: Received) -> str:
    part = received.message.get_body(("plain",))
    assert part is not None
    found = re.search(r"\b\d{6}\b", part.get_content())
    assert found is not None
    return found[0]


def holds(text: str, otp: str) -> bool:
    """Whether the digits stand there; not by chance in the middle of a longer number, such as the id of a thread."""
    return re.search(rf"(?<!\d){otp}(?!\d)", text) is not None


def challenge(instance: Instance, user: str = "alice") -> str:
    """The transaction of a new challenge."""
    answer = instance.challenge(user, PIN)
    assert answer["detail"].get("transaction_id"), answer["detail"].get("message")
    return str(answer["detail"]["transaction_id"])


def timed_challenge(instance: Instance) -> tuple[str, float]:
    """The transaction of a new challenge, and its seconds."""
    began = time.monotonic()
    transaction = challenge(instance)
    return transaction, time.monotonic() - began


def arrives_and_signs_in(instance: Instance, sink: Sink, transaction: str) -> None:
    """Each OTP is tried once: a mail whose fate was unknown may come again."""
    tried: set[str] = set()

    def taken() -> bool:
        new = {otp_of(mail) for mail in sink.mails if "alice@example.com" in mail.recipients} - tried
        tried.update(new)
        return any(instance.sign_in("alice", otp, transaction) for otp in new)

    wait_until(taken, PATIENCE, what="the sign-in")


def jobs(instance: Instance) -> list[dict[str, Any]]:
    """The records of all instances but those that count; each test begins with none."""
    listed: list[dict[str, Any]] = instance.ask("/jobqueue/jobs", "GET")["result"]["value"]["jobs"]
    return [job for job in listed if not job["name"].startswith("statistics.")]


def the_job(instance: Instance) -> dict[str, Any]:
    """The record of the only instance."""
    (job,) = jobs(instance)
    return job


def becomes(instance: Instance, state: str) -> dict[str, Any]:
    """The record of the only instance, when it is in that state."""
    wait_until(lambda: [job["state"] for job in jobs(instance)] == [state], PATIENCE, what=f"the state {state}")
    return the_job(instance)


def pijobs(instance: Instance, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command, as the administrator of the instance calls it."""
    command = [str(Path(sys.executable).with_name("pijobs")), "--config", str(instance.config), *arguments]
    return instance.run(*command, **environment)


class Visit:
    """Somebody with a browser that keeps cookies."""

    def __init__(self, instance: Instance) -> None:
        self._url, jar = instance.url, urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        self._browser = urllib.request.build_opener(jar)

    def ask(self, path: str, **form: str) -> tuple[int, str]:
        data = urllib.parse.urlencode(form).encode() if form else None
        try:
            with self._browser.open(f"{self._url}{path}", data, timeout=PATIENCE) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def sign_in(self, name: str, password: str) -> tuple[int, str]:
        _, page = self.ask("/jobqueue/")
        token = re.search(r'name="csrf_token" value="([^"]+)"', page)
        assert token is not None
        return self.ask("/jobqueue/pages/sign-in", csrf_token=token[1], username=name, password=password)
