"""``python -m benchmarks.load NAME [--out FILE]``: measure, and write the result file."""

import argparse
import importlib
import sys
import time
from pathlib import Path

from benchmarks.load.bench import ROOT, write

NAMES = ("client_cost", "agreement", "fidelity")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/load/NAME.json")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    file = given.out or ROOT / "benchmarks/results/load" / f"{given.name}.json"
    began = time.monotonic()
    rows, notes = importlib.import_module(f"benchmarks.load.{given.name}").measure(given.rounds)
    write(file, given.name, given.rounds, began, rows, notes)
    for name, row in rows.items():
        print(name, row)
    print(file, file=sys.stderr)


if __name__ == "__main__":
    main()
