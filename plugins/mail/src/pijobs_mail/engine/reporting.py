"""Reports what went wrong, and what a server replied: errors with their texts, and spans."""

from __future__ import annotations

from typing import Any

from pijobs_mail.engine.replies import Reply
from pijobs_mail.engine.verdicts import retry_after
from pijobs_mail.errors import ServerTrouble


def error_with_reply(kind: type[ServerTrouble], message: str, reply: Reply, *, supposed: bool = False) -> ServerTrouble:
    """An error whose text ends with the server's reply, and which carries the reply and its waiting time."""
    return kind(f"{message}: {reply}", reply=reply, retry_after=retry_after(reply), supposed=supposed)


def trace_reply(span: Any, reply: Reply) -> None:
    """Add the code of a reply to a span, unless tracing is off (None)."""
    if span is not None:
        span.set_attribute("smtp.reply_code", reply.code)


def reason_of(error: Exception) -> str:
    """The reason of an error of a socket, of TLS or of the protocol, without its number and class."""
    if isinstance(error, TimeoutError):
        return "timed out"
    return str(getattr(error, "reason", None) or getattr(error, "strerror", None) or error)
