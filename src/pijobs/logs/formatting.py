"""Formats log lines: classic or JSON."""

from __future__ import annotations

import datetime as dt
import json
import logging
import traceback
from collections.abc import Iterator
from types import FrameType, TracebackType

from pijobs.base.redact import describe, redact

CLASSIC = "[%(asctime)s] %(levelname)s:%(name)s:%(threadName)s:%(message)s"
CLASSIC_PROCESS = "[%(asctime)s] %(levelname)s:%(name)s:%(process)d:%(message)s"
SIMPLE = "%(asctime)s %(message)s"

#: Most frames of a traceback that are written: the outermost, and the innermost.
MOST_OUTER, MOST_INNER = 15, 30


class RedactingFormatter(logging.Formatter):
    """Formats a line as huey's consumer does, redacted."""

    def format(self, record: logging.LogRecord) -> str:
        record.message = shown_message(record)
        record.asctime = self.formatTime(record, self.datefmt)
        line = self.formatMessage(record)
        return "\n".join([line, *error_lines(record)])


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time (ISO 8601, UTC), level, logger, process, thread, message, error. Lines about an
    instance also have id, job, state and attempt, if known."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": dt.datetime.fromtimestamp(record.created, dt.timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "process": record.process,
            "thread": record.threadName,
            "message": shown_message(record),
            **getattr(record, "instance", {}),
        }
        lines = list(error_lines(record))
        return json.dumps({**entry, "error": lines} if lines else entry, ensure_ascii=False)


def shown_message(record: logging.LogRecord) -> str:
    return record.getMessage() if hasattr(record, REDACTED) else redact(record.getMessage())


def error_lines(record: logging.LogRecord) -> Iterator[str]:
    """The frames of the error, from the outermost to the innermost, and its description."""
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


REDACTED = "pijobs_redacted"
