"""What a server offers in its answer to EHLO."""

from __future__ import annotations

import re

from pijobs_mail.engine.replies import Reply


def offers(reply: Reply, without: frozenset[str] = frozenset()) -> dict[str, str]:
    """The features in a server's answer to EHLO: keyword to parameters, both in capitals. Old servers and clients have
    a second line ``AUTH=…`` besides ``AUTH …``; all lines of a keyword are combined."""
    found: dict[str, str] = {}
    for line in reply.lines[1:]:
        keyword, *rest = re.split(r"[ =]", line.strip().upper(), maxsplit=1)
        if keyword not in without:
            found[keyword] = " ".join(filter(None, [found.get(keyword), *rest]))
    return found
