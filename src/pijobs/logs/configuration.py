"""Configures where a process writes its log, and in which format."""

from __future__ import annotations

import json
import logging
import logging.config
import logging.handlers
import sys
from pathlib import Path

from pijobs.errors import ConfigurationError
from pijobs.logs.formatting import CLASSIC, CLASSIC_PROCESS, SIMPLE, JsonFormatter, RedactingFormatter
from pijobs.logs.records import redact_records, tell_of_loss
from pijobs.settings import Settings


def configure_log(
    settings: Settings, file: Path | None, *, level: int | None = None, simple: bool = False, processes: bool = False
) -> None:
    """Send the log of this process to a file (None: standard error), redacted.

    ``PI_LOGCONFIG``, if it names an existing file, replaces all other settings of the log.

    :raises ConfigurationError: if a file can't be used.
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
    # huey's own lines repeat ours for each job.
    logging.getLogger("huey").setLevel(logging.DEBUG if root.level <= logging.DEBUG else logging.WARNING)


class _StreamHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Reports lines that can't be written without their arguments, which logging would show."""

    def handleError(self, record: logging.LogRecord) -> None:
        tell_of_loss(sys.exc_info()[1])


class _FileHandler(logging.handlers.WatchedFileHandler):
    """Reopens the file after it was moved or deleted. Writes UTF-8, whatever the locale."""

    def __init__(self, file: Path) -> None:
        super().__init__(file, encoding="utf-8", errors="backslashreplace")

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except Exception:  # such as a deleted folder
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        tell_of_loss(sys.exc_info()[1])


def log_warnings() -> None:
    """Log warnings to standard error, redacted, for commands. Does nothing if the log is configured already."""
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
    """Load YAML (needs PyYAML), JSON, or the INI form of :func:`logging.config.fileConfig`."""
    try:
        if path.suffix in (".yml", ".yaml"):
            import yaml

            # Our loggers exist already, and must not be disabled if the file does not name them.
            logging.config.dictConfig({"disable_existing_loggers": False, **yaml.safe_load(path.read_text())})
        elif path.suffix == ".json":
            logging.config.dictConfig({"disable_existing_loggers": False, **json.loads(path.read_text())})
        else:
            logging.config.fileConfig(path, disable_existing_loggers=False)
    except ImportError as error:
        raise ConfigurationError(f"PI_LOGCONFIG: {path} is YAML; install PyYAML, or write it as JSON or INI") from error
    except Exception as error:  # each format and each handler has errors of its own
        raise ConfigurationError(
            f"PI_LOGCONFIG: expected a logging configuration, found {path} with a fault ({type(error).__name__})"
        ) from error
