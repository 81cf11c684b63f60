"""Whether a search keeps to its ``--timeout``, with a fast and a slow model."""

import sys
from functools import partial
from pathlib import Path

from benchmarks import runs
from benchmarks.load.bench import Row
from benchmarks.workloads import Workload, named
from tuner.records.results import best

LIMITS = (20, 40, 60)
"""Seconds: from too few for a confirmation to the default space's whole search."""
MODELS = {"fast": named("gpu"), "slow": Workload("slow", 2000.0, 1.0, 0.9, sla="p99<10s")}
"""An execution of the slow one takes 2 s."""
_CODES = (0, 1, 3)
"""A search that comes to no measurement in time ends with 3."""
ROOM = 0.1
"""The share of the limit by which a search may take longer."""


def run(folder: Path, seed: int) -> None:
    """Each model with each limit, unless that was run already."""
    for name, workload in MODELS.items():
        for limit in LIMITS:
            options = ("--timeout", f"{limit}s")
            search = partial(runs.search, workload, options, seed, codes=_CODES)
            _, seconds = runs.keep(_place(folder, name, limit, seed), search)
            print(f"{name} model, limit {limit} s: {seconds:.1f} s", file=sys.stderr)


def rows(folder: Path, seeds: int) -> dict[str, Row]:
    """``over`` is by which share the longest search took longer; below 0 where none did."""
    found: dict[str, Row] = {}
    for name in MODELS:
        for limit in LIMITS:
            places = (_place(folder, name, limit, seed) for seed in range(seeds))
            kept = [each for each in map(runs.kept, places) if each is not None]
            if kept:
                over = [seconds / limit - 1 for _, seconds in kept]
                found[f"{name} model, limit {limit} s"] = {
                    "seconds": [round(seconds, 1) for _, seconds in kept],
                    "over": round(max(over), 3),
                    "within_10_percent": sum(each <= ROOM for each in over),
                    "winners": sum(best(run.evaluations()) is not None for run, _ in kept),
                    "searches": len(kept),
                }
    return found


def _place(folder: Path, name: str, limit: int, seed: int) -> Path:
    return folder / f"limit-{name}-{limit}-{seed}"
