"""Errors of a server in words."""

from __future__ import annotations

from typing import Any

from pijobs_mail.engine.replies import Reply
from pijobs_mail.engine.verdicts import retry_after
from pijobs_mail.errors import ServerTrouble


def trouble(kind: type[ServerTrouble], message: str, reply: Reply, *, supposed: bool = False) -> ServerTrouble:
    return kind(f"{message}: {reply}", reply=reply, retry_after=retry_after(reply), supposed=supposed)


def tell_reply(span: Any, reply: Reply) -> None:
    """Add the code of a reply to a trace. :param span: the span, or None."""
    if span is not None:
        span.set_attribute("smtp.reply_code", reply.code)


def why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "timed out"
    return str(getattr(error, "reason", None) or getattr(error, "strerror", None) or error)
