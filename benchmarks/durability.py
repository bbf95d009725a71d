"""What it costs to wait until an enqueue is on the disk, or in a replica (PI_JOB_QUEUE_ENQUEUE_DURABILITY).

    python benchmarks/durability.py URL [--number 500] [--body 1400]

The URL is that of the server as it will be used: the price is that of its disk and its network. Enqueues one after the
other, as one request does it. Milliseconds, median and 95th percentile, for each durability that the server can give.
The instances lie in a queue of their own, and are removed at the end.
"""

from __future__ import annotations

import sys

sys.path.pop(0)  # this folder: a module "queue" in it would hide the one of the standard library

import argparse
import statistics
import time
import uuid
from contextlib import closing

from pijobs.errors import ConfigurationError, StorageUnavailable
from pijobs.storage import open_storage
from pijobs.storage.contract import Storage
from pijobs.storage.values import Durability, NewInstance, Retention

DURABILITIES: tuple[Durability, ...] = ("server", "disk", "replica")
#: Seconds. Redis with ``appendfsync everysec`` takes one.
TIMEOUT = 5.0


def main() -> None:
    """Print a line for each durability."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--number", type=int, default=500)
    parser.add_argument("--body", type=int, default=1400, help="bytes")
    options = parser.parse_args()
    for durability in DURABILITIES:
        try:
            storage = open_storage(options.url, f"benchmark {uuid.uuid4().hex}", Retention(), durability)
            with closing(storage):
                storage.try_out()
                times = [1000 * seconds for seconds in measure(storage, options.number, options.body)]
        except (ConfigurationError, StorageUnavailable) as error:
            print(f"{durability:8} {error}")
        else:
            print(f"{durability:8} {statistics.median(times):8.2f} {statistics.quantiles(times, n=20)[-1]:8.2f}")


def measure(storage: Storage, number: int, size: int) -> list[float]:
    """Seconds of each enqueue."""
    ids, times = [], []
    for _ in range(number):
        new = NewInstance(uuid.uuid4().hex, "bench.job", b"envelope", b"b" * size, "bench.job", created=storage.now())
        began = time.perf_counter()
        ids.append(storage.enqueue(new, timeout=TIMEOUT).id)
        times.append(time.perf_counter() - began)
    storage.forget(ids)
    return times


if __name__ == "__main__":
    main()
