"""``pijobs demo`` and ``pijobs sms demo``: the real commands, with all their processes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

import pytest
from docs.outputs import shape, shown
from services import PROGRAM


def command(*options: str) -> list[str]:
    return [sys.executable, "-m", "pijobs", "demo", *options]


def test_the_demo_shows_a_mail_that_leaves_the_request() -> None:
    done = subprocess.run(command("--once", "--delay", "0.5"), capture_output=True, text=True, timeout=PROGRAM)
    assert done.returncode == 0, done.stderr
    answered = dict(re.findall(r"(queued|inline): request answered after +(\d+) ms", done.stdout))
    # A busy machine takes its time, too, but not that of the mail server.
    assert int(answered["queued"]) < 3000 <= int(answered["inline"])
    assert done.stdout.count("Subject: Test mail of SMTP server") == 2


def test_the_demo_shows_an_sms_that_leaves_the_request() -> None:
    options = [sys.executable, "-m", "pijobs", "sms", "demo", "--once", "--delay", "4"]
    done = subprocess.run(options, capture_output=True, text=True, timeout=PROGRAM)
    assert done.returncode == 0, done.stderr
    took = dict(
        re.findall(r"(queued|inline): request answered after +(\d+) ms, SMS arrived .* to \+49170", done.stdout)
    )
    assert int(took["queued"]) < 4000 <= int(took["inline"])
    # The page leaves out the text.
    said = [shape(line) for line in done.stdout.splitlines()]
    for line in shown("pijobs sms demo --once"):
        assert any(one.startswith(shape(line.removesuffix("…"))) for one in said), line


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.chaos)])
def test_the_demo_takes_its_children_along(number: signal.Signals) -> None:
    demo = subprocess.Popen(
        command("--delay", "0"), stdout=subprocess.PIPE, text=True, start_new_session=True,
        # Whoever runs the tests in the background may have SIGINT ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert demo.stdout is not None
    try:
        url = next(found[0] for line in demo.stdout if (found := re.findall(r"http://\S+:\d+", line)))
        assert url
        demo.send_signal(number)
        demo.stdout.read()
        assert demo.wait(120) == 0
        # Nobody is left in its session, so there is no such process group any more.
        with pytest.raises(ProcessLookupError):
            os.killpg(demo.pid, 0)
    finally:
        demo.stdout.close()
        if demo.poll() is None:
            os.killpg(demo.pid, signal.SIGKILL)
            demo.wait()
