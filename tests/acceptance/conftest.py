"""Installations on each storage that works between processes."""

from __future__ import annotations

import uuid
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .site import Site

MakeSite = Callable[..., Site]
#: These tests are about plugins and processes, to which all storages are alike; that they are is told by
#: tests/contract, and by the other tests of this folder. Each runs on one storage here, and on the other one by
#: ``make chaos``, unless it is marked with ``each_storage``.
ALIKE = {
    "test_alerts", "test_drill", "test_isolation", "test_mail", "test_mail_limits", "test_metrics",
    "test_plugin_distribution", "test_sms", "test_sms_alone", "test_statistics", "test_systemd", "test_typed_pages",
    "test_worker",
}  # fmt: skip
STORAGES = ("sqlite", "redis")


@pytest.hookimpl(tryfirst=True)
def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark what ``make chaos`` runs."""
    callspec = getattr(item, "callspec", None)
    if (
        callspec
        and "storage_url" in callspec.params
        and item.path.stem in ALIKE
        and not item.get_closest_marker("each_storage")
    ):
        here = STORAGES[zlib.crc32(item.originalname.encode()) % len(STORAGES)]  # type: ignore[attr-defined]
        if callspec.params["storage_url"] != here:
            item.add_marker(pytest.mark.chaos)


@pytest.fixture(params=STORAGES)
def storage_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where the queue is kept."""
    if request.param != "sqlite":
        return str(request.getfixturevalue(f"{request.param}_url"))
    return f"sqlite:///{tmp_path}/queue.sqlite"


@pytest.fixture
def make_site(tmp_path: Path, storage_url: str) -> Iterator[MakeSite]:
    """Make the installation, with more settings."""
    made: list[Site] = []

    def make(**settings: Any) -> Site:
        names = {f"PI_JOB_QUEUE_{name}": value for name, value in settings.items()}
        queue = f"acceptance-{uuid.uuid4().hex}"
        made.append(Site(tmp_path, {"PI_JOB_QUEUE_URL": storage_url, "PI_JOB_QUEUE_NAME": queue, **names}))
        return made[-1]

    yield make
    for site in made:
        site.close()


@pytest.fixture
def site(make_site: MakeSite) -> Site:
    """An installation without further settings."""
    return make_site()
