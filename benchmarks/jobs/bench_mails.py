"""Mails from the request to the server that takes them: pijobs beside plain huey whose job sends by smtplib."""

from __future__ import annotations

import os
import smtplib
import ssl
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from email.utils import formatdate
from pathlib import Path
from typing import Any

from huey import RedisHuey

from pijobs.factory import build
from pijobs.settings import read_config
from pijobs_mail.send import send_mail
from pijobs_mail.servers.definitions import open_store

HERE = Path(__file__).resolve().parent
LOGIN = ("user", "hunter2")
SENDER, RECIPIENT = "otp@example.com", "alice@example.com"
TEXT = "Your one-time password is 739105. It is valid for two minutes.\n"


def send_by_smtplib(config: dict[str, Any], recipient: str, subject: str, body: str) -> None:
    """As privacyIDEA's job does it: a new connection for each mail."""
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = subject, config["sender"], recipient
    message["Date"] = formatdate()
    message.set_content(body)
    with smtplib.SMTP(config["server"], config["port"], timeout=10) as smtp:
        smtp.starttls(context=_context(config["ca_file"]))
        smtp.login(config["username"], config["password"])
        smtp.sendmail(config["sender"], [recipient], message.as_bytes())


def _context(ca_file: str) -> ssl.SSLContext:
    if ca_file not in _contexts:
        _contexts[ca_file] = ssl.create_default_context(cafile=ca_file)
    return _contexts[ca_file]


_contexts: dict[str, ssl.SSLContext] = {}


def make_huey(url: str, queue: str) -> Any:
    """huey as privacyIDEA sets it."""
    huey = RedisHuey(queue, url=url, results=False, store_none=False)
    return huey, huey.task()(send_by_smtplib)


class Huey:
    """Plain huey."""

    def __init__(self, url: str, folder: Path, port: int, pem: str, threads: int) -> None:
        self.name, self._url, self._folder, self._threads = f"huey, -w {threads}", url, folder, threads
        self._queue = f"bench-{uuid.uuid4().hex[:8]}"
        self._huey, self._task = make_huey(url, self._queue)
        self._config = {
            "server": "127.0.0.1", "port": port, "username": LOGIN[0], "password": LOGIN[1], "sender": SENDER,
            "ca_file": pem,
        }  # fmt: skip

    def send(self) -> None:
        self._task(self._config, RECIPIENT, "Your code", TEXT)

    def command(self) -> list[str]:
        log = str(self._folder / "huey.log")
        start = "import sys, bench_mails; bench_mails.work(*sys.argv[1:])"
        return [sys.executable, "-c", start, self._queue, self._url, log, str(self._threads)]


def make_celery(url: str, queue: str) -> Any:
    """Celery with the same job, and no results."""
    import celery

    app = celery.Celery(queue, broker=url.replace("unix://", "redis+socket://"))
    app.conf.update(task_ignore_result=True, task_default_queue=queue, worker_hijack_root_logger=False)
    return app, app.task(name="send_by_smtplib")(send_by_smtplib)


class Celery(Huey):
    """Celery, its threads in one process."""

    def __init__(self, url: str, folder: Path, port: int, pem: str, threads: int) -> None:
        super().__init__(url, folder, port, pem, threads)
        self.name = f"celery, -w {threads}"
        self._task = make_celery(url, self._queue)[1].delay

    def command(self) -> list[str]:
        log = str(self._folder / "celery.log")
        start = "import sys, bench_mails; bench_mails.work_for_celery(*sys.argv[1:])"
        return [sys.executable, "-c", start, self._queue, self._url, log, str(self._threads)]


