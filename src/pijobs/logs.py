"""What the worker and the server write to their logs: classic lines or JSON.

A record of ours is redacted where it is made, so that anybody may write it: gunicorn, ``PI_LOGCONFIG``, the handlers of
an application. A traceback is shown without the messages of its exceptions and without source lines: libraries put
addresses, SQL parameters and whole replies there. The redacted message of the last exception is shown in a line of its
own.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import logging.config
import logging.handlers
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Protocol

from pijobs.base import clock, files
from pijobs.base.redact import Known, class_name, describe, message_of, redact, text_of
from pijobs.errors import ConfigurationError
from pijobs.settings import Settings

CLASSIC = "[%(asctime)s] %(levelname)s:%(name)s:%(threadName)s:%(message)s"
CLASSIC_PROCESS = "[%(asctime)s] %(levelname)s:%(name)s:%(process)d:%(message)s"
SIMPLE = "%(asctime)s %(message)s"

#: Files whose frames only lead to a job's function.

#: Frames of a traceback that are written: from its outer end, and from the inner one.
MOST_OUTER, MOST_INNER = 15, 30
ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType | None]


class RedactingFormatter(logging.Formatter):
    """A line as huey's consumer writes it, redacted."""

    def format(self, record: logging.LogRecord) -> str:
        record.message = _shown_message(record)
        record.asctime = self.formatTime(record, self.datefmt)
        line = self.formatMessage(record)
        return "\n".join([line, *_error_lines(record)])


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time (ISO 8601, UTC), level, logger, process, thread, message, error; of lines about an
    instance also id, job, state and attempt, as far as they are known."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": dt.datetime.fromtimestamp(record.created, dt.timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "process": record.process,
            "thread": record.threadName,
            "message": _shown_message(record),
            **getattr(record, "instance", {}),
        }
        lines = list(_error_lines(record))
        return json.dumps({**entry, "error": lines} if lines else entry, ensure_ascii=False)


def _shown_message(record: logging.LogRecord) -> str:
    return record.getMessage() if hasattr(record, _REDACTED) else redact(record.getMessage())


def _error_lines(record: logging.LogRecord) -> Iterator[str]:
    """Where the error came from, from the outermost call to the innermost, and what it was."""
    if record.exc_info and record.exc_info[1] is not None:
        yield from _places(record.exc_info[2])
        yield describe(record.exc_info[1])


def _places(trace: TracebackType | None) -> Iterator[str]:
    frames = [*traceback.walk_tb(trace)]
    for frame, number in frames[:MOST_OUTER]:
        yield _place(frame, number)
    inner = frames[MOST_OUTER:]
    if len(inner) > MOST_INNER:  # a recursion without end
        yield f"  ... {len(inner) - MOST_INNER} more"
    for frame, number in inner[-MOST_INNER:]:
        yield _place(frame, number)


def _place(frame: FrameType, number: int) -> str:
    return f'  File "{frame.f_code.co_filename}", line {number}, in {frame.f_code.co_name}'


_JOBS = logging.getLogger("pijobs.job")


class InstanceLogger(logging.LoggerAdapter):  # type: ignore[type-arg]
    """Puts the instance in front of each line that a job logs, and keeps its arguments out of line and error.

    :param secrets: what must not be shown.
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
        text = redact(_message_of(logging.LogRecord("", level, "", 0, msg, args or None, None)), known)
        kwargs["extra"] = {**(kwargs.get("extra") or {}), "instance": self._instance}
        self.logger.log(level, Shown(f"{self._prefix}: {text}"), **kwargs)


class HasSecrets(Protocol):
    """Knows which texts must not be shown."""

    @property
    def known(self) -> Known: ...


def _message_of(record: logging.LogRecord) -> str:
    """The line; where its arguments do not fit, what it is made of, without them."""
    try:
        return str.__str__(record.getMessage())
    except Exception:
        return text_of(record.msg)


def shown_error(error: BaseException, message: str) -> ExceptionInfo:
    """The same error with another message: what a formatter writes of it is not ours to choose.

    :returns: for the argument ``exc_info`` of a logger.
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


_REDACTED = "pijobs_redacted"


class Shown(str):
    """A line of the log whose parts were redacted where they came from."""

    __slots__ = ()


class _Records:
    """Makes the records of this process, those of ours redacted.

    :param make: made them before.
    """

    def __init__(self, make: Callable[..., logging.LogRecord]) -> None:
        self._make = make
        #: Whether this process is ours, and so are all of its records.
        self.all = False

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record = self._make(*args, **kwargs)
        if (self.all or _is_ours(record.name)) and not hasattr(record, _REDACTED):
            if not isinstance(record.msg, Shown):
                record.msg, record.args = redact(_message_of(record)), ()
            if record.exc_info and record.exc_info[1] is not None:
                kind, error, _ = shown_error(record.exc_info[1], message_of(record.exc_info[1]))
                record.exc_info = kind, error, record.exc_info[2]
                # Formatters write this rather than a traceback of their own, with its source lines.
                record.exc_text = "\n".join(_error_lines(record))
            setattr(record, _REDACTED, True)
        return record


