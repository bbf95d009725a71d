"""What the worker tells systemd, by the protocol of sd_notify(3)."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from services import wait_until

from pijobs.worker.systemd import Notifier

from .conftest import MakeSite


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[socket.socket]:
    """The end of the channel at which systemd listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(tmp_path / "notify"))
        channel.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield channel


def test_a_worker_tells_that_it_started_lives_and_stops(
    make_site: MakeSite, manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "200000")
    worker = make_site().start_worker()
    assert manager.recv(100) == b"READY=1"
    assert [manager.recv(100) for _ in range(3)] == [b"WATCHDOG=1"] * 3
    worker.send_signal(signal.SIGTERM)
    said = manager.recv(100)
    while said == b"WATCHDOG=1":
        said = manager.recv(100)
    assert said == b"STOPPING=1"
    wait_until(lambda: worker.poll() == 0, what="the end of the worker")


def test_the_watchdog_is_fed_twice_in_its_time_and_not_more(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("pijobs.base.clock.monotonic", lambda: now)
    monkeypatch.setenv("WATCHDOG_USEC", "60000000")
    notifier = Notifier()
    manager.setblocking(False)
    told = []
    for _ in range(121):
        notifier.alive()
        with contextlib.suppress(BlockingIOError):
            told.append((now, manager.recv(100)))
        now += 1
    assert told == [(100.0 + seconds, b"WATCHDOG=1") for seconds in (0, 30, 60, 90, 120)]


@pytest.mark.parametrize("variables", [{}, {"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "soon"}])
def test_a_watchdog_of_nobody_or_of_another_process_is_not_fed(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    Notifier().alive()
    manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.recv(100)


def test_nothing_happens_without_systemd_or_a_listener(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    Notifier().started()
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    notifier = Notifier()
    notifier.started()
    assert not notifier._address, "it does not try again and again"
