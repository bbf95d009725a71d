"""A pytest plugin for privacyIDEA's own tests (``upstream.py --forced``): each mail that they send goes through our
queue, too.

Beside what privacyIDEA does with it in the request, it is sealed, opened, composed by our engine and sent to a server
of this machine, whatever the box of its SMTP server says. What the request sent and the queue did not is told at the
end, and fails the run.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
from privacyidea.lib.smtpserver import SMTPServer

from pijobs import State
from pijobs.base.redact import describe
from pijobs_mail.sink.server import Sink
from pijobs_privacyidea import HueyQueue, definitions, mail

_sink = Sink()
_wrong: list[str] = []
_sent: list[str] = []
_current = ""


@pytest.hookimpl(tryfirst=True)
def pytest_configure() -> None:
    _sink.start()
    queue = HueyQueue({"url": "memory://", "keys": ["forced"], "immediate": True})
    in_request = SMTPServer.test_email
    plain = definitions.plain

    def to_the_sink(config: Any) -> dict[str, Any]:
        here = {"server": _sink.host, "port": _sink.port, "tls": False, "username": "", "smime": False}
        return {**plain(config), **here}

    def both(config: Any, recipient: Any, subject: str, body: Any, *more: Any, **named: Any) -> Any:
        # Sending in the request writes headers into the body.
        copied = copy.deepcopy(body)
        result = in_request(config, recipient, subject, body, *more, **named)
        # No server takes a mail to nobody; the stand-in of those tests does.
        if result and recipient and recipient != [""]:
            _through(queue, config, recipient, subject, copied, *more, **named)
        return result

    definitions.plain = to_the_sink
    SMTPServer.test_email = staticmethod(both)


def _through(queue: Any, config: Any, recipient: Any, subject: str, body: Any, *more: Any, **named: Any) -> None:
    before = len(_sink.mails)
    try:
        # As one that is not saved: it carries its own definition.
        handle = queue.enqueue(mail.NAME, ({**config, "id": None}, recipient, subject, body, *more), named)
        found = handle.state if handle.state is not State.DONE or len(_sink.mails) > before else "done, and not sent"
    except Exception as error:
        found = describe(error)
    (_sent if found is State.DONE else _wrong).append(f"{_current}: {subject!r} to {recipient!r}: {found}")


def pytest_runtest_setup(item: pytest.Item) -> None:
    global _current
    _current = item.nodeid


def pytest_sessionfinish(session: pytest.Session) -> None:
    _sink.stop()
    if (_wrong or not _sent) and session.exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any) -> None:
    terminalreporter.write_line(f"through the queue: {len(_sent)} mails sent, {len(_wrong)} not")
    for line in _wrong:
        terminalreporter.write_line(f"  {line}")
