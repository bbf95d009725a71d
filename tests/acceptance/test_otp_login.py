"""``examples/otp_login``, run as its README says: a browser, the app, a worker, and an SMTP server."""

from __future__ import annotations

import http.cookiejar
import os
import re
import shutil
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from challenges import holds
from services import PROGRAM, wait_until

from pijobs_mail.sink.server import Fault, Sink

EXAMPLE = Path(__file__).parents[2] / "examples" / "otp_login"


class Running:
    """The example in a folder of its own."""

    def __init__(self, folder: Path, sink: Sink) -> None:
        self.folder = Path(shutil.copytree(EXAMPLE, folder))
        self.processes: list[subprocess.Popen[bytes]] = []
        values = {"server": sink.host, "port": sink.port, "tls": 0, "sender": "login@example.com", "enqueue_job": 1}
        options = [word for name, value in values.items() for word in ("--set", f"{name}={value}")]
        self.do("flask", "--app", "app", "jobs", "mail", "preset", "postfix", "--save", "main", *options)

    def do(self, module: str, *arguments: str) -> None:
        command = [sys.executable, "-m", module, *arguments]
        done = subprocess.run(command, cwd=self.folder, env=self.environment(), capture_output=True, timeout=PROGRAM)
        assert done.returncode == 0, done.stderr

    def start(self, module: str, *arguments: str) -> None:
        command = [sys.executable, "-m", module, *arguments]
        with (self.folder / f"{module}.out").open("wb") as out:
            self.processes.append(
                subprocess.Popen(command, cwd=self.folder, env=self.environment(), stdout=out, stderr=out)
            )

    def start_app(self) -> str:
        """The address that it listens on."""
        self.start("flask", "--app", "app", "run", "--port", "0")
        pattern = re.compile(r"Running on (http://\S+)")
        wait_until(lambda: pattern.search(self.output("flask")) is not None, 120, what="the start of the app")
        return str(pattern.findall(self.output("flask"))[0])

    def output(self, module: str) -> str:
        return (self.folder / f"{module}.out").read_text()

    def environment(self) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if name != "PRIVACYIDEA_CONFIGFILE"}


class Browser:
    """Somebody with cookies, at the pages of the app."""

    def __init__(self, base: str) -> None:
        self.base = base
        jar = http.cookiejar.CookieJar()
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))

    def get(self, path: str) -> str:
        return self._read(self.base + path, None)

    def post(self, path: str, **fields: str) -> str:
        named = {name.replace("_", "-"): value for name, value in fields.items()}
        return self._read(self.base + path, urllib.parse.urlencode(named).encode())

    def log_in(self, password: str = "correct horse battery") -> str:
        return self.post("/", username="alice", current_password=password)

    def _read(self, url: str, body: bytes | None) -> str:
        with self._opener.open(url, body, timeout=120) as response:
            return str(response.read().decode())


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as sink:
        yield sink


@pytest.fixture
def example(tmp_path: Path, sink: Sink) -> Iterator[Running]:
    running = Running(tmp_path / "otp_login", sink)
    yield running
    for process in running.processes:
        process.terminate()
    for process in running.processes:
        try:
            process.wait(120)
        finally:
            process.kill()


def otp_in(sink: Sink, number: int) -> str:
    content = sink.wait_for(number, timeout=120)[number - 1].content.decode()
    match = re.search(r"one-time password is (\d{6})", content)
    assert match is not None
    return match[1]


def test_the_code_comes_by_mail_and_opens_the_door_once(example: Running, sink: Sink) -> None:
    browser = Browser(example.start_app())
    example.start("pijobs", "worker")
    assert "Name or password is wrong" in browser.log_in("guess")
    assert "<h1>Login" in browser.get("/home")
    assert "The code of the mail" in browser.log_in()
    otp = otp_in(sink, 1)
    assert "wrong or too old" in browser.post("/otp", one_time_code=f"{(int(otp) + 1) % 10**6:06}")
    assert "Welcome, alice" in browser.post("/otp", one_time_code=otp)
    assert "wrong or too old" in browser.post("/otp", one_time_code=otp)
    assert len(sink.mails) == 1
    for output in (example.output("flask"), example.output("pijobs")):
        assert not holds(output, otp) and "alice@example.com" not in output


def test_three_wrong_codes_end_the_challenge(example: Running, sink: Sink) -> None:
    browser = Browser(example.start_app())
    example.start("pijobs", "worker")
    browser.log_in()
    otp = otp_in(sink, 1)
    for _ in range(3):
        browser.post("/otp", one_time_code=f"{(int(otp) + 1) % 10**6:06}")
    assert "wrong or too old" in browser.post("/otp", one_time_code=otp)


def test_the_page_does_not_wait_for_a_mail_server_that_hangs(example: Running, sink: Sink) -> None:
    sink.fail_at("GREETING", Fault(hang=True, times=1))
    browser = Browser(example.start_app())
    # Nobody works yet, and the page is there all the same; then the first connection hangs, and the mail arrives later.
    assert "The code of the mail" in browser.log_in()
    assert browser.get("/otp/mail") == "The mail is on its way …"
    assert sink.connections == 0
    example.start("pijobs", "worker")
    otp = otp_in(sink, 1)
    wait_until(lambda: browser.get("/otp/mail") == "The mail was sent.", what="the news that the mail was sent")
    assert "Welcome, alice" in browser.post("/otp", one_time_code=otp)


def test_the_page_tells_that_a_mail_can_not_be_sent(example: Running, sink: Sink) -> None:
    sink.fail_at("RCPT", Fault(reply="550 no such user"))
    browser = Browser(example.start_app())
    browser.log_in()
    example.start("pijobs", "worker")
    wait_until(lambda: browser.get("/otp/mail") == "The mail can't be sent.", what="the news of a refusal")
