"""``make hostile INPUTS=1000000``: inputs from a seed against everything that takes a stranger's text.

Of each it is asked: no exception but those that the target tells, no HTTP 500, no secret in what people read, and no
second of processor time.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from hostile.inputs import Inputs
from hostile.targets import Target, targets

#: Of processor time for one input.
SECONDS = 1.0
MOST_FAULTS = 50


@dataclass
class Hunt:
    """:ivar faults: in words, with the seed that leads to each."""

    inputs: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "")


def hunt(number: int, seed: int, folder: Path, only: str = "") -> Hunt:
    """An interrupt ends it, and what was found by then counts.

    :param only: the name of one target; empty: each has its share.
    """
    found, order = Hunt(), random.Random(seed)
    with targets(folder) as known:
        chosen = {name: target for name, target in known.items() if only in ("", name)}
        shares = [target.share for target in chosen.values()]
        for at in range(number):
            (name,) = order.choices([*chosen], shares)
            try:
                _play(chosen[name], name, f"{seed}:{name}:{at}", found)
            except KeyboardInterrupt:
                break
            if len(found.faults) > MOST_FAULTS:
                break
    return found


def _play(target: Target, name: str, key: str, found: Hunt) -> None:
    began = time.thread_time()
    try:
        target.take(Inputs(hash_of(key)))
    except target.answers:
        pass
    except KeyboardInterrupt:
        raise
    except BaseException:
        found.faults.append(f"{key}: {traceback.format_exc(limit=-4)[-1500:]}")
    took = time.thread_time() - began
    found.inputs[name] += 1
    found.slowest = max(found.slowest, (took, key))
    if took > SECONDS:
        found.faults.append(f"{key}: {took:.2f} s of processor time")


def hash_of(key: str) -> int:
    """The same in every process."""
    return int.from_bytes(key.encode(), "big")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        result = hunt(options.inputs, options.seed, Path(folder), options.only)
    for one in result.faults:
        print(one)
    print(f"{sum(result.inputs.values())} inputs, {len(result.faults)} faults; slowest {result.slowest[0]:.2f} s")
    print(", ".join(f"{name} {count}" for name, count in result.inputs.items()))
    sys.exit(bool(result.faults))
