"""A complete privacyIDEA on this machine, for the demo and the tests, used over HTTP."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from pijobs.base import clock
from pijobs.settings import CONFIG_VARIABLE

#: Most seconds for a command to end, and for a process to start.
PATIENCE = 120.0
APP = "pijobs_privacyidea.wsgi:create_app"
ADMIN, REALM, RESOLVER = "admin", "demo", "people"
#: The prefix of the users' mobile numbers; the first one ends with 0.
MOBILE = "+4917055500"
_CONFIG = """\
# Written by pijobs-privacyidea.
import os
HERE = {here!r}
SECRET_KEY = {secret!r}
PI_PEPPER = {pepper!r}
PI_ENCFILE = os.path.join(HERE, 'enckey')
PI_AUDIT_KEY_PRIVATE = os.path.join(HERE, 'private.pem')
PI_AUDIT_KEY_PUBLIC = os.path.join(HERE, 'public.pem')
PI_LOGFILE = os.path.join(HERE, 'privacyidea.log')
SQLALCHEMY_DATABASE_URI = 'sqlite:///' + os.path.join(HERE, 'privacyidea.sqlite')
"""


class InstanceFailed(Exception):
    """privacyIDEA could not be set up, or gave an unexpected answer."""


class Instance:
    """A privacyIDEA in a separate folder. Its processes end with the ``with`` block.

    :param here: an empty folder.
    :param queue: the ``PI_JOB_QUEUE_…`` settings.
    """

    def __init__(self, here: Path, queue: Mapping[str, Any]) -> None:
        self.here = here
        self.config = here / "pi.cfg"
        self.log = here / "processes.log"
        self.port = 0
        self.serving: subprocess.Popen[bytes] | None = None
        self.password = secrets.token_urlsafe(12)
        self._token = ""
        self._ends = ExitStack()
        values = {"here": str(here), "secret": secrets.token_hex(), "pepper": secrets.token_hex(16)}
        lines = [f"{name} = {value!r}" for name, value in queue.items()]
        self.config.write_text(_CONFIG.format(**values) + "\n".join(lines) + "\n", encoding="utf-8")
        self.config.chmod(0o640)

    def __enter__(self) -> Instance:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ends.close()

    # -- set up --------------------------------------------------------------------------------------------------

    def create(self) -> None:
        """Create keys, tables and an administrator with privacyIDEA's own command."""
        self.manage("setup", "create_enckey")
        self.manage("setup", "create_audit_keys")
        self.manage("setup", "create_tables", "-s")
        self.manage("admin", "add", ADMIN, "--password", self.password)

    def add_people(self, *names: str) -> None:
        """Create a realm of users with mail address and mobile number, over HTTP."""
        people = self.here / "people"
        lines = [
            f"{name}:x:{1000 + n}:1000:{name},,{MOBILE}{n},,{name}@example.com:/:/bin/sh"
            for n, name in enumerate(names)
        ]
        people.write_text("\n".join(lines) + "\n", encoding="utf-8")
        self.ask(f"/resolver/{RESOLVER}", type="passwdresolver", fileName=str(people))
        self.ask(f"/realm/{REALM}", resolvers=RESOLVER)
        self.ask("/defaultrealm/" + REALM)

    def set_smtp_server(self, identifier: str, port: int, *, queued: bool, **fields: Any) -> None:
        place = {"server": "127.0.0.1", "port": port, "timeout": 10, "sender": "privacyidea@example.com"}
        login = {"username": "", "password": ""}  # privacyIDEA 3.13 keeps missing fields
        values = {**place, **login, **fields}
        self.ask(f"/smtpserver/{identifier}", enqueue_job=queued, **values)

    def add_email_token(self, name: str, pin: str, **fields: Any) -> str:
        """Add an e-mail token that uses the SMTP server of ``email.identifier``. Returns its serial."""
        return str(
            self.ask(
                "/token/init", type="email", user=name, realm=REALM, pin=pin, email=f"{name}@example.com", **fields
            )["detail"]["serial"]
        )

    # -- use -----------------------------------------------------------------------------------------------------

    def challenge(self, name: str, pin: str) -> dict[str, Any]:
        """The answer of ``/validate/check`` to the PIN."""
        return self.ask("/validate/check", user=name, **{"pass": pin})

    def sign_in(self, name: str, otp: str, transaction: str) -> bool:
        """Whether the OTP is accepted."""
        answer = self.ask("/validate/check", user=name, transaction_id=transaction, **{"pass": otp})
        return bool(answer["result"]["value"])

    def ask(self, path: str, method: str = "POST", /, **fields: Any) -> dict[str, Any]:
        """Ask the server as the administrator.

        :raises InstanceFailed: if the answer is an error.
        """
        data = json.dumps(fields).encode() if method == "POST" else None
        headers = {"Authorization": self._signed_in(path)}
        if data is not None:  # else privacyIDEA would parse the missing body as JSON
            headers["Content-Type"] = "application/json"
        request = urllib.request.Request(f"{self.url}{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as response:
                answer: dict[str, Any] = json.load(response)
        except urllib.error.HTTPError as error:
            raise InstanceFailed(f"{path}: {error.code} {error.read(500).decode(errors='replace')}") from None
        return answer

    def _signed_in(self, path: str) -> str:
        if path == "/auth":
            return ""
        if not self._token:
            answer = self.ask("/auth", username=ADMIN, password=self.password)
            self._token = answer["result"]["value"]["token"]
        return self._token

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    # -- processes -----------------------------------------------------------------------------------------------

    def manage(self, *arguments: str) -> None:
        """Run ``pi-manage``."""
        done = self.run(_command("pi-manage"), *arguments)
        if done.returncode:
            raise InstanceFailed(f"pi-manage {arguments[0]}: {done.stderr[-2000:]}")

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a program to its end.

        :param environment: further variables, beside :meth:`environment`.
        """
        return subprocess.run(
            command, env={**self.environment(), **environment}, cwd=self.here, timeout=PATIENCE,
            capture_output=True, text=True, errors="replace",
        )  # fmt: skip

    def serve(self, *command: str) -> subprocess.Popen[bytes]:
        """Start the server, with pijobs' routes under /jobqueue. Returns once it answers.

        :param command: contains ``{port}``; default: Flask's own server.
        """
        self.port = _free_port()
        flask = (sys.executable, "-m", "flask", "--app", APP, "run", "--port", "{port}", "--with-threads")
        self.serving = self.start(*(word.format(port=self.port) for word in command or flask))
        self.wait_for("/livez")
        return self.serving

    def work(self, *options: str) -> subprocess.Popen[bytes]:
        """Start a worker, by the command in privacyIDEA's documentation."""
        return self.start(_command("privacyidea-queue-huey"), "-l", str(self.here / "queue.log"), *options)

    @contextmanager
    def working(self, *options: str) -> Iterator[subprocess.Popen[bytes]]:
        """A ready worker, killed at the end of the block."""
        worker = self.work("-w", "3", *options)
        try:
            self.wait_for("/healthz")
            yield worker
        finally:
            worker.kill()
            worker.wait()

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """Start a process that ends with the ``with`` block."""
        with self.log.open("ab") as log:
            process = subprocess.Popen(command, env=self.environment(), stdout=log, stderr=log, cwd=self.here)
        self._ends.callback(end, process)
        return process

    def wait_for(self, path: str) -> None:
        """Wait until a route of /jobqueue answers 200."""
        end = clock.monotonic() + PATIENCE
        while True:
            try:
                with urllib.request.urlopen(f"{self.url}/jobqueue{path}", timeout=5):
                    return
            except OSError:
                if clock.monotonic() > end or (self.serving and self.serving.poll() is not None):
                    output = self.log.read_text(errors="replace")[-3000:]
                    raise InstanceFailed(f"{path} does not answer; {output}") from None
            clock.sleep(0.1)

    def environment(self) -> dict[str, str]:
        """The environment of started processes: that of this process, without other settings of privacyIDEA."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PRIVACYIDEA_")}
        return {**kept, CONFIG_VARIABLE: str(self.config)}


def _command(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def end(process: subprocess.Popen[bytes]) -> None:
    """Terminate a process; kill it after 20 s."""
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
