"""Replaces all SMTP servers while ``pijobs dev`` runs: shows the mails, and sends none."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

from werkzeug.serving import BaseWSGIServer

from pijobs_mail.servers.definitions import SINK
from pijobs_mail.sink import page
from pijobs_mail.sink.behaviour import Received
from pijobs_mail.sink.server import Sink

#: Most mails that are kept, and most characters of a mail on the terminal.
MOST_MAILS, MOST_SHOWN = 200, 2000


class StandIn:
    """A sink that shows its mails.

    :param tell: prints a line on the terminal.
    """

    def __init__(self, tell: Callable[[str], object]) -> None:
        self._tell = tell
        self._sink = _Telling(self._got)
        self._numbers = itertools.count(1)
        self._mails: deque[tuple[int, Received]] = deque(maxlen=MOST_MAILS)
        self._lock = threading.Lock()
        self._server: BaseWSGIServer | None = None

    def __enter__(self) -> Mapping[str, Any]:
        self._sink.start()
        self._server = page.serve(self.mails)
        self._tell(f"mail: no mail leaves this machine; they are shown here, and on {self._url}")
        return {SINK.name: f"{self._sink.host}:{self._sink.port}"}

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
        self._sink.stop()

    @property
    def _url(self) -> str:
        assert self._server is not None
        return f"http://{page.HOST}:{self._server.server_port}/"

    def mails(self) -> Sequence[tuple[int, Received]]:
        """The last mails with their numbers, the oldest first."""
        with self._lock:
            return [*self._mails]

    def _got(self, mail: Received) -> None:
        number = next(self._numbers)
        with self._lock:
            self._mails.append((number, mail))
        text = page.body_of(mail, "plain") or page.body_of(mail, "html") or "(no text)"
        head = f"mail: {mail.sender} to {', '.join(mail.recipients)}: {mail.message['subject'] or '(no subject)'}"
        lines = [head, *(f"    {line}" for line in text[:MOST_SHOWN].splitlines()), f"    {self._url}{number}"]
        self._tell("\n".join(map(_printable, lines)))


class _Telling(Sink):
    def __init__(self, got: Callable[[Received], None]) -> None:
        super().__init__()
        self._got = got

    def keep(self, received: Received) -> None:
        """Pass the mail on; the receiver keeps it."""
        self._got(received)


def _printable(line: str) -> str:
    """The line without control characters, which could move the cursor."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in line)
