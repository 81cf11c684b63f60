"""``python -m benchmarks.faults [FAULT…] --repetitions 20 --seed 0``: do them, and write the table.

Where Docker, root or a compiler is missing, the faults that need it are left out, and named.
"""

import argparse
import sys
import tempfile
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.faults.attempts import Attempt, attempt, begun_search
from benchmarks.faults.catalogue import FAULTS
from benchmarks.faults.fault import Fault
from benchmarks.faults.means import missing_for
from benchmarks.faults.place import Place
from benchmarks.faults.session import Missed
from benchmarks.load.bench import ROOT, Row, summary, write

FILE = ROOT / "benchmarks" / "results" / "faults.json"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=f"of {', '.join(FAULTS)}")
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the first; the others follow")
    parser.add_argument("--jobs", type=int, default=1, help="attempts at a time")
    parser.add_argument("--out", type=Path, default=FILE)
    given = parser.parse_args()
    for name in given.faults:
        if name not in FAULTS:
            parser.error(f"there is no fault {name!r}")
    began = time.monotonic()
    chosen = [FAULTS[name] for name in given.faults] or list(FAULTS.values())
    missing = {each.name: why for each in chosen if (why := missing_for(each.needs))}
    chosen = [each for each in chosen if each.name not in missing]
    seeds = range(given.seed, given.seed + given.repetitions)
    words = [*given.faults, f"--repetitions {given.repetitions} --seed {given.seed}"]
    words += [f"--jobs {given.jobs}"] * (given.jobs > 1)
    command = " ".join(["python -m benchmarks.faults", *words])
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        rows = measure(chosen, seeds, given.jobs, Path(folder))
    notes = [
        "a moment of the search is drawn for each repetition; one in four searches that are killed "
        "or interrupted starts anew, the others go on with two trials on record",
        *(f"{name} was left out: {why}" for name, why in missing.items()),
    ]
    write(given.out, "faults", command, began, rows, notes)


def measure(faults: list[Fault], seeds: range, jobs: int, folder: Path) -> dict[str, Row]:
    """All faults with one seed after another, so that they are done equally often."""
    begun: dict[tuple[str, ...], Place] = {}
    for launcher in {each.launcher for each in faults}:
        begun[launcher] = begun_search(folder / f"begun-{len(begun)}", launcher)
    done: dict[str, list[Attempt]] = defaultdict(list)

    def do(task: tuple[int, Fault]) -> None:
        seed, fault = task
        try:
            came = attempt(fault, seed, folder / f"{fault.name}-{seed}", begun[fault.launcher])
        except (Missed, TimeoutError) as error:  # nothing was done, so nothing counts
            print(f"{fault.name}, seed {seed}: left out: {error}", file=sys.stderr)
            return
        done[fault.name].append(came)
        print(f"{fault.name}, seed {seed}: {came.seconds:.1f} s", file=sys.stderr)
        for finding in came.findings:
            print(f"  {finding}", file=sys.stderr)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(do, [(seed, fault) for seed in seeds for fault in faults]))
    return {each.name: _row(each, done[each.name]) for each in faults if done[each.name]}


def _row(fault: Fault, attempts: list[Attempt]) -> dict[str, Any]:
    return {
        "does": fault.does,
        "repetitions": len(attempts),
        "lost": sum(bool(each.lost) for each in attempts),
        "wrong": sum(bool(each.wrong) for each in attempts),
        "left": sum(bool(each.left) for each in attempts),
        "hung": sum(bool(each.hung) for each in attempts),
        "seconds": summary([each.seconds for each in attempts]),
        "limit": fault.limit,
    }


if __name__ == "__main__":
    main()
