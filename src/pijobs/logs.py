"""What the worker and the server write to their logs: classic lines or JSON, both redacted.

A traceback is shown without the messages of its exceptions and without source lines: libraries put addresses, SQL
parameters and whole replies there. The redacted message of the last exception is shown in a line of its own.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import logging.config
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from pijobs.errors import ConfigurationError
from pijobs.redact import describe, redact
from pijobs.settings import PREFIX, Settings

CLASSIC = "[%(asctime)s] %(levelname)s:%(name)s:%(threadName)s:%(message)s"
CLASSIC_PROCESS = "[%(asctime)s] %(levelname)s:%(name)s:%(process)d:%(message)s"
SIMPLE = "%(asctime)s %(message)s"


class RedactingFormatter(logging.Formatter):
    """A line as huey's consumer writes it, redacted."""

    def format(self, record: logging.LogRecord) -> str:
        record.message = redact(record.getMessage())
        record.asctime = self.formatTime(record, self.datefmt)
        line = self.formatMessage(record)
        return "\n".join([line, *_error_lines(record)])


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time (ISO 8601, UTC), level, logger, process, thread, message, error."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": dt.datetime.fromtimestamp(record.created, dt.timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "process": record.process,
            "thread": record.threadName,
            "message": redact(record.getMessage()),
        }
        lines = list(_error_lines(record))
        return json.dumps({**entry, "error": lines} if lines else entry, ensure_ascii=False)


def _error_lines(record: logging.LogRecord) -> Iterator[str]:
    """Where the error came from, from the outermost call to the innermost, and what it was."""
    if record.exc_info and record.exc_info[1] is not None:
        yield from _places(record.exc_info[2])
        yield describe(record.exc_info[1])


def _places(trace: TracebackType | None) -> Iterator[str]:
    for frame in traceback.extract_tb(trace):
        yield f'  File "{frame.filename}", line {frame.lineno}, in {frame.name}'


def configure_log(
    settings: Settings, file: Path | None, *, level: int | None = None, simple: bool = False, processes: bool = False
) -> None:
    """Send the log of this process to a file (None: standard error).

    ``PI_LOGCONFIG``, if it names an existing file, decides alone.

    :raises ConfigurationError: when a file can't be used.
    """
    config = settings["PI_LOGCONFIG"]
    if config and Path(config).exists():
        _from_file(Path(config))
        return
    handler = _handler(file)
    if settings[PREFIX + "LOG_FORMAT"] == "json":
        handler.setFormatter(JsonFormatter())
    elif simple:
        handler.setFormatter(RedactingFormatter(SIMPLE, "%H:%M:%S"))
    else:
        handler.setFormatter(RedactingFormatter(CLASSIC_PROCESS if processes else CLASSIC))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    configured = settings["PI_LOGLEVEL"]
    root.setLevel(level or (configured.upper() if isinstance(configured, str) else configured))
    # huey's own lines say again what ours say, for each job.
    logging.getLogger("huey").setLevel(logging.DEBUG if root.level <= logging.DEBUG else logging.WARNING)


def _handler(file: Path | None) -> logging.Handler:
    if file is None:
        return logging.StreamHandler()
    try:
        return logging.FileHandler(file, delay=False)
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
