"""A pytest plugin for a short run: slow tests first, tests that share a fixture together, and a bill at the end.

``tests/durations.json`` has the seconds of the slow tests, so that none of them comes last, while all other processes
have nothing left to do. ``PIJOBS_RECORD_DURATIONS=1 make pytest`` on a quiet machine writes it anew.
``PIJOBS_TEST_ORDER=reversed`` shows whether a test needs another one before it.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Generator
from functools import cached_property
from pathlib import Path
from typing import Any

import preloaded
import pytest
from shared import RUN

FILE = Path(__file__).with_name("durations.json")
#: Seconds from which on a test is in the file.
SLOW = 1.0
#: Seconds that are assumed of a test that is not in the file, by its folder.
GUESSES = {"chaos": 5.0, "acceptance": 2.0, "integration": 0.5}
#: Seconds that a test may take, unless it is marked as slow.
LIMIT = 10.0
#: Lines of the bill.
SHOWN = 15

_PROCESSOR = pytest.StashKey[float]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the slow ones first. Tests of a module that share a fixture are one unit."""
    known: dict[str, float] = json.loads(FILE.read_text()) if FILE.exists() else {}
    units = {item.nodeid: _unit(item) for item in items}
    seconds: dict[str, float] = defaultdict(float)
    for name, unit in units.items():
        seconds[unit] += known.get(name, GUESSES.get(name.split("/")[1], 0.0) if "/" in name else 0.0)
    items.sort(key=lambda item: -seconds[units[item.nodeid]])
    if os.environ.get("PIJOBS_TEST_ORDER") == "reversed":
        items.reverse()
    if worker := os.environ.get("PYTEST_XDIST_WORKER"):
        # All collect the same, and the process that hands out the units does not collect.
        written = _units_file().with_suffix(f".{worker}")
        written.write_text(json.dumps(units))
        written.replace(_units_file())


def _unit(item: pytest.Item) -> str:
    fixtures = item._fixtureinfo.name2fixturedefs if isinstance(item, pytest.Function) else {}
    shares = any(known[-1].scope in ("module", "class") for known in fixtures.values())
    return item.nodeid.partition("::")[0] if shares else item.nodeid


def _units_file() -> Path:
    return Path(os.environ[RUN], "units.json")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Hand out unit by unit: a process makes what the tests of a unit share, and none waits for another at the end."""
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

    class Units(LoadScopeScheduling):  # type: ignore[misc]
        @cached_property
        def _units(self) -> dict[str, str]:
            return dict(json.loads(_units_file().read_text()))

        def _split_scope(self, nodeid: str) -> str:
            return self._units[nodeid]

    config.option.loadscopereorder = False
    return Units(config, log)


# -- The bill --------------------------------------------------------------------------------------------------------


def _processor() -> float:
    """Processor seconds of this process, of its children that ended, and of programs that it had started elsewhere."""
    return sum(os.times()[:4]) + preloaded.used


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, bool, bool]:
    """Begin to count."""
    item.stash[_PROCESSOR] = _processor()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Write down what was used since the last report."""
    report = yield
    now = _processor()
    report.processor = now - item.stash[_PROCESSOR]  # type: ignore[attr-defined]
    report.slow = item.get_closest_marker("slow") is not None  # type: ignore[attr-defined]
    item.stash[_PROCESSOR] = now
    return report


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What each file cost, and which tests take too long."""
    tests: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    marked = set()
    for reports in list(terminalreporter.stats.values()):
        for report in reports:
            if isinstance(report, pytest.TestReport) and hasattr(report, "processor"):
                name = report.nodeid
                tests[name][0] += report.duration
                tests[name][1] += report.processor
                if report.slow:
                    marked.add(name)
    if os.environ.get("PIJOBS_RECORD_DURATIONS") == "1":
        _record({name: wall for name, (wall, _) in tests.items()})
    if len(tests) > SHOWN:
        _show(terminalreporter, tests, marked)


def _show(terminal: pytest.TerminalReporter, tests: dict[str, list[float]], marked: set[str]) -> None:
    files: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for name, used in tests.items():
        file = files[name.partition("::")[0]]
        for index, value in enumerate((*used, 1)):
            file[index] += value
    wall, processor = (sum(used[index] for used in tests.values()) for index in (0, 1))
    terminal.section(f"cost: {wall:.0f} s of tests, {processor:.0f} s of processors, the most by")
    for path, (seconds, busy, count) in sorted(files.items(), key=lambda item: -item[1][0])[:SHOWN]:
        terminal.line(f"{seconds:6.0f} s {busy:6.0f} s {count:4.0f} tests  {path}")
    late = {name: used for name, used in tests.items() if used[0] > LIMIT and name not in marked}
    for name, (seconds, busy) in sorted(late.items(), key=lambda item: -item[1][0]):
        terminal.line(f"over {LIMIT:g} s, and not marked as slow: {name} ({seconds:.0f} s, {busy:.1f} s of processors)")


def _record(tests: dict[str, float]) -> None:
    known: dict[str, float] = json.loads(FILE.read_text()) if FILE.exists() else {}
    known = {name: seconds for name, seconds in known.items() if name not in tests}
    known |= {name: round(seconds, 1) for name, seconds in tests.items() if seconds >= SLOW}
    lines = [f"{json.dumps(name)}: {seconds}" for name, seconds in sorted(known.items())]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