class Pijobs:
    """pijobs with the mail plugin."""

    def __init__(
        self, url: str, folder: Path, port: int, pem: str, threads: int, way: str = "", **definition: Any
    ) -> None:
        self.name, self._threads = f"pijobs, -w {threads}{way}", threads
        self._folder = folder / uuid.uuid4().hex[:8]
        self._folder.mkdir()
        self._config = self._folder / "pi.cfg"
        self._config.write_text(
            f"SECRET_KEY = 'benchmark'\nPI_JOB_QUEUE_CLASS = 'pijobs.HueyQueue'\nPI_JOB_QUEUE_URL = {url!r}\n"
            f"PI_JOB_QUEUE_NAME = 'bench-{uuid.uuid4().hex[:8]}'\nPI_JOB_QUEUE_PLUGINS = ('mail', 'bench_jobs')\n"
            "PI_JOB_QUEUE_JOBS = {'mail.send': {'expires': 3600}}\n"
        )
        self._config.chmod(0o600)
        self.queue = build(read_config(self._config), directory=self._folder).queue
        values = {
            "server": "127.0.0.1", "port": port, "username": LOGIN[0], "password": LOGIN[1], "sender": SENDER,
            "tls": True, "ca_file": pem, "enqueue_job": True, "max_connections": 200, **definition,
        }  # fmt: skip
        open_store(self.queue.settings).save("main", values)

    def send(self) -> None:
        send_mail("main", to=RECIPIENT, subject="Your code", text=TEXT, queue=self.queue)

    def nothing(self) -> None:
        """A bare enqueue, for comparison."""
        self.queue.enqueue("bench.stamp", kwargs={"sent": 0.0}, delay=3600)

    def command(self) -> list[str]:
        log = str(self._folder / "pijobs.log")
        command = [sys.executable, "-m", "pijobs", "--config", str(self._config), "worker"]
        return [*command, "-w", str(self._threads), "-l", log]


@contextmanager
def worker(kind: Huey | Pijobs) -> Iterator[int]:
    """One worker process; its process id."""
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    process = subprocess.Popen(kind.command(), env=environment)
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait(40)


def processor_time(pid: int) -> float:
    """Seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def sent(kind: Huey | Pijobs, accepted: Callable[[], int], mails: int) -> tuple[float, float]:
    """Mails per second that the server took, without the first and the last tenth, and milliseconds of the worker's
    processor time for each."""
    for _ in range(mails):
        kind.send()
    before = accepted()

    def wait_for(share: float) -> int:
        end = time.monotonic() + 120
        while (count := accepted() - before) < mails * share:
            if time.monotonic() > end:
                raise SystemExit(f"{kind.name}: {count} of {mails} mails within 120 s")
            time.sleep(0.002)
        return count

    with worker(kind) as pid:
        first, used, begun = wait_for(0.1), processor_time(pid), time.perf_counter()
        count = wait_for(0.9) - first
        took, used = time.perf_counter() - begun, processor_time(pid) - used
        wait_for(1.0)
    return count / took, used / count * 1000


def request_times(kind: Pijobs, number: int = 400) -> dict[str, float]:
    """Milliseconds of processor time of one call, at the median of ten turns."""
    calls: dict[str, Callable[[], None]] = {"send_mail, queued": kind.send, "a bare enqueue": kind.nothing}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(11):
        for name, call in calls.items():
            began = time.process_time()
            for _ in range(number // 10):
                call()
            times[name].append((time.process_time() - began) / (number // 10) * 1000)
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def work(queue: str, url: str, log: str, threads: str) -> None:
    """A worker of plain huey's."""
    import logging

    handler = logging.FileHandler(log)
    handler.setFormatter(logging.Formatter("[%(asctime)s] %(levelname)s:%(name)s:%(threadName)s:%(message)s"))
    logging.getLogger("huey").addHandler(handler)
    logging.getLogger("huey").setLevel(logging.INFO)
    make_huey(url, queue)[0].create_consumer(workers=int(threads), graceful_signal="TERM").run()


def work_for_celery(queue: str, url: str, log: str, threads: str) -> None:
    """A worker of Celery."""
    options = ["--pool", "threads", "--concurrency", threads, "--loglevel", "INFO", "--logfile", log]
    make_celery(url, queue)[0].worker_main(
        ["worker", "--without-gossip", "--without-mingle", "--without-heartbeat", *options]
    )
