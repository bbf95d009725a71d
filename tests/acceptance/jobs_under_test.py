"""Jobs whose effects can be counted. Loaded as a dotted-module plugin by server and worker."""

from __future__ import annotations

import logging.config
import multiprocessing
import os
import signal
import sys
import threading
import time

import flask

from pijobs import Job, JobContext, RetryPolicy, hookimpl


def effect(kind: str, text: str) -> None:
    """One line, whole or not at all: a write with O_APPEND of less than a page."""
    file = os.open(os.environ["PIJOBS_EFFECTS"], os.O_WRONLY | os.O_APPEND)
    try:
        os.write(file, f"{kind} {text}\n".encode())
    finally:
        os.close(file)


def count(ctx: JobContext, number: int) -> None:
    effect("count", str(number))


def hold(ctx: JobContext, name: str, seconds: float) -> None:
    """Say when it begins, take its time, say when it ends."""
    effect("begin", f"{name} {ctx.attempt}")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.01)
    effect("end", f"{name} {ctx.attempt}")


def flaky(ctx: JobContext, failures: int) -> None:
    if ctx.attempt <= failures:
        raise RuntimeError(f"attempt {ctx.attempt} fails for somebody@example.com")
    effect("flaky", str(ctx.attempt))


def poison(ctx: JobContext) -> None:
    effect("poison", str(os.getpid()))
    os._exit(9)


def litter(ctx: JobContext) -> None:
    """Change and leave behind what belongs to the process."""
    os.chdir("/")
    os.umask(0)
    logging.config.dictConfig({"version": 1})
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    threading.Thread(target=time.sleep, args=(3600,)).start()
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(3600,))
    child.start()
    effect("litter", str(child.pid))


def fork(ctx: JobContext, how: str) -> None:
    """Fork a child that comes out of the job."""
    if os.fork() == 0:
        if how == "exits":
            sys.exit(0)
        return
    effect("fork", how)
    os.wait()


def interrupt(ctx: JobContext) -> None:
    effect("interrupt", str(ctx.attempt))
    raise KeyboardInterrupt


def context() -> None:
    effect("context", flask.current_app.name)


def late(ctx: JobContext, seconds: float) -> None:
    time.sleep(seconds)
    ctx.check()
    effect("late", "happened")


@hookimpl
def register_jobs(settings: object) -> list[Job]:
    return [
        Job("test.count", count),
        Job("test.hold", hold),
        Job("test.stuck", hold, timeout=1),
        Job("test.flaky", flaky, retry=RetryPolicy(max_attempts=3, delay=0.05)),
        Job("test.poison", poison),
        Job("test.fork", fork),
        Job("test.litter", litter),
        Job("test.interrupt", interrupt, retry=RetryPolicy(max_attempts=2, delay=0.05)),
        Job("test.context", context),
        Job("test.late", late),
    ]
