"""Process-wide state that is restored after each job: working directory, umask, signal handlers, log configuration.

A job that changes it would change it for all later jobs, and for the worker: SIGHUP restarts the worker with a path
that may be relative, and ``logging.config.dictConfig`` disables the loggers that it does not know.
"""

from __future__ import annotations

import importlib
import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from pijobs.base import threads

_SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGCHLD", "SIGALRM")
    if hasattr(signal, name)
)


#: Without the wrapper, which converts each result to an enum, because this runs after each job.
_handler_of: Callable[[int], Any] = importlib.import_module("_signal").getsignal
#: A logger, and its former handlers, level, propagate and disabled.
_Was = tuple[logging.Logger, list[logging.Handler], int, bool, bool]


class Surroundings:
    """The state when the worker begins."""

    _directory = "/"

    def __init__(self) -> None:
        with suppress(FileNotFoundError):
            self._directory = os.getcwd()
        self._umask = os.umask(0o077)
        os.umask(self._umask)
        self._signals = [(number, _handler_of(number)) for number in _SIGNALS]
        self._least_level, self._make_record = logging.root.manager.disable, logging.getLogRecordFactory()
        watched = (logging.root, logging.getLogger("pijobs.job"), *_ours())
        self._loggers: list[_Was] = [
            (one, list(one.handlers), one.level, one.propagate, one.disabled) for one in watched
        ]

    def put_back(self, job: str) -> None:
        """Undo what a job changed, and log it.

        :param job: the job that has just ended. With several threads, another one may have changed it.
        """
        changed = [*self._put_back_files(), *self._put_back_loggers()]
        if threads.get_ident() == threads.main_thread().ident:  # handlers can't be changed or restored in other threads
            changed += self._put_back_signals()
        if changed:
            logging.getLogger(__name__).warning(
                "a job changed %s (noticed after %s); it is restored, because all jobs of the process share it",
                " and ".join(changed), job,
            )  # fmt: skip

    def _put_back_files(self) -> Iterator[str]:
        try:
            moved = os.getcwd() != self._directory
        except FileNotFoundError:
            moved = True
        if moved:
            os.chdir(self._directory)
            yield "the working directory"
        if os.umask(self._umask) != self._umask:
            yield "the umask"

    def _put_back_signals(self) -> Iterator[str]:
        changed = [(number, handler) for number, handler in self._signals if _handler_of(number) is not handler]
        for number, handler in changed:
            if number == signal.SIGALRM:
                signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if changed:
            yield "signal handlers"

    def _put_back_loggers(self) -> Iterator[str]:
        present = (logging.root.manager.disable, logging.getLogRecordFactory())
        # These two loggers reveal each new configuration. Checking all would take as long as a short job.
        if not any(map(_is_changed, self._loggers[:2])) and present == (self._least_level, self._make_record):
            return
        logging.setLogRecordFactory(self._make_record)
        changed = [was for was in self._loggers if _is_changed(was)]
        logging.disable(self._least_level)  # and forget which loggers were too quiet
        for logger, handlers, level, propagate, disabled in changed:
            logger.handlers[:] = handlers
            logger.propagate, logger.disabled = propagate, disabled
            logger.setLevel(level)
        known = {was[0] for was in self._loggers}
        for logger in _ours():  # those that were created later
            if logger not in known:
                logger.disabled = False
        yield "the configuration of the log"


def _is_changed(was: _Was) -> bool:
    logger, handlers, *others = was
    return logger.handlers != handlers or [logger.level, logger.propagate, logger.disabled] != others


def _ours() -> list[logging.Logger]:
    named = list(logging.root.manager.loggerDict.items())
    return [
        logger for name, logger in named if isinstance(logger, logging.Logger) and name.startswith(("pijobs", "huey"))
    ]
