"""``pijobs drill mail``: mails like those with one-time passwords, to the drill's own SMTP server."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from pijobs import Handle
from pijobs.observe.drill import Destination, Exercise
from pijobs.request.queue import Queue
from pijobs_mail.send import send_mail
from pijobs_mail.servers.definitions import open_store
from pijobs_mail.sink.server import Sink


class _Server(Destination):
    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.values = {"server": sink.host, "port": sink.port, "sender": "drill@pijobs.invalid"}

    def wait_for(self, number: int, seconds: float) -> None:
        self._sink.wait_for(number, seconds)

    def arrived(self) -> Mapping[str, float]:
        return {mail.recipients[0]: mail.at for mail in reversed(self._sink.mails)}


@contextmanager
def _listen(host: str) -> Iterator[Destination]:
    with Sink(host=host) as sink:
        yield _Server(sink)


def _send(queue: Queue, server: str, number: int, expires: float) -> tuple[str, Handle]:
    to, text = f"drill-{number}@pijobs.invalid", f"It is {secrets.randbelow(10**6):06}."
    return to, send_mail(server, to=to, subject="Your one-time password", text=text, expires=expires, queue=queue)


EXERCISE = Exercise("mail", "mails", open_store, "smtp:{}", _listen, _send)
