"""A server that does nothing but enqueue, as a process that can be killed.

``python -m chaos.enqueuer PI_CFG BOOK SEED PAUSE WORK``, the last two in seconds.

It notes in the book, before each call, that it asks, and after it what it was told. Times are those of the host's
clock, whatever this process takes for the time:

* ``ask``
* ``ack ID EXPIRES DELAY BEFORE AFTER`` (seconds; ``-`` for an option that was not given)
* ``no BEFORE AFTER REASON``: the queue was not available.
"""

from __future__ import annotations

import os
import random
import sys
import time
from pathlib import Path
from typing import Any

from pijobs.errors import QueueUnavailable
from pijobs.factory import build
from pijobs.settings import read_config

from .jobs_under_chaos import NAME

#: A deadline that no run lives to see (seconds), but much nearer than clocks may differ.
LONG = 200.0


def options(chance: random.Random) -> dict[str, Any]:
    """Most calls have no options; of the others some expire, some wait, some replace each other."""
    kind = chance.random()
    if kind < 0.05:
        return {"expires": LONG}
    if kind < 0.1:
        return {"expires": chance.uniform(0.5, 5.0)}
    if kind < 0.2:
        return {"delay": chance.uniform(0.1, 2.0)}
    if kind < 0.25:
        return {"delay": chance.uniform(0.1, 2.0), "expires": chance.uniform(1.0, 4.0)}
    if kind < 0.3:
        return {"key": str(chance.randrange(3)), "delay": 0.2}
    return {"priority": chance.choice([0, 0, 10])}


def main(config: str, book: str, seed: str, pause: str, work: str) -> None:
    chance = random.Random(seed)
    queue = build(read_config(Path(config)), directory=Path(config).parent).queue
    file = os.open(book, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    # The first call shows what this process takes for the time before the storage told it.
    chosen: dict[str, Any] = {"expires": LONG}
    rest = Path(config).with_name("rest")
    while True:
        while rest.exists():
            time.sleep(0.01)
        failures = 1 if chance.random() < 0.05 else 0
        os.write(file, b"ask\n")
        before = time.clock_gettime(time.CLOCK_REALTIME)
        try:
            handle = queue.enqueue(NAME, (chance.uniform(0, 2 * float(work)), failures), **chosen)
        except QueueUnavailable as error:
            answer = f"no {before} {time.clock_gettime(time.CLOCK_REALTIME)} {error.__cause__}"
        else:
            times = f"{before} {time.clock_gettime(time.CLOCK_REALTIME)}"
            answer = f"ack {handle.id} {chosen.get('expires', '-')} {chosen.get('delay', '-')} {times}"
        os.write(file, f"{answer}\n".encode())
        time.sleep(chance.uniform(0, 2 * float(pause)))
        chosen = options(chance)


if __name__ == "__main__":
    main(*sys.argv[1:])
