"""The disk under an SQLite queue is full: enqueue says no, nothing that is stored gets lost, and work goes on."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from acceptance.site import Site
from contract.workers import Worker, new_instance
from services import wait_until

from pijobs.errors import QueueUnavailable, StorageUnavailable
from pijobs.jobs import State
from pijobs.storage.sql import SqlStorage
from pijobs.storage.values import End

from .conftest import MakeSite
from .jobs_under_chaos import NAME

#: A body that fills a small disk quickly; it is part of the arguments (characters).
BALLAST = 100_000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "disk", "8m") as place:
        yield place


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """Smaller than SQLite lets its log grow before it copies it back."""
    with mounted(tmp_path / "disk", "2m") as place:
        yield place


@contextmanager
def mounted(place: Path, size: str) -> Iterator[Path]:
    """A file system in memory; only root may mount one."""
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "pijobs-chaos", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs root, and the right to mount a file system")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(site: Site) -> list[str]:
    """Enqueue until the queue says no; returns what it took."""
    taken: list[str] = []
    with pytest.raises(QueueUnavailable) as caught:
        while len(taken) < 1_000:
            taken.append(site.queue.enqueue(NAME, (0.0, 0, "x" * BALLAST)).id)
    assert "full" in str(caught.value.__cause__)
    return taken


def test_a_full_disk_refuses_and_keeps(make_site: MakeSite, small_disk: Path) -> None:
    site = make_site(f"sqlite:///{small_disk}/queue.sqlite")
    taken = fill(site)
    assert len(taken) > 10
    assert all(site.record(id).state is State.QUEUED for id in taken)


def test_work_goes_on_when_there_is_room_again(make_site: MakeSite, small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(4_500_000))
    site = make_site(f"sqlite:///{small_disk}/queue.sqlite")
    taken = fill(site)
    ballast.unlink()
    site.start_worker("-w", "2")
    assert all(site.wait_for(id).state is State.DONE for id in taken)
    assert len(site.effects_of("run")) == len(taken)
    more = site.queue.enqueue(NAME, (0.0, 0))
    assert site.wait_for(more.id).state is State.DONE


def test_what_filled_the_disk_is_done_without_any_further_room(make_site: MakeSite, small_disk: Path) -> None:
    site = make_site(f"sqlite:///{small_disk}/queue.sqlite")
    taken = fill(site)
    site.start_worker("-w", "2")
    assert all(site.wait_for(id).state is State.DONE for id in taken)
    assert site.wait_for(site.queue.enqueue(NAME, (0.0, 0)).id).state is State.DONE


def test_instances_that_fill_a_disk_are_leased_one_by_one(small_disk: Path) -> None:
    storage = SqlStorage(f"sqlite:///{small_disk}/queue.sqlite", "full")
    worker = Worker(storage, lambda ms: None)
    taken = 0
    with pytest.raises(StorageUnavailable, match="full"):
        while taken < 1_000:
            storage.enqueue(new_instance(body=os.urandom(BALLAST)), timeout=5)
            taken += 1
    done = 0
    while leases := worker.step(want=32).leases:  # all of them would write their bodies once more
        assert worker.step(*(End(lease.id, lease.token, State.DONE) for lease in leases)).lost == []
        done += len(leases)
    assert done == taken
    storage.close()


def test_what_waits_is_done_on_a_disk_that_others_filled(make_site: MakeSite, small_disk: Path) -> None:
    site = make_site(f"sqlite:///{small_disk}/queue.sqlite")
    waiting = [site.queue.enqueue(NAME, (0.0, 0)).id for _ in range(200)]
    fill_up(small_disk / "ballast")
    site.start_worker("-w", "2")
    assert all(site.wait_for(id).state is State.DONE for id in waiting)


def test_a_worker_on_a_full_disk_loses_nothing_and_does_nothing_twice(make_site: MakeSite, tiny_disk: Path) -> None:
    site = make_site(f"sqlite:///{tiny_disk}/queue.sqlite")
    waiting = [site.queue.enqueue(NAME, (0.05, 0)).id for _ in range(40)]
    site.start_worker("-w", "2")
    wait_until(lambda: bool(site.effects_of("run")), what="the first effect")
    ballast = tiny_disk / "ballast"
    fill_up(ballast)
    assert all(site.wait_for(id).state is State.DONE for id in waiting)
    records = {id: site.record(id) for id in waiting}
    effects = [line.split()[0] for line in site.effects_of("run")]
    assert all(1 <= effects.count(id) <= 1 + record.crashes for id, record in records.items())


def fill_up(file: Path) -> None:
    """Take all the room there is left."""
    with file.open("wb", buffering=0) as sink:
        try:
            while sink.write(bytes(4096)):
                pass
        except OSError:
            return
