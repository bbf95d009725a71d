"""Names that the documentation of the last release has: they go on for one release, and warn."""

from __future__ import annotations

import importlib
import sys

import pytest

import pijobs.definitions


@pytest.mark.parametrize(
    ("module", "name"), [("pijobs.queue", "Queue"), ("pijobs.network", "tls_context"), ("pijobs.redact", "mask_number")]
)
def test_a_module_that_moved_tells_where_to(module: str, name: str) -> None:
    sys.modules.pop(module, None)
    with pytest.warns(DeprecationWarning, match="is deprecated; write: from pijobs"):
        old = importlib.import_module(module)
    assert getattr(old, name)


def test_a_class_that_has_another_name_tells_it() -> None:
    with pytest.warns(DeprecationWarning, match="write: Failover"):
        assert pijobs.definitions.Standby is pijobs.definitions.Failover
