"""The servers that run an application as the deploy page tells: each of their processes enqueues, whoever forked it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from integration.redis_server import Server, running
from services import free_port, program, wait_until

from pijobs.jobs import State

from .site import Site

#: Seconds within which any request must be answered.
PATIENCE = 20.0
PROCESSES = 4

APPLICATION = """\
import os

import flask

from pijobs.flask import JobQueue

application = flask.Flask("shop")
application.config.from_pyfile({config!r})
jobs = JobQueue(application)


@application.get("/<int:number>")
def count(number):
    return f"{{os.getpid()}} {{jobs.enqueue('test.count', (number,), expires=600).via}}"


# Some do so while the application is loaded; in a server that forks afterwards, that is in its parent.
with application.app_context():
    jobs.enqueue("test.count", (0,), expires=600)
"""


@dataclass
class AppServer:
    """A server that runs the application."""

    site: Site
    port: int
    process: subprocess.Popen[bytes]

    def ask(self, number: int) -> tuple[str, str]:
        """The process that answered, and where the job went."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{number}", timeout=PATIENCE) as response:
            pid, via = response.read().decode().split()
        return pid, via

    def ask_all(self, numbers: Sequence[int]) -> list[tuple[str, str]]:
        """Several requests at a time."""
        with ThreadPoolExecutor(2 * PROCESSES) as clients:
            return list(clients.map(self.ask, numbers))

    @property
    def output(self) -> str:
        return (self.site.folder / "server.out").read_text(errors="replace")

    def answers(self) -> bool:
        assert self.process.poll() is None, self.output
        try:
            self.ask(0)
        except OSError:
            return False
        return True


