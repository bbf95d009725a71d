"""Creates the storage and the spool of the settings."""

from __future__ import annotations

import os
from dataclasses import replace

from pijobs.base import files
from pijobs.base.clock import to_ms
from pijobs.settings import Settings
from pijobs.storage import open_file, open_storage
from pijobs.storage.contract import Storage
from pijobs.storage.values import Retention


def retention_of(settings: Settings) -> Retention:
    """How many ended instances are kept, and for how long."""
    finished, finished_max = settings.keep_finished
    return Retention(to_ms(finished), finished_max, to_ms(settings.keep_dead))


def storages(settings: Settings) -> tuple[Storage, Storage | None]:
    """The storage, and the spool if there is one."""
    retention = retention_of(settings)
    name = settings.name
    if settings.immediate:
        return open_storage("memory://", name, retention), None
    spool = settings.spool
    storage = open_storage(settings.storage_url, name, retention, settings.enqueue_durability)
    kept = open_file(str(spool), name, replace(retention)) if spool else None
    return _if_there(storage), None if kept is None else _if_there(kept)


def _if_there(storage: Storage) -> Storage:
    """For commands that only read: an empty storage instead of an SQLite file that does not exist yet."""
    if not files.is_looking() or storage.file is None or os.path.exists(storage.file):
        return storage
    if not os.access(os.path.dirname(storage.file), os.W_OK | os.X_OK):
        return storage  # which reports what is wrong with its folder
    empty = open_storage("memory://", "not there", Retention())
    empty.display_url = f"{storage.display_url} (not there yet)"
    return empty
