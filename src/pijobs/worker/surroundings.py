"""What belongs to the whole process, and is put back after each job: working directory, umask, signal handlers, log.

A job that changes one of these would change it for all jobs after it, and for the worker: SIGHUP starts the worker
again by a path that may be relative, and ``logging.config.dictConfig`` switches off the loggers that it does not know.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

_SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGCHLD", "SIGALRM")
    if hasattr(signal, name)
)


@dataclass(frozen=True, slots=True)
class _Logger:
    handlers: tuple[logging.Handler, ...]
    level: int
    propagate: bool
    disabled: bool

    @classmethod
    def of(cls, logger: logging.Logger) -> _Logger:
        return cls(tuple(logger.handlers), logger.level, logger.propagate, logger.disabled)


class Surroundings:
    """As they are when the worker begins."""

    _directory = "/"

    def __init__(self) -> None:
        with suppress(FileNotFoundError):
            self._directory = os.getcwd()
        self._umask = os.umask(0o077)
        os.umask(self._umask)
        self._signals = {number: signal.getsignal(number) for number in _SIGNALS}
        self._least_level = logging.root.manager.disable
        self._loggers = {logger: _Logger.of(logger) for logger in (logging.root, *_ours())}

    def put_back(self, job: str) -> None:
        """Undo what a job changed, and tell so.

        :param job: which one has just ended; with several threads it may have been another.
        """
        changed = [*self._put_back_files(), *self._put_back_signals(), *self._put_back_loggers()]
        if changed:
            logging.getLogger(__name__).warning(
                "%s changed by a job (noticed after %s) and put back: they belong to all jobs of the process",
                " and ".join(changed), job,
            )  # fmt: skip

    def _put_back_files(self) -> Iterator[str]:
        try:
            moved = os.getcwd() != self._directory
        except FileNotFoundError:
            moved = True
        if moved:
            os.chdir(self._directory)
            yield "the working directory was"
        if os.umask(self._umask) != self._umask:
            yield "the umask was"

    def _put_back_signals(self) -> Iterator[str]:
        if threading.current_thread() is not threading.main_thread():
            return  # nobody can change or put back a handler there
        changed = [number for number, handler in self._signals.items() if signal.getsignal(number) is not handler]
        for number in changed:
            if number == signal.SIGALRM:
                signal.setitimer(signal.ITIMER_REAL, 0)
            handler: Any = self._signals[number]
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if changed:
            yield "signal handlers were"

    def _put_back_loggers(self) -> Iterator[str]:
        changed = [logger for logger, was in self._loggers.items() if _Logger.of(logger) != was]
        if not changed and logging.root.manager.disable == self._least_level:
            return
        logging.root.manager.disable = self._least_level
        for logger in changed:
            was = self._loggers[logger]
            logger.handlers[:] = was.handlers
            logger.propagate, logger.disabled = was.propagate, was.disabled
            logger.setLevel(was.level)
        for logger in _ours():  # those that came later
            if logger not in self._loggers:
                logger.disabled = False
        yield "the configuration of the log was"


def _ours() -> list[logging.Logger]:
    named = list(logging.root.manager.loggerDict.items())
    return [
        logger for name, logger in named if isinstance(logger, logging.Logger) and name.startswith(("pijobs", "huey"))
    ]
