"""What a job changes of its process is put back."""

from __future__ import annotations

import logging
import logging.config
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pijobs.worker.surroundings import Surroundings

OURS = logging.getLogger("pijobs.job")


@pytest.fixture(autouse=True)
def tidy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever a test here leaves behind goes."""
    monkeypatch.chdir(tmp_path)
    umask = os.umask(0o022)
    handler = signal.getsignal(signal.SIGTERM)
    yield
    os.umask(umask)
    signal.signal(signal.SIGTERM, handler)


def leave(signum: int, frame: object) -> None:
    raise SystemExit(1)


def turn_off_and_log() -> None:
    logging.disable(logging.CRITICAL)
    OURS.error("not written")  # the logger remembers that it is too quiet for it


def another(*args: Any) -> logging.LogRecord:
    return logging.LogRecord(*args)


@pytest.mark.parametrize(
    ("change", "is_there", "told"),
    [
        (lambda: os.chdir("/"), lambda: os.getcwd() != "/", "the working directory"),
        (lambda: os.umask(0), lambda: os.umask(0o022) == 0o022, "the umask"),
        (
            lambda: signal.signal(signal.SIGTERM, leave),
            lambda: signal.getsignal(signal.SIGTERM) is not leave,
            "signal handlers",
        ),
        (lambda: logging.config.dictConfig({"version": 1}), lambda: not OURS.disabled, "the configuration of the log"),
        (turn_off_and_log, lambda: OURS.isEnabledFor(logging.ERROR), "the configuration of"),
        (lambda: logging.root.addHandler(logging.NullHandler()),
         lambda: not any(type(one) is logging.NullHandler for one in logging.root.handlers), "the configuration of"),
        (lambda: logging.setLogRecordFactory(another), lambda: logging.getLogRecordFactory() is not another,
         "the configuration of"),
    ],
)  # fmt: skip
def test_what_a_job_changes_is_put_back_and_told(
    change: Callable[[], object], is_there: Callable[[], bool], told: str, caplog: pytest.LogCaptureFixture
) -> None:
    surroundings = Surroundings()
    change()
    surroundings.put_back("test.job")
    assert is_there()
    assert told in caplog.text and "test.job" in caplog.text
    caplog.clear()
    surroundings.put_back("test.job")
    assert caplog.text == ""


def test_a_directory_that_is_gone_is_left(tmp_path: Path) -> None:
    surroundings = Surroundings()
    (tmp_path / "gone").mkdir()
    os.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    surroundings.put_back("test.job")
    assert Path.cwd() == tmp_path


def test_a_thread_leaves_signal_handlers_alone() -> None:
    surroundings = Surroundings()
    signal.signal(signal.SIGTERM, leave)
    thread = threading.Thread(target=surroundings.put_back, args=("test.job",))
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is leave


def test_a_pending_alarm_is_cancelled_with_its_handler() -> None:
    surroundings = Surroundings()
    signal.signal(signal.SIGALRM, leave)
    signal.setitimer(signal.ITIMER_REAL, 1000)
    surroundings.put_back("test.job")
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
