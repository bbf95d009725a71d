"""What is known of another process of this host."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from services import PROGRAM

from pijobs.base import processes


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def started(pid: int) -> int:
    time = processes.start_time(pid)
    assert time is not None
    return time


def test_a_live_process_is_not_dead(child: subprocess.Popen[bytes]) -> None:
    assert not processes.is_surely_dead(child.pid, started(child.pid))
    assert not processes.is_surely_dead(os.getpid(), started(os.getpid()))


def test_a_killed_process_is_dead_before_and_after_its_parent_looked(child: subprocess.Popen[bytes]) -> None:
    before = started(child.pid)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # a zombie from now on
    assert processes.is_surely_dead(child.pid, before)
    child.wait()
    assert processes.is_surely_dead(child.pid, before)


def test_a_stopped_process_is_not_dead(child: subprocess.Popen[bytes]) -> None:
    child.send_signal(signal.SIGSTOP)
    assert not processes.is_surely_dead(child.pid, started(child.pid))


def test_a_process_id_that_was_used_again_is_another_process(child: subprocess.Popen[bytes]) -> None:
    assert processes.is_surely_dead(child.pid, started(child.pid) - 1)


def test_nothing_is_concluded_where_proc_is_hidden(
    child: subprocess.Popen[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_PROC", tmp_path)
    assert processes.place() == "" and processes.start_time(os.getpid()) is None
    assert not processes.is_surely_dead(child.pid, 1)


def test_nothing_is_concluded_where_the_boot_id_is_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert processes.place() == processes.place() != ""
    monkeypatch.setattr(processes, "_BOOT_ID", tmp_path / "boot_id")
    assert processes.place() == ""


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize(
    ("error", "code"), [(None, 0), (SystemExit(), 0), (SystemExit(3), 3), (SystemExit("no"), 1), (ValueError("no"), 1)]
)
def test_a_child_does_not_go_on_as_a_copy(error: BaseException | None, code: int) -> None:
    pid = os.getpid()
    child = 0
    try:
        with processes.no_copies():
            child = os.fork()
            if child == 0 and error is not None:
                raise error
    finally:
        if os.getpid() != pid:
            os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == code


@pytest.mark.parametrize(
    "call", ["os.fork()", "multiprocessing.get_context('fork').Process(target=gevent.sleep, args=(0.3,)).start()"]
)
def test_a_child_takes_no_other_greenlet_with_it(call: str) -> None:
    """The child of one job would go on with the jobs beside it."""
    program = f"""
from gevent import monkey; monkey.patch_all()
import gevent, multiprocessing, os, time
from pijobs.base.processes import no_copies

def fork():
    with no_copies():
        pid = os.getpid()
        {call}
        if os.getpid() != pid:
            time.sleep(0.3)
            os.write(1, b"child ")

def beside():
    with no_copies():
        time.sleep(0.1)
        os.write(1, b"beside ")

gevent.joinall([gevent.spawn(one) for one in (beside, fork)])
os.write(1, b"parent ")
time.sleep(0.4)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PROGRAM)
    assert sorted(done.stdout.split()) == ["beside", *(["child"] if "fork()" in call else []), "parent"], done


@pytest.mark.parametrize("daemon", [False, True])
def test_a_pool_that_a_job_left_keeps_the_process_for_a_moment_only(daemon: bool) -> None:
    """The threads of a worker are daemons, and so is what they start."""
    program = f"""
import sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from pijobs.base.processes import exit_in_spite_of_leftovers
job = threading.Thread(target=lambda: ThreadPoolExecutor(1).submit(time.sleep, 60), daemon={daemon})
job.start()
job.join()
exit_in_spite_of_leftovers(grace=0.1)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PROGRAM)
    assert done.returncode == 0 and "ThreadPoolExecutor" in done.stderr


def test_what_goes_wrong_without_a_fork_is_raised() -> None:
    with pytest.raises(ValueError, match="no"), processes.no_copies():
        raise ValueError("no")
