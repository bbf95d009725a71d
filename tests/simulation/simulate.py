"""``make simulate``: many histories, or one of them as a story. A server that a storage needs is started for it."""

from __future__ import annotations

import argparse
import contextlib
import gc
import multiprocessing
import os
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import services

from pijobs.testing.simulation import plan as plans
from pijobs.testing.simulation.history import Outcome, play
from pijobs.testing.simulation.kinds import KINDS, MakePlace, kind
from pijobs.testing.simulation.places import Place
from pijobs.testing.simulation.plan import Plan
from pijobs.testing.simulation.shrink import shrink
from pijobs.testing.simulation.story import story
from simulation import mutations

#: Histories that one process plays before it tells how they went.
BATCH = 50
#: Histories after which it looks for what is left of them.
COLLECT = 10


def main() -> int:
    parser = argparse.ArgumentParser(prog="make simulate", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="the history to play; with --histories: the first one")
    parser.add_argument("--histories", type=int, default=0, help="play so many, and tell which failed")
    parser.add_argument("--storage", choices=sorted(KINDS), default="memory")
    parser.add_argument("--mutations", default="", help="all, or names: which seeds find mends that are taken out")
    parser.add_argument("--whole", action="store_true", help="tell the whole story, not the shortened one")
    options = parser.parse_args()
    if options.mutations and options.seed is None:
        return mutations.main([] if options.mutations == "all" else options.mutations.split(","))
    taken_out = mutations.mutated(options.mutations) if options.mutations else contextlib.nullcontext()
    with taken_out, server(options.storage) as url:
        if options.histories or options.seed is None:
            return many(options.seed or 1, options.histories or 1000, options.storage, url)
        return one(options.seed, options.storage, url, whole=options.whole)


@contextlib.contextmanager
def server(storage: str) -> Iterator[str]:
    """The URL of a server for that storage; empty for one without."""
    if storage == "redis":
        with contextlib.contextmanager(services.redis_url.__wrapped__)() as url:  # type: ignore[attr-defined]
            yield url
    elif storage == "postgresql":
        with services.STARTERS["postgresql"]() as host:
            yield f"postgresql+psycopg://postgres@/postgres?host={host}"
    else:
        yield ""


def one(seed: int, storage: str, url: str, *, whole: bool) -> int:
    """Play one history and tell its story, shortened if it fails."""
    with kind(storage, url) as make_place:
        if whole:
            plan = plans.make(seed)
            outcome = play(plan, telling=True, make_place=make_place)
        else:
            plan, outcome = shortened(seed, make_place)
    for line in story(plan, outcome):
        print(line)
    return 1 if outcome.broken else 0


def shortened(seed: int, make_place: MakePlace = Place) -> tuple[Plan, Outcome]:
    """The history of a seed, without what it does not need to fail as it fails; and how it went."""
    plan = plans.make(seed)
    broken = play(plan, make_place=make_place).broken
    if broken is not None:
        rule = broken.rule

        def fails(smaller: Plan) -> bool:
            found = play(smaller, make_place=make_place).broken
            return found is not None and found.rule == rule

        plan = shrink(plan, fails)
    return plan, play(plan, telling=True, make_place=make_place)


def many(first: int, number: int, storage: str, url: str) -> int:
    """Play many histories on all processors; names those that fail."""
    began, failed, played = time.monotonic(), 0, 0
    batches = [
        (start, min(BATCH, first + number - start), storage, url) for start in range(first, first + number, BATCH)
    ]
    for count, broken in _played(batches):
        played += count
        for seed, what in broken:
            failed += 1
            print(f"\nSEED={seed}: {what}", flush=True)
        if sys.stdout.isatty():
            print(f"\r{played} histories, {failed} failed", end="", flush=True)
    seconds = time.monotonic() - began
    pace = f"in {seconds:.0f} s ({played / seconds:.1f} a second)"
    print(f"\r{played} histories from {first} on {storage} {pace}, {failed} failed")
    return 1 if failed else 0


def _played(batches: list[tuple[int, int, str, str]]) -> Iterable[tuple[int, list[tuple[int, str]]]]:
    if len(batches) == 1:
        return [_play_batch(batches[0])]
    pool = multiprocessing.get_context("spawn").Pool(os.cpu_count() or 1)
    return pool.imap_unordered(_play_batch, batches)


def _play_batch(batch: tuple[int, int, str, str]) -> tuple[int, list[tuple[int, str]]]:
    first, number, storage, url = batch
    broken = []
    # To look through all that lives after each history takes a tenth of the time; what the last batch left goes.
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    gc.disable()
    with kind(storage, url) as make_place:
        for seed in range(first, first + number):
            if seed % COLLECT == 0:
                gc.collect()
            if (found := play(plans.make(seed), make_place=make_place).broken) is not None:
                broken.append((seed, str(found)))
    return number, broken


if __name__ == "__main__":
    sys.exit(main())