def redact_records(*, all_of_them: bool = False) -> None:
    """Redact each record of our loggers when it is made, whoever writes it.

    :param all_of_them: those of other loggers, too: this process is a worker or a server of ours.
    """
    make = logging.getLogRecordFactory()
    if not isinstance(make, _Records):
        make = _Records(make)
        logging.setLogRecordFactory(make)
    make.all |= all_of_them


def _is_ours(name: Any) -> bool:
    first = str(name).partition(".")[0]
    return first in ("pijobs", "huey") or first.startswith("pijobs_")


#: Seconds between two words on standard error about handlers that fail.
_REMIND_AFTER = 60.0
_reminded = float("-inf")


def guard_loggers() -> None:
    """Let no handler or filter that fails reach our code through a line of the log, or the attempt of a job would end
    by it. May be called again when there are more loggers."""
    for name, logger in list(logging.Logger.manager.loggerDict.items()):
        if _is_ours(name) and isinstance(logger, logging.Logger) and "handle" not in vars(logger):
            logger.handle = partial(_handle, logger)  # type: ignore[method-assign]


def write_where(host: logging.Logger) -> None:
    """Send the lines of our loggers where those of a host's logger go, at its level, unless they are sent somewhere.

    A host that configures its log when our modules are imported already has disabled them
    (:func:`logging.config.dictConfig`), and may have no handler at the root. May be called again.
    """
    for name, logger in list(logging.Logger.manager.loggerDict.items()):
        if _is_ours(name) and isinstance(logger, logging.Logger):
            logger.disabled = False
            top = logging.getLogger(name.partition(".")[0])
            if host.handlers and not top.handlers and top.parent is logging.getLogger():
                top.parent = host


def _handle(logger: logging.Logger, record: logging.LogRecord) -> None:
    try:
        type(logger).handle(logger, record)
    except Exception as error:
        _tell_of_loss(error)


def _tell_of_loss(error: BaseException | None) -> None:
    global _reminded
    now = clock.monotonic()
    if now - _reminded >= _REMIND_AFTER and sys.stderr is not None:
        _reminded = now
        with suppress(Exception):  # it may be closed
            print(f"pijobs: lines of the log get lost, its handler fails ({class_name(error)})", file=sys.stderr)  # noqa: T201


def configure_log(
    settings: Settings, file: Path | None, *, level: int | None = None, simple: bool = False, processes: bool = False
) -> None:
    """Send the log of this process to a file (None: standard error), redacted.

    ``PI_LOGCONFIG``, if it names an existing file, decides alone.

    :raises ConfigurationError: when a file can't be used.
    """
    redact_records(all_of_them=True)
    config = settings.log_config
    if config and Path(config).exists():
        _from_file(Path(config))
        return
    handler = _handler(file)
    if settings.log_format == "json":
        handler.setFormatter(JsonFormatter())
    elif simple:
        handler.setFormatter(RedactingFormatter(SIMPLE, "%H:%M:%S"))
    else:
        handler.setFormatter(RedactingFormatter(CLASSIC_PROCESS if processes else CLASSIC))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    configured = settings.log_level
    root.setLevel(level or (configured.upper() if isinstance(configured, str) else configured))
    # huey's own lines say again what ours say, for each job.
    logging.getLogger("huey").setLevel(logging.DEBUG if root.level <= logging.DEBUG else logging.WARNING)


class _StreamHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """logging's own way to tell of a line that it can't write shows the line's arguments."""

    def handleError(self, record: logging.LogRecord) -> None:
        _tell_of_loss(sys.exc_info()[1])


class _FileHandler(logging.handlers.WatchedFileHandler):
    """Begins the file anew when somebody moved or deleted it. UTF-8, whatever the locale says."""

    def __init__(self, file: Path) -> None:
        super().__init__(file, encoding="utf-8", errors="backslashreplace")

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except Exception:  # its folder may be gone
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        _tell_of_loss(sys.exc_info()[1])


def log_warnings() -> None:
    """Warnings to standard error, redacted, for commands. Does nothing where the log is configured already."""
    handler = _StreamHandler()
    handler.setFormatter(RedactingFormatter("%(levelname)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])


def _handler(file: Path | None) -> logging.Handler:
    if file is None:
        return _StreamHandler()
    try:
        return _FileHandler(file)
    except OSError as error:
        raise ConfigurationError(
            f"expected a log file that can be written, found {file} ({error.strerror}); name another one by -l"
        ) from error


def _from_file(path: Path) -> None:
    """YAML (if PyYAML is there), JSON, or the INI form of :func:`logging.config.fileConfig`."""
    try:
        if path.suffix in (".yml", ".yaml"):
            import yaml

            # Our loggers exist already; without a word about them in the file they must not fall silent.
            logging.config.dictConfig({"disable_existing_loggers": False, **yaml.safe_load(path.read_text())})
        elif path.suffix == ".json":
            logging.config.dictConfig({"disable_existing_loggers": False, **json.loads(path.read_text())})
        else:
            logging.config.fileConfig(path, disable_existing_loggers=False)
    except ImportError as error:
        raise ConfigurationError(f"PI_LOGCONFIG: {path} is YAML; install PyYAML, or write it as JSON or INI") from error
    except Exception as error:  # each format, and each handler that is made from it, has errors of its own
        raise ConfigurationError(
            f"PI_LOGCONFIG: expected a logging configuration, found {path} with a fault ({type(error).__name__})"
        ) from error
