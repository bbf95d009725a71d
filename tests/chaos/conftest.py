"""Installations on storages of their own, which keep what they acknowledge, and the books at the end of a run.

``PIJOBS_CHAOS_REPORT=FILE`` adds a line per run to the table in ``FILE`` (Markdown).
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from acceptance.site import Site

from .storages import SERVERS, Server

MakeSite = Callable[..., Site]
GetServer = Callable[[str], Server]

LONG = [pytest.mark.chaos, pytest.mark.timeout(1500)]


def runs(
    kinds: Sequence[str], short: Mapping[str, object], long: Mapping[str, object], only_long: Collection[str] = ()
) -> pytest.MarkDecorator:
    """A run for each kind of storage, in a short form, and in a long one for ``make chaos``.

    :param only_long: kinds whose short form would tell little that those of the others don't.
    """
    names = ("kind", *short)
    cases = [pytest.param(kind, *short.values(), id=f"{kind}-short") for kind in kinds if kind not in only_long]
    cases += [pytest.param(kind, *long.values(), id=f"{kind}-long", marks=LONG) for kind in kinds]
    return pytest.mark.parametrize(names, cases)


@pytest.fixture(scope="session")
def get_server() -> Iterator[GetServer]:
    """A server by its kind; started for the first test that wants it."""
    servers: dict[str, Server] = {}
    with ExitStack() as stack:

        def get(kind: str) -> Server:
            if kind not in servers:
                servers[kind] = stack.enter_context(SERVERS[kind]())
            return servers[kind]

        yield get


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[MakeSite]:
    """Make an installation on a storage; nothing runs in a server, and all records are kept."""
    made: list[Site] = []

    def make(url: str, folder: Path = tmp_path, **settings: Any) -> Site:
        values = {
            "URL": url,
            "NAME": f"chaos-{uuid.uuid4().hex}",
            "PLUGINS": ("chaos.jobs_under_chaos",),
            "FALLBACK": (),
            "ENQUEUE_TIMEOUT": 0.25,
            "KEEP_FINISHED": (24 * 3600, 1_000_000),
            **settings,
        }
        site = Site(folder, {f"PI_JOB_QUEUE_{name}": value for name, value in values.items()})
        places = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        site.environment["PYTHONPATH"] = os.pathsep.join(filter(None, places))
        made.append(site)
        # Makes the tables, which may take longer than an enqueue has.
        site.storage.depths()
        return site

    yield make
    for site in made:
        site.close()


@pytest.fixture
def storage_url(tmp_path: Path, get_server: GetServer) -> Callable[[str], str]:
    """The URL of a queue in a storage of a kind."""

    def url(kind: str) -> str:
        return f"sqlite:///{tmp_path}/queue.sqlite" if kind == "sqlite" else get_server(kind).url

    return url


@pytest.fixture
def stopwatch() -> Callable[[], float]:
    """Seconds since the test began."""
    began = time.monotonic()
    return lambda: time.monotonic() - began
