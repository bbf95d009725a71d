"""Names of the last release go on for one release, and warn."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import pijobs.definitions
import pijobs.errors
from pijobs import JobContext

MOVED = [
    ("pijobs.queue", "Queue", "pijobs.request.queue"),
    ("pijobs.network", "tls_context", "pijobs.base.network"),
    ("pijobs.redact", "mask_number", "pijobs.base.redact"),
    ("pijobs.status", "overview", "pijobs.observe.status"),
    ("pijobs.families", "FAMILIES", "pijobs.metrics.definitions"),
    ("pijobs_mail.message", "Letter", "pijobs_mail.compose.message"),
]


@pytest.mark.parametrize(("old", "name", "new"), MOVED)
def test_a_module_that_moved_is_the_same_module_and_tells_where_it_is(old: str, name: str, new: str) -> None:
    sys.modules.pop(old, None)
    with pytest.warns(DeprecationWarning, match=f"{old} is deprecated and goes with 0.3.0; write {new}") as warned:
        module = importlib.import_module(old)
    assert module is importlib.import_module(new) and hasattr(module, name)
    assert module.__name__ == new and len(warned) == 1


@pytest.mark.parametrize(
    ("package", "name"),
    [
        ("pijobs.metrics", "Metrics"),
        ("pijobs.plugins", "call_hook"),
        ("pijobs_mail.servers", "open_store"),
        ("pijobs_mail.sink", "Sink"),
        ("pijobs.logs", "JsonFormatter"),
        ("pijobs.logs", "RedactingFormatter"),
        ("pijobs.logs", "configure_log"),
    ],
)
def test_a_package_that_bears_the_name_of_a_module_has_what_that_had(package: str, name: str) -> None:
    with pytest.warns(DeprecationWarning, match=rf"{package}.{name} is deprecated .* write {package}\.\w+\.{name}"):
        assert getattr(importlib.import_module(package), name)


def test_what_left_a_module_is_found_there() -> None:
    with pytest.warns(DeprecationWarning, match=r"pijobs\.jobs\.JobContext is .* write pijobs\.context\.JobC"):
        assert importlib.import_module("pijobs.jobs").JobContext is JobContext


def test_an_error_that_was_renamed_is_the_same_class() -> None:
    with pytest.warns(DeprecationWarning, match=r"errors\.HeldBack is deprecated .* write pijobs\.errors\.AttemptDef"):
        assert pijobs.errors.HeldBack is pijobs.errors.AttemptDeferred


def test_what_never_was_is_not_found() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"pijobs\.never"):
        importlib.import_module("pijobs.never")
    with pytest.raises(ImportError, match="never"):
        exec("from pijobs.plugins import never")
    with pytest.raises(ImportError, match="never"):
        exec("from pijobs.jobs import never")


def test_a_warning_is_told_where_the_old_name_stands() -> None:
    program = "import pijobs\nfrom pijobs import clock\n"
    done = subprocess.run([sys.executable, "-W", "always", "-c", program], capture_output=True, text=True)
    assert "<string>:2: DeprecationWarning: pijobs.clock is deprecated" in done.stderr and done.returncode == 0


def test_a_class_that_has_another_name_tells_it() -> None:
    with pytest.warns(DeprecationWarning, match=r"write pijobs\.definitions\.Failover"):
        assert pijobs.definitions.Standby is pijobs.definitions.Failover
