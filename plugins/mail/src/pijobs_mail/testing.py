"""A fixture for tests that send mail; pytest loads it by an entry point if pijobs-mail is installed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pijobs_mail.sink.server import Sink


@pytest.fixture
def smtp_sink() -> Iterator[Sink]:
    """An SMTP server on this machine: ``smtp_sink.host``, ``.port``, ``.mails``, ``.wait_for(1, timeout=30)``.

    ``smtp_sink.fail_at("RCPT", "451 4.7.1 try later")`` makes it faulty; see :class:`pijobs_mail.sink.server.Sink`.
    """
    from pijobs_mail.sink.server import Sink

    with Sink() as sink:
        yield sink
