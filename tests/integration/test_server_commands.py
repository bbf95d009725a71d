"""``pijobs admin`` and ``pijobs server`` as an operator calls them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import shared
from preloaded import Programs

PASSWORD = "correct horse battery"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A ``pi.cfg`` without a queue."""
    path = tmp_path / "pi.cfg"
    path.write_text("SECRET_KEY = 'the secret key of a test server'\nPI_JOB_QUEUE_PLUGINS = ()\n")
    path.chmod(0o600)
    return path


def command(config: Path, *arguments: str) -> list[str]:
    return ["-m", "pijobs", "--config", str(config), *arguments]


def run(config: Path, *arguments: str, input: str = "") -> subprocess.CompletedProcess[str]:
    return Programs(Path(shared.server("programs"))).run(
        command(config, *arguments), os.environ, config.parent, 60, input
    )


def add(config: Path, name: str, role: str, password: str = PASSWORD) -> subprocess.CompletedProcess[str]:
    return run(config, "admin", "add", name, "--role", role, "--password-stdin", input=f"{password}\n")


def listed(config: Path) -> dict[str, str]:
    """Names and roles."""
    return {row["name"]: row["role"] for row in json.loads(run(config, "admin", "list", "--json").stdout)}


@contextmanager
def server(config: Path, *options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A running server and its URL."""
    process = subprocess.Popen(
        [sys.executable, *command(config, "server", "--port", "0", *options)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    try:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if found := re.search(r"listening on (http://\S+:[1-9]\d*)$", line.strip()):
                yield found[1], process
                return
        pytest.fail(f"the server ended: {''.join(lines)}")
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()


def ask(url: str, **values: str) -> tuple[int, Any]:
    """Status and result of a GET, or of a POST if there are values."""
    body = json.dumps(values).encode() if values else None
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=120) as response:
            return response.status, json.load(response)["result"]
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)["result"]


def test_accounts_come_change_and_go(config: Path) -> None:
    assert add(config, "alice", "admin").returncode == 0
    assert add(config, "bob", "viewer").returncode == 0
    assert listed(config) == {"alice": "admin", "bob": "viewer"}
    assert run(config, "admin", "password", "bob", "--password-stdin", input="another password").returncode == 0
    assert run(config, "admin", "remove", "bob").returncode == 0
    assert listed(config) == {"alice": "admin"}
    assert PASSWORD.encode() not in (config.parent / "pijobs.sqlite").read_bytes()


def test_a_password_that_is_refused_is_not_told(config: Path) -> None:
    done = add(config, "alice", "viewer", "hunter2")
    assert done.returncode == 1
    assert "at least 12" in done.stderr
    assert "hunter2" not in done.stderr + done.stdout


def test_the_last_admin_can_not_be_removed(config: Path) -> None:
    add(config, "alice", "admin")
    done = run(config, "admin", "remove", "alice")
    assert (done.returncode, listed(config)) == (1, {"alice": "admin"})
    assert "last admin" in done.stderr


def test_the_server_says_where_it_listens_and_ends_when_told(config: Path) -> None:
    add(config, "alice", "operator")
    with server(config) as (url, process):
        assert ask(f"{url}/livez") == (200, {"status": True, "value": {"status": "OK"}})
        status, result = ask(f"{url}/auth", username="alice", password=PASSWORD)
        assert (status, result["value"]["role"]) == (200, "operator")
        assert ask(f"{url}/auth", username="alice", password="a wrong password")[0] == 401
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0


def test_an_account_is_known_to_a_running_server_at_once(config: Path) -> None:
    with server(config) as (url, _):
        assert ask(f"{url}/auth", username="alice", password=PASSWORD)[0] == 401
        add(config, "alice", "admin")
        assert ask(f"{url}/auth", username="alice", password=PASSWORD)[0] == 200


def test_a_port_that_is_taken_is_told(config: Path) -> None:
    with server(config) as (url, _):
        done = run(config, "server", "--port", url.rpartition(":")[2])
    assert done.returncode == 2
    assert "choose another --host or --port" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_without_a_secret_key_does_not_start(config: Path) -> None:
    config.write_text("PI_JOB_QUEUE_PLUGINS = ()\n")
    done = run(config, "server", "--port", "0")
    assert done.returncode == 2
    assert "SECRET_KEY" in done.stderr
