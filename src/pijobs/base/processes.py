"""Which process this is, and whether another one on this host is certainly dead.

A process id alone is not enough: ids are used again, and each container has its own. So a process is identified by its
place (this boot of this host, and the name spaces of its process ids and its time), its id and its start time. If a
hardened service hides one of these, no process is considered dead.
"""

from __future__ import annotations

import hashlib
import logging
import multiprocessing
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from pijobs.base import clock, threads

_PROC = Path("/proc")
_BOOT_ID = _PROC / "sys/kernel/random/boot_id"


def place() -> str:
    """Identifies this boot and these name spaces; "" if they can't be read."""
    try:
        parts = [socket.gethostname(), _BOOT_ID.read_text().strip(), os.readlink(_PROC / "self/ns/pid")]
    except OSError:
        return ""
    with suppress(OSError):  # before Linux 5.6 there is one time for all
        parts.append(os.readlink(_PROC / "self/ns/time"))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def name_of_this() -> str:
    """This process, for people: ``"jobs1 pid 1712"``."""
    return f"{socket.gethostname()} pid {os.getpid()}"


def start_time(pid: int) -> int | None:
    """In clock ticks since boot (proc(5), field 22 of ``stat``); None if it can't be read."""
    fields = _stat(pid)
    return int(fields[19]) if fields else None


def is_surely_dead(pid: int, started: int) -> bool:
    """Whether the process of this place has ended; also False if that is unknown.

    :param started: its :func:`start_time`.
    """
    try:
        os.kill(pid, 0)  # sends nothing; also finds processes that /proc hides
    except ProcessLookupError:
        return True
    except OSError:
        return False
    fields = _stat(pid)
    if not fields:
        return False
    # A zombie runs nothing, unless some of its threads outlived the first.
    return int(fields[19]) != started or (fields[0] in "ZX" and int(fields[17]) <= 1)


def _stat(pid: int) -> list[str]:
    """The fields from the third on; those before may contain blanks and parentheses."""
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


#: The process id of each running body of :func:`no_copies`.
_bodies: list[int] = []


@contextmanager
def no_copies() -> Iterator[None]:
    """A child that the body forks ends when it leaves the body. Otherwise it would continue as a copy of this process.
    Other greenlets do not continue in it either."""
    pid = os.getpid()
    _bodies.append(pid)
    try:
        yield
    except BaseException as error:
        if os.getpid() != pid:
            _end_child(error)
        raise
    finally:
        _bodies.remove(pid)
    if os.getpid() != pid:
        _end_child(None)


def _leave_greenlets_behind() -> None:
    gevent_hub = sys.modules.get("gevent.hub")
    if gevent_hub is not None and _bodies:
        # A child has no other threads. The other greenlets wait for the hub of the parent, to which nobody switches any
        # more; it is not destroyed, because that would end the main greenlet.
        gevent_hub.set_hub(gevent_hub.Hub(default=False))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_greenlets_behind)


def exit_in_spite_of_leftovers(code: int = 0, *, grace: float = 3.0) -> None:
    """Called before the interpreter ends. The interpreter waits for all threads and children that jobs left; this
    limits the wait to ``grace`` seconds, and then ends the process."""
    own = (threads.main_thread(), threads.current_thread())
    # The interpreter waits for a pool's threads although they are daemons, as all are that a worker's thread started.
    pooled = getattr(sys.modules.get("concurrent.futures.thread"), "_threads_queues", ())
    waited_for = [one for one in threads.running() if (not one.daemon or one in pooled) and one not in own]
    left = [*(one.name for one in waited_for), *(child.name for child in multiprocessing.active_children())]
    if not left:
        return

    def end() -> None:
        clock.sleep(grace)
        text = "the process ends, but threads or children of jobs do not end: %s"
        logging.getLogger(__name__).warning(text, ", ".join(left[:10]))
        logging.shutdown()
        os._exit(code)

    threads.Thread(target=end, name="pijobs-exit", daemon=True).start()


def end(*children: subprocess.Popen[bytes], patience: float = 10.0) -> None:
    """End programs that this process started.

    :param patience: seconds that each has to end.
    """
    for child in children:
        child.terminate()
    for child in children:
        try:
            child.wait(patience)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _end_child(error: BaseException | None) -> NoReturn:
    """End the process as the interpreter would, but without the functions that the parent registered."""
    code = 0
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        code = 1
    with suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code & 0xFF)
