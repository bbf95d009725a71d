"""Parses the reply to EHLO: the features that a server offers."""

from __future__ import annotations

import re

from pijobs_mail.engine.replies import Reply


def parse_features(reply: Reply, without: frozenset[str] = frozenset()) -> dict[str, str]:
    """The features in a reply to EHLO (RFC 5321 4.1.1.1): keyword to parameters, both in capitals.

    Old servers send a line ``AUTH=…`` in addition to ``AUTH …``, so the lines of one keyword are combined.

    :param without: keywords to leave out.
    """
    found: dict[str, str] = {}
    for line in reply.lines[1:]:
        keyword, *rest = re.split(r"[ =]", line.strip().upper(), maxsplit=1)
        if keyword not in without:
            found[keyword] = " ".join(filter(None, [found.get(keyword), *rest]))
    return found
