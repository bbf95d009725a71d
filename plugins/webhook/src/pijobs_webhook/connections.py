"""Posts over connections that the process keeps open."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pijobs import Settings
from pijobs.base import clock, threads

if TYPE_CHECKING:
    import httpx

#: Seconds for each step: connection, request, answer.
STEP = 10.0
#: Most bytes of an answer that are read to keep the connection; the content is ignored.
_MOST = 64 * 1024
#: Seconds to keep an idle connection; servers close theirs after 60 or more.
_IDLE = 30.0


@dataclass(frozen=True)
class Reply:
    """The answer of an endpoint. :ivar retry_after: text of the header."""

    status: int
    retry_after: str | None


class Connections:
    """The connections of one process. Certificates are verified, redirects are not followed."""

    def __init__(self) -> None:
        self._lock = threads.Lock()
        self._pid = 0
        self._client: httpx.Client | None = None

    @classmethod
    def of(cls, settings: Settings) -> Connections:
        """The connections of an installation."""
        return settings.resource(cls, cls)

    def post(self, url: str, body: bytes, headers: Mapping[str, str], patience: float) -> Reply:
        """Post a body. :param patience: seconds until the status of the answer must have arrived.
        :raises httpx.HTTPError: if there is no answer.
        """
        import httpx

        step = max(0.1, min(STEP, patience))
        until = clock.monotonic() + patience
        with self._present().stream("POST", url, content=body, headers=dict(headers), timeout=step) as answer:
            reply = Reply(answer.status_code, answer.headers.get("Retry-After"))
            size = 0
            try:
                for part in answer.iter_raw():
                    size += len(part)
                    if size > _MOST or clock.monotonic() > until:
                        break  # the connection is closed
            except httpx.HTTPError:
                pass  # only the status matters
        return reply

    def close(self) -> None:
        """Close the connections at the end of the process."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None and self._pid == os.getpid():
            client.close()

    def _present(self) -> httpx.Client:
        import httpx  # slow to import, and only workers post

        with self._lock:
            if self._client is None or self._pid != os.getpid():  # never use a parent's connections
                limits = httpx.Limits(max_keepalive_connections=20, keepalive_expiry=_IDLE)
                self._client = httpx.Client(verify=ssl.create_default_context(), limits=limits, trust_env=False)
                self._pid = os.getpid()
            return self._client
