"""Fixtures for all tests."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from importlib import metadata
from typing import Any

import hypothesis
import pytest
from mail_servers import exim, postfix
from services import mariadb_url, postgresql_url, redis_url

__all__ = ["exim", "mariadb_url", "postfix", "postgresql_url", "redis_url"]

# How long an example takes on a busy machine says nothing about it.
hypothesis.settings.register_profile("suite", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("suite")

# To read the entry points of all that is installed takes longer than most tests, and does not change while the path is
# that of the environment.
_read, _path = metadata.entry_points, list(sys.path)
_installed = metadata.entry_points()


def _entry_points(**wanted: Any) -> Any:
    if sys.path != _path:
        return _read(**wanted)
    return _installed.select(**wanted) if wanted else _installed


metadata.entry_points = _entry_points


@pytest.fixture(autouse=True)
def _log_goes_on() -> Iterator[None]:
    """A test that turns our log off turns it on again: others look for lines."""
    yield
    known, level = logging.root.manager.loggerDict.items(), logging.root.manager.disable
    off = [one for name, one in known if name.startswith("pijobs") and isinstance(one, logging.Logger) and one.disabled]
    for logger in off:
        logger.disabled = False
    logging.disable(logging.NOTSET)
    assert (off, level) == ([], logging.NOTSET)
