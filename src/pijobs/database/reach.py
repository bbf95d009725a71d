"""Which hosts a database URL leads to without TLS."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from sqlalchemy.engine import URL, make_url

#: With these libpq speaks TLS or not at all; its default, ``prefer``, lets whoever is in between take it away.
_POSTGRESQL = ("require", "verify-ca", "verify-full")
#: What makes PyMySQL speak TLS.
_MYSQL = ("ssl", "ssl_ca", "ssl_capath", "ssl_cert", "ssl_cipher", "ssl_verify_cert", "ssl_verify_identity")


def without_tls(text: str) -> tuple[str, str, list[str]]:
    """Name of the product, what to add to its URL, and the hosts that it reaches over a network without TLS.

    :param text: a URL; of one that can't be read somebody else tells.
    """
    try:
        url = make_url(text)
        postgresql = url.get_backend_name() == "postgresql"
    except Exception:
        return "", "", []
    if url.get_backend_name() == "sqlite" or _has_tls(url.query, postgresql):
        return "", "", []
    if postgresql:
        return "PostgreSQL", "sslmode=verify-full", _hosts(url)
    return "MariaDB", "ssl_ca=/path/of/authorities.pem", _hosts(url)


def _has_tls(query: Mapping[str, Any], postgresql: bool) -> bool:
    if postgresql:
        return (query.get("sslmode") or os.environ.get("PGSSLMODE")) in _POSTGRESQL
    on = [name for name in _MYSQL if str(query.get(name, "")).lower() not in ("", "0", "false")]
    return bool(on) and str(query.get("ssl_disabled", "")).lower() not in ("1", "true")


def _hosts(url: URL) -> list[str]:
    if "unix_socket" in url.query:
        return []
    given = url.query.get("host", ()) if url.host is None else url.host
    hosts = [host for one in ([given] if isinstance(given, str) else given) for host in one.split(",")]
    # Of psycopg "host:port", or a folder of sockets.
    return [host.rpartition(":")[0] if host.count(":") == 1 else host for host in hosts if host and host[0] not in "/@"]