Start = Callable[[Site, list[str]], AppServer]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a server; ``PORT`` in its command becomes a free one."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(site: Site, command: list[str]) -> AppServer:
        (site.folder / "application.py").write_text(APPLICATION.format(config=str(site.config)))
        port = free_port()
        for config in site.folder.glob("*.conf"):
            config.write_text(config.read_text().replace("PORT", str(port)))
        with (site.folder / "server.out").open("wb") as output:
            process = subprocess.Popen(
                [part.replace("PORT", str(port)) for part in command], cwd=site.folder, env=site.environment,
                stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        started.append(process)
        server = AppServer(site, port, process)
        wait_until(server.answers, 40, what="the server's first answer")
        return server

    yield begin
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def redis() -> Iterator[Server]:
    with running() as server:
        yield server


def site_at(folder: Path, url: str, **more: object) -> Site:
    own = {"URL": url, "NAME": f"served-{os.getpid()}-{time.monotonic_ns()}", "ENQUEUE_TIMEOUT": 2.0, **more}
    return Site(folder, {f"PI_JOB_QUEUE_{name}": value for name, value in own.items()})


@pytest.fixture(params=["redis", "sqlite", "postgresql"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """An installation on each kind of storage."""
    url = f"sqlite:///{tmp_path}/queue.sqlite"
    if request.param != "sqlite":
        url = request.getfixturevalue(f"{request.param}_url")
    site = site_at(tmp_path, url)
    yield site
    site.close()


@pytest.fixture
def redis_site(tmp_path: Path, redis: Server) -> Iterator[Site]:
    site = site_at(tmp_path, redis.url)
    yield site
    site.close()


def all_processes_enqueue(server: AppServer) -> None:
    pids: set[str] = set()

    def ask() -> bool:
        found = server.ask_all(range(1, 81))
        assert {via for _, via in found} == {"storage"}, server.output
        pids.update(pid for pid, _ in found)
        return len(pids) == PROCESSES

    wait_until(ask, 40, what=f"an answer of each process, not only of {pids}")
    storage = server.site.queue.storage
    assert storage is not None
    counts = storage.depths().counts
    # One at the least while it was loaded, and the first answers.
    assert counts["test.count", State.QUEUED] > 80


def uwsgi() -> list[str]:
    """As on the deploy page, but without ``enable-threads``: it keeps the interpreter's lock over its forks then."""
    pytest.importorskip("pyuwsgi")
    return [
        str(Path(sys.executable).parent / "uwsgi"), "--http-socket", "127.0.0.1:PORT", "--module", "application",
        "--master", "--processes", str(PROCESSES), "--die-on-term", "--pythonpath", sysconfig.get_path("purelib"),
    ]  # fmt: skip


def gunicorn(*options: str) -> list[str]:
    """As on the deploy page."""
    binding = ["--bind", "127.0.0.1:PORT", "--workers", str(PROCESSES)]
    return [sys.executable, "-m", "gunicorn", *binding, "--threads", "4", *options, "application"]


def test_uwsgi_forks_after_an_enqueue(site: Site, start: Start) -> None:
    server = start(site, uwsgi())
    all_processes_enqueue(server)
    assert "uWSGI runs no threads between requests" in server.output


def test_uwsgi_replaces_its_processes_after_an_outage_at_its_start(tmp_path: Path, start: Start) -> None:
    """A thread that waits in the parent for the interpreter's lock would hang each child that is forked later."""
    port = free_port()
    site = site_at(tmp_path, f"redis://127.0.0.1:{port}/0", FALLBACK=("direct",))
    server = start(site, uwsgi())
    with running(port=port):
        wait_until(lambda: {via for _, via in server.ask_all(range(16))} == {"storage"}, what="the end of the outage")
        before = {pid for pid, _ in server.ask_all(range(80))}
        os.kill(int(min(before)), signal.SIGKILL)
        wait_until(lambda: server.ask(1)[0] not in before, what="an answer of the process that took its place")
        site.close()


def test_what_was_spooled_under_uwsgi_is_done_once(
    redis_site: Site, redis: Server, start: Start, tmp_path: Path
) -> None:
    """The worker of the machine works from the spool; no thread of the server locks it."""
    redis_site.close()
    # What a busy machine is late with, a sign of life or a lock of the spool, makes no job a direct one.
    spool = {"SPOOL": str(tmp_path / "spool.sqlite"), "ENQUEUE_TIMEOUT": 5, "LEASE": 30}
    site = site_at(tmp_path, redis.url, **spool)
    worker = site.start_worker("-w", "2")
    assert site.queue.spool is not None
    wait_until(lambda: bool(site.queue.spool and site.queue.spool.sessions()), what="the spool's worker")
    server = start(site, uwsgi())
    redis.process.terminate()
    redis.process.wait()
    spooled = server.ask_all(range(1000, 1020))
    assert {via for _, via in spooled} == {"spool"}
    with running(port=redis.port):
        wait_until(lambda: server.ask(1)[1] == "storage", what="the end of the outage")
        wait_until(lambda: counted(site) >= set(range(1000, 1020)), what="all effects")
        effects = [number for number in site.effects_of("count") if int(number) >= 1000]
        assert len(effects) == len(set(effects)) == 20
        assert worker.poll() is None
        site.close()


def counted(site: Site) -> set[int]:
    return {int(text) for text in site.effects_of("count")}


@pytest.mark.parametrize("options", [(), ("--preload",)], ids=["gunicorn", "gunicorn --preload"])
def test_gunicorn_enqueues_in_each_process(redis_site: Site, start: Start, options: tuple[str, ...]) -> None:
    all_processes_enqueue(start(redis_site, gunicorn(*options)))


APACHE = """\
ServerName localhost
ServerRoot {folder}
PidFile {folder}/pid
ErrorLog {folder}/apache.log
Listen 127.0.0.1:PORT
User www-data
Group www-data
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule wsgi_module {modules}/mod_wsgi.so
WSGISocketPrefix {sockets}/wsgi
WSGIDaemonProcess shop processes={processes} threads=4 python-path={path}
WSGIProcessGroup shop
WSGIApplicationGroup %{{GLOBAL}}
WSGIScriptAlias / {folder}/application.py
<Directory {folder}>
    Require all granted
</Directory>
"""
MODULES = Path("/usr/lib/apache2/modules")


def not_root() -> list[str]:
    """mod_wsgi refuses to run as root; this user may still read our files."""
    if os.geteuid():
        return []
    rights = ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    return [program("setpriv"), "--reuid=www-data", "--regid=www-data", "--clear-groups", *rights]


@pytest.fixture
def sockets() -> Iterator[Path]:
    """A folder that Apache's own user can look into."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


def test_apache_with_mod_wsgi_enqueues_in_each_process(tmp_path: Path, start: Start, sockets: Path) -> None:
    site = site_at(tmp_path, f"sqlite:///{tmp_path}/queue.sqlite")
    paths = [str(tmp_path), str(Path(__file__).parent), sysconfig.get_path("purelib"), *_sources()]
    config = tmp_path / "apache.conf"
    text = APACHE.format(
        folder=tmp_path, modules=MODULES, processes=PROCESSES, path=":".join(paths), sockets=sockets,
    )  # fmt: skip
    config.write_text(text)
    all_processes_enqueue(start(site, [*not_root(), program("apache2"), "-D", "FOREGROUND", "-f", str(config)]))
    site.close()


def _sources() -> list[str]:
    """Of an editable installation, which Apache's own Python does not know."""
    import pijobs

    return [str(Path(pijobs.__file__).parents[1])]
