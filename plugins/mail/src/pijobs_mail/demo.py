"""The demo: the real server, a real worker and a slow SMTP server; one mail in the request, and one queued."""

from __future__ import annotations

import json
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from pijobs import clock, threads
from pijobs_mail.sink import Received, Sink

#: Seconds for a process to come up, and for a mail to arrive.
PATIENCE = 30.0
_ADMIN = "demo"
_CONFIG = """\
# Written by 'pijobs demo'.
SECRET_KEY = {secret!r}
SQLALCHEMY_DATABASE_URI = {database!r}
PI_JOB_QUEUE_CLASS = 'pijobs.HueyQueue'
PI_JOB_QUEUE_URL = {queue!r}
"""


class DemoFailed(Exception):
    """What the demo is there to show did not happen."""


@dataclass(frozen=True)
class Shown:
    """One mail of the demo.

    :param answered: seconds until the request was answered.
    """

    recipient: str
    answered: float
    asked: float


class Demo:
    """Everything the demo starts; all of it ends with the ``with`` block.

    :param delay: seconds before each SMTP reply.
    :param say: takes each line for people.
    """

    def __init__(self, *, delay: float, say: Callable[[str], object]) -> None:
        self._delay = delay
        self._say = say
        self._cleanup = ExitStack()
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._password = secrets.token_urlsafe(9)
        self._token: str | None = None

    def __enter__(self) -> Demo:
        try:
            self._start()
        except BaseException:
            self._cleanup.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._cleanup.close()

    def show(self) -> None:
        """Send both mails and tell about them. :raises DemoFailed: when one does not arrive."""
        for identifier, queued in (("queued", True), ("inline", False)):
            values = {"server": self._sink.host, "port": self._sink.port, "sender": "pijobs@example.com"}
            self._post(f"/smtpserver/{identifier}", {**values, "timeout": 30, "enqueue_job": queued})
        shown = [self._send("queued"), self._send("inline")]
        mails = self._arrived(len(shown))
        self._say(f"\nThe SMTP server waits {self._delay:g} s before each reply.")
        for each in shown:
            self._tell(each, mails[each.recipient])
        for each in shown:
            self._print(each, mails[each.recipient])

    def stay(self) -> None:
        """Until Ctrl-C, or until a process of the demo ends."""
        try:
            self._say(f"\nThe server stays at {self._url} (admin {_ADMIN!r}, password {self._password!r}).")
            self._say(f"Look at the queue with:  {_python_m()} status --config {self._config}")
            self._say("Ctrl-C ends it.")
            while True:
                for name, child in self._children.items():
                    if child.poll() is not None:
                        raise self._ended(name, child)
                threads.Event().wait(0.5)
        except KeyboardInterrupt:
            self._say("")

    # -- what runs -------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        self._end_on_sigterm()
        self._directory = Path(self._cleanup.enter_context(tempfile.TemporaryDirectory(prefix="pijobs-demo-")))
        self._config = self._directory / "pi.cfg"
        self._config.touch(mode=0o600)
        self._config.write_text(
            _CONFIG.format(
                secret=secrets.token_hex(32),
                database=f"sqlite:///{self._directory}/pijobs.sqlite",
                queue=f"sqlite:///{self._directory}/queue.sqlite",
            )
        )
        self._sink = self._cleanup.enter_context(Sink(delay=self._delay))
        self._add_admin()
        self._child("server", "--host", "127.0.0.1", "--port", "0")
        self._child("worker", "-l", str(self._directory / "worker.log"))
        self._wait_for_server()
        answer = self._post("/auth", {"username": _ADMIN, "password": self._password})
        self._token = answer["token"]

    def _add_admin(self) -> None:
        command = self._command("admin", "add", _ADMIN, "--role", "admin", "--password-stdin")
        done = subprocess.run(command, input=f"{self._password}\n".encode(), capture_output=True, check=False)
        if done.returncode:
            raise DemoFailed(f"no account could be made: {done.stderr.decode(errors='replace').strip()}")

    def _child(self, name: str, *arguments: str) -> None:
        log = self._cleanup.enter_context((self._directory / f"{name}.out").open("wb"))
        child = subprocess.Popen(
            self._command(name, *arguments), cwd=self._directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        self._children[name] = child
        self._cleanup.callback(_end, child)

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "pijobs", "--config", str(self._config), *arguments]

    def _wait_for_server(self) -> None:
        until = clock.monotonic() + PATIENCE
        while clock.monotonic() < until:
            for name, child in self._children.items():
                if child.poll() is not None:
                    raise self._ended(name, child)
            if found := re.search(r"^listening on (\S+)$", self._output("server"), re.MULTILINE):
                self._url = found[1]
                return
            threads.Event().wait(0.05)
        raise DemoFailed(f"the server did not answer within {PATIENCE:g} s")

    def _ended(self, name: str, child: subprocess.Popen[bytes]) -> DemoFailed:
        said = self._output(name).strip().splitlines()[-10:]
        return DemoFailed("\n".join([f"the {name} ended with exit code {child.returncode}:", *said]))

    def _output(self, name: str) -> str:
        return (self._directory / f"{name}.out").read_text(errors="replace")

    def _end_on_sigterm(self) -> None:
        """SIGTERM ends the demo as Ctrl-C does: with its children."""
        if threads.current_thread() is threads.main_thread():
            before = signal.signal(signal.SIGTERM, _interrupt)
            self._cleanup.callback(signal.signal, signal.SIGTERM, before)

    # -- what is shown ---------------------------------------------------------------------------------------------

    def _send(self, identifier: str) -> Shown:
        recipient, asked, started = f"{identifier}@example.com", clock.time(), clock.monotonic()
        self._post("/smtpserver/send_test_email", {"identifier": identifier, "recipient": recipient})
        return Shown(recipient, clock.monotonic() - started, asked)

    def _arrived(self, count: int) -> dict[str, Received]:
        try:
            return {mail.recipients[0]: mail for mail in self._sink.wait_for(count, PATIENCE)}
        except TimeoutError as error:
            raise DemoFailed(f"a mail did not arrive: {error}; the worker's log: {self._worker_log()}") from None

    def _worker_log(self) -> str:
        path = self._directory / "worker.log"
        return path.read_text(errors="replace")[-2000:] if path.exists() else "(none)"

    def _tell(self, shown: Shown, mail: Received) -> None:
        name = shown.recipient.partition("@")[0]
        answered, arrived = shown.answered * 1000, mail.at - shown.asked
        self._say(f"  {name}: request answered after {answered:6.0f} ms, mail arrived after {arrived:.1f} s")

    def _print(self, shown: Shown, mail: Received) -> None:
        self._say(f"\n----- received for {shown.recipient} -----")
        self._say(mail.content.decode(errors="replace").replace("\r\n", "\n").rstrip())

    def _post(self, path: str, values: dict[str, Any]) -> Any:
        headers = {"Content-Type": "application/json"} | ({"Authorization": self._token} if self._token else {})
        request = urllib.request.Request(f"{self._url}{path}", json.dumps(values).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as response:
                return json.load(response)["result"]["value"]
        except urllib.error.HTTPError as error:
            raise DemoFailed(f"POST {path} was answered with {error.code}: {error.read().decode()}") from None


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(10)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _python_m() -> str:
    return "pijobs" if Path(sys.argv[0]).name == "pijobs" else "python -m pijobs"
