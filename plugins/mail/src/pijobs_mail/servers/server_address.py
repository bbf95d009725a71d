"""How the address of an SMTP server is read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import SplitResult, urlsplit

from pijobs_mail.compose.addresses import ascii_host

_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9])?\.?|[0-9a-fA-F:]*:[0-9a-fA-F:.]+(%\w+)?")

_NO_SERVER = re.compile(r"[\s\0-\x1f\x7f]")

PORTS = {"smtp": 25, "smtps": 465}


@lru_cache(maxsize=64)
def parse_server(server: str) -> tuple[str, str, int | None]:
    """Scheme (``smtp`` or ``smtps``), host, and the port if it is there: ``host``, ``host:587``, ``smtps://host``.

    A login or a path is passed over, as privacyIDEA does.

    :raises ValueError: for anything else; why is its message.
    """
    try:
        parts = parts_of(server)
        scheme, host, port = parts.scheme or "smtp", (parts.hostname or "").rstrip("."), parts.port
        if scheme not in PORTS or not host:
            raise ValueError
        return scheme, host if ":" in host and _HOST.fullmatch(host) else ascii_host(host), port
    except ValueError:
        raise ValueError(
            "expected a host name, an address, host:port, or a URL smtp://host or smtps://host, found something else"
        ) from None


def parts_of(server: str) -> SplitResult:
    if _NO_SERVER.search(server := server.strip()):
        raise ValueError  # the library would leave them out
    if "//" in server:
        return urlsplit(server)
    return urlsplit(f"//[{server}]" if _HOST.fullmatch(server) and server.count(":") > 1 else f"//{server}")


def with_port(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with the port that belongs to the server, unless there is one."""
    completed = dict(values)
    if completed.get("port") in (None, ""):
        completed.pop("port", None)
        scheme, separator, _ = str(completed.get("server", "")).partition("://")
        if separator and scheme in PORTS:
            completed["port"] = PORTS[scheme]
    return completed
