"""``python -m benchmarks.load NAME [--out FILE]``: measure, and write the result file."""

import argparse
import contextlib
import importlib
import sys
import time
from pathlib import Path

from benchmarks.load.awake import awake
from benchmarks.load.bench import ROOT, write

NAMES = (
    *("client_cost", "http2_core", "agreement", "fidelity", "verdicts", "stalls"),
    *("confirmation", "gating", "repeatability", "pinning", "overload", "memory"),
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/load/NAME.json")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--keep-awake", action="store_true", help="on a virtual machine: let no core go to sleep"
    )
    given = parser.parse_args()
    file = given.out or ROOT / "benchmarks/results/load" / f"{given.name}.json"
    began = time.monotonic()
    with awake() if given.keep_awake else contextlib.nullcontext() as about:
        rows, notes = importlib.import_module(f"benchmarks.load.{given.name}").measure(given.rounds)
    words = f"{given.name} --rounds {given.rounds}" + " --keep-awake" * given.keep_awake
    command = f"python -m benchmarks.load {words}"
    write(file, given.name, command, began, rows, [*notes, about] if about else notes)
    for name, row in rows.items():
        print(name, row)
    print(file, file=sys.stderr)


if __name__ == "__main__":
    main()
