"""The connections of one process, kept between posts."""

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
#: Bytes of an answer that are read, so that its connection can be used again; nobody reads what it says.
_MOST = 64 * 1024
#: Seconds that an idle connection is kept; servers close theirs after 60 and more.
_IDLE = 30.0


@dataclass(frozen=True)
class Reply:
    """:ivar retry_after: as the header stands."""

    status: int
    retry_after: str | None


class Connections:
    """Posts by kept connections. Certificates are verified, redirects are not followed."""

    def __init__(self) -> None:
        self._lock = threads.Lock()
        self._pid = 0
        self._client: httpx.Client | None = None

    @classmethod
    def of(cls, settings: Settings) -> Connections:
        """Those of an installation."""
        return settings.resource(cls, cls)

    def post(self, url: str, body: bytes, headers: Mapping[str, str], patience: float) -> Reply:
        """:param patience: seconds until the status of the answer must be here.
        :raises httpx.HTTPError: when there is no answer.
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
                pass  # what counts is the status
        return reply

    def close(self) -> None:
        """When the process ends."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None and self._pid == os.getpid():
            client.close()

    def _present(self) -> httpx.Client:
        import httpx  # it takes long to import, and only workers post

        with self._lock:
            if self._client is None or self._pid != os.getpid():  # the parent's connections are the parent's
                limits = httpx.Limits(max_keepalive_connections=20, keepalive_expiry=_IDLE)
                self._client = httpx.Client(verify=ssl.create_default_context(), limits=limits, trust_env=False)
                self._pid = os.getpid()
            return self._client
