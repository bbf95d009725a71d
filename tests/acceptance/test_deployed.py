"""The recipes at work: gunicorn behind nginx with TLS, and a log that is rotated under the worker."""

from __future__ import annotations

import http.client
import json
import re
import shlex
import ssl
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
import yaml
from services import PROGRAM, free_port, program, wait_until

from pijobs.jobs import State
from pijobs.server.machines import Machines

from .conftest import MakeSite
from .site import Site

CONTRIB = Path(__file__).parents[2] / "contrib"
PASSWORD = "correct horse battery"
TOKEN = re.compile(r'name="csrf_token" value="([^"]+)"')


@pytest.fixture
def storage_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/queue.sqlite"


@dataclass
class Client:
    """Somebody with an address of their own, before the proxy."""

    port: int
    address: str
    cookies: dict[str, str] = field(default_factory=dict)
    #: The headers that set them.
    set_cookies: list[str] = field(default_factory=list)

    def ask(self, method: str, path: str, **form: str) -> tuple[int, str, http.client.HTTPMessage]:
        context = ssl._create_unverified_context()  # its certificate was made a moment ago
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.port, timeout=60, source_address=(self.address, 0), context=context
        )
        headers = {
            "Host": "jobs.example.com",
            "Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items()),
        }
        if form:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        connection.request(method, path, urlencode(form) if form else None, headers)
        response = connection.getresponse()
        text = response.read().decode()
        for given in response.headers.get_all("Set-Cookie", []):
            (morsel,) = SimpleCookie(given).values()
            self.cookies[morsel.key] = morsel.value
            self.set_cookies.append(given)
        connection.close()
        return response.status, text, response.headers

    def sign_in(self, password: str) -> int:
        match = TOKEN.search(self.ask("GET", "/pages/sign-in")[1])
        assert match is not None
        return self.ask("POST", "/pages/sign-in", username="root", password=password, csrf_token=match[1])[0]


def start(site: Site, command: list[str]) -> subprocess.Popen[bytes]:
    with (site.folder / "output").open("ab") as output:
        site.processes.append(
            subprocess.Popen(
                command, cwd=site.folder, stdout=output, stderr=output, start_new_session=True,
                env={**site.environment, "PRIVACYIDEA_CONFIGFILE": str(site.config)},
            )
        )  # fmt: skip
    return site.processes[-1]


def start_gunicorn(site: Site, port: int) -> None:
    unit = (CONTRIB / "systemd/pijobs-server.service").read_text()
    (line,) = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    _, *options = shlex.split(line)
    options[options.index("--bind") + 1] = f"127.0.0.1:{port}"
    start(site, [sys.executable, "-m", "gunicorn", *options])


