"""Enqueues numbers as one release: ``enqueue_numbers.py PI_CFG FIRST LAST``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pijobs.factory import build
from pijobs.settings import read_config


def main(config: Path, first: int, last: int) -> None:
    queue = build(read_config(config), directory=config.parent, file=config).queue
    for n in range(first, last):
        choices: list[dict[str, Any]] = [{"delay": 0.2}, {"key": f"key {n}"}, {"priority": 5}, {}]
        options = choices[n % 4]
        handle = queue.enqueue("releases.write", kwargs={"n": n, "again": n % 3 == 0}, **options)
        assert handle.via == "storage", handle
        if n % 4 == 1:  # supersedes the one before
            queue.enqueue("releases.write", kwargs={"n": n, "again": False}, delay=60, key=f"late {n}")
            queue.enqueue("releases.write", kwargs={"n": n + 10_000}, key=f"late {n}")
    assert queue.storage is not None
    queue.storage.close()


main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
