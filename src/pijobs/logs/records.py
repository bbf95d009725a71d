"""Redacts log records when they are made, and guards our code against failing handlers."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Protocol

from pijobs.base import clock, files
from pijobs.base.known_texts import Known
from pijobs.base.redact import class_name, message_of, redact, text_of
from pijobs.logs.formatting import REDACTED, error_lines

ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType | None]

_JOBS = logging.getLogger("pijobs.job")


class InstanceLogger(logging.LoggerAdapter):  # type: ignore[type-arg]
    """Prefixes each line of a job with its instance, and removes the job's arguments from line and error.

    :param secrets: the texts to remove.
    """

    def __init__(self, name: str, instance_id: str, attempt: int, secrets: HasSecrets) -> None:
        super().__init__(_JOBS, {})
        self._instance = {"id": instance_id, "job": name, "attempt": attempt}
        self._prefix = f"{instance_id} attempt {attempt}"
        self._secrets = secrets

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        if not self.isEnabledFor(level):
            return
        known = self._secrets.known
        if error := _error_of(kwargs.pop("exc_info", None)):
            kwargs["exc_info"] = shown_error(error, message_of(error, known))
        text = redact(line_of(logging.LogRecord("", level, "", 0, msg, args or None, None)), known)
        kwargs["extra"] = {**(kwargs.get("extra") or {}), "instance": self._instance}
        self.logger.log(level, Shown(f"{self._prefix}: {text}"), **kwargs)


class HasSecrets(Protocol):
    """Has the texts that must not be shown."""

    @property
    def known(self) -> Known: ...


def line_of(record: logging.LogRecord) -> str:
    """The message with its arguments; without them if they do not fit."""
    try:
        return str.__str__(record.getMessage())
    except Exception:
        return text_of(record.msg)


def shown_error(error: BaseException, message: str) -> ExceptionInfo:
    """A copy of the error with another message, so that any formatter shows only that message.

    :returns: the argument ``exc_info`` of a logger.
    """
    shown = type(class_name(error), (Exception,), {"__module__": type(error).__module__})(*filter(None, [message]))
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None and trace.tb_frame.f_code.co_filename.startswith(files.OURS):
        trace = trace.tb_next
    return type(shown), shown, trace


def _error_of(exc_info: Any) -> BaseException | None:
    if isinstance(exc_info, BaseException):
        return exc_info
    if isinstance(exc_info, tuple):
        return exc_info[1] if len(exc_info) == 3 else None
    return sys.exc_info()[1] if exc_info else None


class Shown(str):
    """A log message whose parts are redacted already."""

    __slots__ = ()


class _Records:
    """The record factory of this process; redacts the records of our loggers.

    :param make: the former record factory.
    """

    def __init__(self, make: Callable[..., logging.LogRecord]) -> None:
        self._make = make
        #: Whether to redact the records of all loggers, since this process is a worker or server.
        self.all = False

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record = self._make(*args, **kwargs)
        if (self.all or is_ours(record.name)) and not hasattr(record, REDACTED):
            if not isinstance(record.msg, Shown):
                record.msg, record.args = redact(line_of(record)), ()
            if record.exc_info and record.exc_info[1] is not None:
                kind, error, _ = shown_error(record.exc_info[1], message_of(record.exc_info[1]))
                record.exc_info = kind, error, record.exc_info[2]
                # Formatters write this text instead of a traceback with source lines.
                record.exc_text = "\n".join(error_lines(record))
            setattr(record, REDACTED, True)
        return record


def redact_records(*, all_of_them: bool = False) -> None:
    """Redact each record of our loggers when it is made.

    :param all_of_them: redact those of other loggers, too, since this process is a worker or server.
    """
    make = logging.getLogRecordFactory()
    if not isinstance(make, _Records):
        make = _Records(make)
        logging.setLogRecordFactory(make)
    make.all |= all_of_them


def is_ours(name: Any) -> bool:
    first = str(name).partition(".")[0]
    return first in ("pijobs", "huey") or first.startswith("pijobs_")


#: Seconds between two reports of failing handlers on standard error.
_REMIND_AFTER = 60.0

_reminded = float("-inf")


def guard_loggers() -> None:
    """Catch errors of handlers and filters of our loggers: they would end the attempt of a job. Call it again after new
    loggers were made."""
    for name, logger in list(logging.Logger.manager.loggerDict.items()):
        if is_ours(name) and isinstance(logger, logging.Logger) and "handle" not in vars(logger):
            logger.handle = partial(_handle, logger)  # type: ignore[method-assign]


def write_where(host: logging.Logger) -> None:
    """Send our loggers' lines to the handlers of a host's logger, at its level, unless ours have handlers.

    A host that configures its log after importing our modules has disabled our loggers
    (:func:`logging.config.dictConfig`), and may have no root handler. May be called again.
    """
    for name, logger in list(logging.Logger.manager.loggerDict.items()):
        if is_ours(name) and isinstance(logger, logging.Logger):
            logger.disabled = False
            top = logging.getLogger(name.partition(".")[0])
            if host.handlers and not top.handlers and top.parent is logging.getLogger():
                top.parent = host


def _handle(logger: logging.Logger, record: logging.LogRecord) -> None:
    try:
        type(logger).handle(logger, record)
    except Exception as error:
        tell_of_loss(error)


def tell_of_loss(error: BaseException | None) -> None:
    global _reminded
    now = clock.monotonic()
    if now - _reminded >= _REMIND_AFTER and sys.stderr is not None:
        _reminded = now
        with suppress(Exception):  # stderr may be closed
            print(f"pijobs: log lines are lost: the handler fails ({class_name(error)})", file=sys.stderr)  # noqa: T201