def start_nginx(site: Site, port: int, server: int) -> None:
    folder = site.folder
    files = ["-keyout", f"{folder}/key", "-out", f"{folder}/cert"]
    subject = ["-subj", "/CN=jobs.example.com"]
    subprocess.run(
        [program("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject, *files],
        check=True, capture_output=True,
    )  # fmt: skip
    own = (CONTRIB / "nginx/pijobs.conf").read_text()
    own = own.replace("/etc/ssl/certs/pijobs.pem", f"{folder}/cert").replace(
        "/etc/ssl/private/pijobs.key", f"{folder}/key"
    )
    own = re.sub(r"listen \[::\].*", "", own).replace("listen 443", f"listen 127.0.0.1:{port}")
    own = own.replace("127.0.0.1:5000", f"127.0.0.1:{server}")
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = "".join(f"{name}_temp_path {folder}/{name};" for name in kinds)
    config = folder / "nginx.conf"
    config.write_text(f"daemon off; pid {folder}/pid; events {{}}\nhttp {{ access_log off; {places}\n{own}\n}}\n")
    start(site, [program("nginx"), "-p", str(folder), "-c", str(config), "-e", "stderr"])


@pytest.fixture
def deployed(make_site: MakeSite) -> tuple[Site, int]:
    site = make_site()
    added = site.run("admin", "add", "root", "--password-stdin", input=PASSWORD + "\n")
    assert added.returncode == 0, added.stderr
    port, server = free_port(), free_port()
    start_gunicorn(site, server)
    start_nginx(site, port, server)

    def answers() -> bool:
        try:
            return Client(port, "127.0.0.1").ask("GET", "/livez")[0] == 200
        except OSError:
            return False

    wait_until(answers, what="gunicorn behind nginx")
    return site, port


def test_behind_the_proxy_people_sign_in_over_tls_and_each_address_counts_for_itself(
    deployed: tuple[Site, int],
) -> None:
    _, port = deployed
    guesser, admin = Client(port, "127.0.0.2"), Client(port, "127.0.0.3")
    # Two processes of gunicorn count each for itself.
    statuses = [guesser.sign_in(f"guess {number}") for number in range(24)]
    assert statuses[0] == 401 and statuses[-1] == 429
    assert admin.sign_in(PASSWORD) == 303
    assert admin.set_cookies and all("Secure" in header and "HttpOnly" in header for header in admin.set_cookies)
    for _ in range(8):
        status, page, headers = admin.ask("GET", "/pages/")
        assert status == 200 and "no live worker" in page
    assert headers["Strict-Transport-Security"] and "default-src 'none'" in headers["Content-Security-Policy"]


def test_what_watches_is_let_in_by_its_address_only(deployed: tuple[Site, int]) -> None:
    _, port = deployed
    for path in ("/metrics", "/readyz", "/healthz", "/livez"):
        assert Client(port, "127.0.0.2").ask("GET", path)[0] == 403
    assert Client(port, "127.0.0.1").ask("GET", "/metrics")[0] == 200


class Callers:
    """Somebody who enqueues one job after another over HTTP, by the server that is given at the time."""

    def __init__(self, token: str, port: int) -> None:
        self.headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self.port, self.ids, self.faults = port, list[str](), list[object]()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._call)
        self._thread.start()

    def _call(self) -> None:
        while not self._over.is_set():
            try:
                answer = json.loads(self._ask(self.port))
                self.ids.append(answer["result"]["value"]["id"])
            except (OSError, http.client.HTTPException, KeyError) as error:
                self.faults.append(error)

    def _ask(self, port: int) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        body = json.dumps({"name": "test.count", "kwargs": {"number": len(self.ids)}})
        connection.request("POST", "/jobs", body, self.headers)
        text = connection.getresponse().read().decode()
        connection.close()
        return text

    def end(self) -> None:
        self._over.set()
        self._thread.join()


def start_pod(site: Site) -> tuple[subprocess.Popen[bytes], int]:
    """A server as the chart starts it, once its readiness probe is content."""
    (line,) = re.findall(r"command: (\[gunicorn.*)", (CONTRIB / "helm/pijobs/templates/server.yaml").read_text())
    port, command = free_port(), yaml.safe_load(line)
    command[command.index("--bind") + 1] = f"127.0.0.1:{port}"
    command[command.index("--workers") + 1] = "1"
    process = start(site, [sys.executable, "-m", *command])

    def ready() -> bool:
        try:
            with urlopen(f"http://127.0.0.1:{port}/readyz", timeout=120) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    wait_until(ready, what="the readiness of a server")
    return process, port


def test_in_a_roll_out_of_kubernetes_no_call_fails_and_no_job_is_lost(make_site: MakeSite) -> None:
    site = make_site()
    token = Machines.of(site.queue.settings).add("shop", ["enqueue:test.*"], days=1)
    old_worker = site.start_worker("-t", "0.2")
    held = site.queue.enqueue("test.hold", ("job", 2))
    wait_until(lambda: site.effects_of("begin") == ["job 1"], what="the start")
    old, port = start_pod(site)
    callers = Callers(token, port)
    try:
        _, callers.port = start_pod(site)
        wait_until(lambda: len(callers.ids) > 5, what="some calls")
        site.start_worker("-w", "2")
        for process in (old, old_worker):
            process.terminate()
        assert [process.wait(25) for process in (old, old_worker)] == [0, 0], "else they would be killed"
        some = len(callers.ids)
        wait_until(lambda: len(callers.ids) > some + 5, what="calls after it")
    finally:
        callers.end()
    assert callers.faults == []
    assert {site.wait_for(id).state for id in [held.id, *callers.ids]} == {State.DONE}
    assert site.record(held.id).crashes == 0


def test_the_log_of_a_worker_goes_on_after_it_was_rotated(make_site: MakeSite, tmp_path: Path) -> None:
    site = make_site()
    site.start_worker()
    recipe = tmp_path / "logrotate"
    recipe.write_text((CONTRIB / "logrotate/pijobs").read_text().replace("/var/log/pijobs", str(tmp_path)))
    recipe.chmod(0o600)
    site.wait_for(site.queue.enqueue("test.count", (1,)).id)
    command = [program("logrotate"), "--force", "--state", f"{tmp_path}/state", str(recipe)]
    rotated = subprocess.run(command, capture_output=True, text=True, timeout=PROGRAM)
    assert rotated.returncode == 0, rotated.stderr
    id = site.queue.enqueue("test.count", (2,)).id
    site.wait_for(id)
    wait_until(lambda: id in site.log.read_text(), what="the line of the second job")
    assert "\0" not in site.log.read_text()
    assert site.log.with_name(site.log.name + ".1").exists()
