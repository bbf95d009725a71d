"""The room on the disk of an SQLite file: enqueues stop while there is some for the workers."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from types import SimpleNamespace

import pytest

from pijobs.errors import StorageUnavailable
from pijobs.jobs import State
from pijobs.storage.sql import SqlStorage
from pijobs.storage.sql.room import RESERVE, Room, give_way, log_limit

MIB = 1024 * 1024


class Disk:
    """What the operating system tells of a disk (MiB)."""

    def __init__(self) -> None:
        self.size, self.free = 100_000.0, 50_000.0

    def statvfs(self, path: object) -> SimpleNamespace:
        return SimpleNamespace(
            f_frsize=4096, f_blocks=int(self.size * MIB) // 4096, f_bavail=int(self.free * MIB) // 4096
        )


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr(os, "statvfs", disk.statvfs)
    return disk


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "queue.sqlite"
    path.touch()
    return path


def room(path: Path, spare: int = 0) -> Room:
    return Room(str(path), lambda: (spare, True))


def refused(room: Room, size: int) -> bool:
    try:
        room.require(size, 5)
    except StorageUnavailable:
        return True
    return False


def test_an_enqueue_leaves_the_workers_their_room(disk: Disk, path: Path) -> None:
    disk.free = RESERVE / MIB + 3
    assert not refused(room(path), MIB)
    assert refused(room(path), 2 * MIB)  # once in the log, and once in the file
    disk.free = RESERVE / MIB - 1
    assert refused(room(path), 0)


def test_copying_the_log_back_takes_room_too(disk: Disk, path: Path) -> None:
    disk.free = RESERVE / MIB + 3
    Path(f"{path}-wal").write_bytes(bytes(2 * MIB))
    assert refused(room(path), MIB)


def test_of_a_small_disk_an_eighth_is_kept(disk: Disk, path: Path) -> None:
    disk.size = 16
    disk.free = 2.2
    assert not refused(room(path), 1000)
    disk.free = 1.9
    assert refused(room(path), 0)


def test_room_inside_the_file_is_used(disk: Disk, path: Path) -> None:
    disk.free = RESERVE / MIB - 1
    one = room(path, spare=20_000)
    assert not refused(one, 6000)
    assert refused(one, 6000)  # some of it has gone


def test_who_reads_from_the_log_is_waited_for(disk: Disk, path: Path) -> None:
    disk.free = RESERVE / MIB + 3
    log = Path(f"{path}-wal")
    log.write_bytes(bytes(2 * MIB))
    tries = iter([False, False, True])

    def tidy() -> tuple[int, bool]:
        if copied := next(tries):
            log.unlink()
        return 0, copied

    Room(str(path), tidy).require(MIB, 5)
    assert not log.exists()
    log.write_bytes(bytes(2 * MIB))
    with pytest.raises(StorageUnavailable, match="is full"):
        Room(str(path), lambda: (0, False)).require(MIB, 0)


def test_a_reader_keeps_the_log_only_for_as_long_as_it_reads(tmp_path: Path) -> None:
    from contract.workers import new_instance

    storage = SqlStorage(f"sqlite:///{tmp_path}/queue.sqlite", "room")
    storage.enqueue(new_instance(), timeout=5)
    live = storage._live
    reader = sqlite3.connect(tmp_path / "queue.sqlite", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM pijobs_instance").fetchall()
    storage.enqueue(new_instance(), timeout=5)
    assert live._tidy()[1] is False
    reader.execute("COMMIT")
    assert live._tidy()[1] is True
    reader.close()
    storage.close()


def test_a_file_keeps_room_when_it_gets_short_and_gives_way(disk: Disk, path: Path) -> None:
    disk.size = 16
    kept = Path(f"{path}-reserve")
    room(path).watch()
    assert not kept.exists()
    disk.free = 10
    room(path).watch()
    assert kept.stat().st_size == 2 * MIB and kept.stat().st_mode & 0o777 == 0o600
    give_way(str(path))
    assert not kept.exists()
    disk.free = 3  # what it gave is not taken back at once
    room(path).watch()
    assert not kept.exists()


def test_the_log_of_a_small_disk_is_copied_back_sooner(disk: Disk, path: Path) -> None:
    assert log_limit(str(path), 1000) == 1000
    disk.size = 20
    assert log_limit(str(path), 1000) == 80


def test_a_storage_refuses_before_the_disk_is_full_and_workers_go_on(disk: Disk, tmp_path: Path) -> None:
    from contract.workers import Worker, new_instance

    storage = SqlStorage(f"sqlite:///{tmp_path}/queue.sqlite", "room")
    worker = Worker(storage, lambda ms: None)
    stored = storage.enqueue(new_instance(), timeout=5)
    disk.free = RESERVE / MIB - 1
    with pytest.raises(StorageUnavailable, match="is full"):
        storage.enqueue(new_instance(body=bytes(MIB)), timeout=5)
    with pytest.raises(StorageUnavailable, match="is full"):
        storage.enqueue_periodic(new_instance(body=bytes(MIB)), due=1)
    with pytest.raises(StorageUnavailable, match="is full"):
        storage.try_out()
    [lease] = worker.step(want=1).leases
    assert lease.id == stored.id
    assert worker.end(lease, State.DONE).lost == []
    worker.beat()
    storage.close()
