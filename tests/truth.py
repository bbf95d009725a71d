"""A pytest plugin: a run tells the truth about what it did not test.

With ``PIJOBS_REQUIRE_SERVICES=1`` a skip fails, but for the reasons below. A test that starts a program outside the
table of :mod:`programs` fails.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path
from types import FrameType

import programs
import pytest

#: All reasons for which a test may be skipped where all services are required, and why no machine can do better.
ALLOWED_SKIPS = {
    "root reads everything": "CI is root; another test tells what everybody else gets",
    "memory belongs to one process": "the memory storage has no other processes",
    "Python 3.10 can't lower the limits of SQLite": "the other Pythons can",
    "from Python 3.13 on such a certificate is trusted by itself": "there is nothing to refuse",
    "the linters are in an environment with pijobs[lint]": "make test has them; the runs on other Pythons do without",
    "privacyIDEA signs mails from 3.13 on": "an older release of privacyIDEA",
    "before 3.14 a push token takes privacyIDEA's Firebase class only": "an older release of privacyIDEA",
    "before 3.14 privacyIDEA gives clients no names": "an older release of privacyIDEA",
    "the image of earlier releases has another layout": "an older release of privacyIDEA",
    "statistics need SQLAlchemy 2, so privacyIDEA 3.13": "an older release of privacyIDEA",
    "this privacyIDEA has no SQLAlchemy for a queue in a database": "an older release of privacyIDEA",
}
#: Programs below these folders are made by tests, or belong to a virtual environment.
OWN_PLACES = tuple(
    os.path.realpath(place) + os.sep for place in (Path(__file__).parents[1], tempfile.gettempdir(), sys.prefix)
)
PYTHON = os.path.realpath(sys.executable)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A skip for another reason is a failure."""
    report = yield
    _judge(report, xfail=hasattr(report, "wasxfail"))
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a module that is skipped whole."""
    report = yield
    _judge(report, xfail=False)
    return report


def _judge(report: pytest.TestReport | pytest.CollectReport, *, xfail: bool) -> None:
    if xfail or not report.skipped or os.environ.get("PIJOBS_REQUIRE_SERVICES") != "1":
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if reason.removeprefix("Skipped: ") not in ALLOWED_SKIPS:
        report.outcome = "failed"
        report.longrepr = f"{reason}\nPIJOBS_REQUIRE_SERVICES=1 allows no skip but those in {__name__}.ALLOWED_SKIPS"


def _guard(event: str, arguments: tuple[object, ...]) -> None:
    if event != "subprocess.Popen":
        return
    program = os.fsdecode(arguments[0])  # type: ignore[arg-type]
    path = Path(program)
    if programs.row(path.name) is not None or os.path.realpath(program) == PYTHON:
        return
    if path.is_absolute() and program.startswith(OWN_PLACES):
        return
    if _asked_by_platform():
        return
    pytest.fail(f"{program} is not in the table of programs; add a row to tests/programs.py")


def _asked_by_platform() -> bool:
    """The module of the standard library asks "file" and others about the machine, and does without them."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_globals.get("__name__") == "platform":
            return True
        frame = frame.f_back
    return False


sys.addaudithook(_guard)
