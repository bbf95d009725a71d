"""Installations on each storage that works between processes."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .site import Site

MakeSite = Callable[..., Site]


@pytest.fixture(params=["sqlite", "redis"])
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
