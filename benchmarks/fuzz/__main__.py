"""``python -m benchmarks.fuzz [READER …] [--inputs N]``: hostile input for what reads in tuner.

Each reader runs in a process of its own. What it raises that is not an error of tuner's own, what
takes too long, and what breaks the limit of its memory is printed with its input. The result file
is written where all readers were asked for.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.fuzz.inputs import make
from benchmarks.fuzz.readers import readers
from benchmarks.fuzz.running import Failure, Outcome, Progress, at_work
from benchmarks.load.bench import ROOT, write

_RESULT = ROOT / "benchmarks/results/fuzz.json"
_SHOWN = 300
"""Bytes of an input that failed."""


@dataclass(frozen=True)
class Limits:
    """Of a reader's process."""

    seconds: float = 10.0
    """Of the processor, for one input: a file of a megabyte takes three."""
    start: float = 300.0
    """Until it reads the first one: a busy machine takes long to import."""
    grace: float = 110.0
    """Seconds beyond it, on a clock, until a process that cannot be interrupted is ended."""
    memory: int = 4 << 30
    """Bytes of addresses; a process has 2 GiB of them before it has read anything."""
    restarts: int = 20
    """Of a process that was ended."""


LIMITS = Limits()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("readers", nargs="*", metavar="READER", help=", ".join(readers()))
    parser.add_argument(
        "--inputs", type=int, default=1000, help="of each reader; a fifth of it of the slow ones"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="readers at a time")
    parser.add_argument("--only", type=int, help="one input by its number, with a traceback")
    parser.add_argument("--out", type=Path, help=f"default: {_RESULT.relative_to(ROOT)}, if all")
    given = parser.parse_args()
    names = given.readers or list(readers())
    if unknown := [name for name in names if name not in readers()]:
        parser.error(f"there is no reader {unknown[0]!r}; there are {', '.join(readers())}")
    if given.only is not None:
        _read_one(names[0], given.seed, given.only)
        return
    began, rows = time.monotonic(), {}
    with ThreadPoolExecutor(given.jobs) as pool:
        outcomes = pool.map(
            lambda name: fuzz(name, given.seed, round(given.inputs * readers()[name].share)), names
        )
        for name, outcome in zip(names, outcomes, strict=True):
            rows[name] = _row(outcome)
            print(name, rows[name], flush=True)
            for failure in outcome.failures:
                _tell(name, given.seed, failure)
    if given.out is None and given.readers:
        return
    seed = f" --seed {given.seed}" if given.seed else ""
    command = f"python -m benchmarks.fuzz --inputs {given.inputs}{seed}"
    write(given.out or _RESULT, "fuzz", command, began, rows, _notes())
    print(given.out or _RESULT, file=sys.stderr)


def fuzz(name: str, seed: int, inputs: int) -> Outcome:
    """All inputs of one reader, in as many processes as it takes."""
    whole, first = Outcome(), 0
    for _ in range(LIMITS.restarts):
        with tempfile.TemporaryDirectory() as folder:
            progress = Progress(Path(folder) / "progress")
            asked = {"reader": name, "seed": seed, "first": first, "end": inputs}
            asked |= {"limit": LIMITS.seconds, "memory": LIMITS.memory}
            part, why = _process({**asked, "progress": f"{folder}/progress"}, progress)
            at = progress.get()
        if part is not None:
            return _joined(whole, part)
        whole.inputs += max(0, at - first + 1)
        whole.add(Failure(at, why, "the process was ended", "unknown"))
        first = at + 1
        if first >= inputs:
            break
    return whole


def _process(asked: dict[str, Any], progress: Progress) -> tuple[Outcome | None, str]:
    """What the process made of its inputs; None where it came to no end, and why not."""
    command = [sys.executable, "-m", "benchmarks.fuzz.child", json.dumps(asked)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        seen, since = -1, time.monotonic()
        while True:
            try:
                output, _ = process.communicate(timeout=1.0)
                break
            except subprocess.TimeoutExpired:
                if progress.get() != seen:
                    seen, since = progress.get(), time.monotonic()
                patience = LIMITS.start if seen < 0 else LIMITS.seconds + LIMITS.grace
                if time.monotonic() - since > patience:
                    process.kill()
                    return None, "hung"
    if process.returncode:
        return None, f"ended with {process.returncode}"
    fields = json.loads(output)
    fields["failures"] = [Failure(**each) for each in fields["failures"]]
    return Outcome(**fields), ""


def _joined(first: Outcome, last: Outcome) -> Outcome:
    last.inputs += first.inputs
    for failure in first.failures:
        last.add(failure)
    return last


def _row(outcome: Outcome) -> dict[str, Any]:
    return {
        "inputs": outcome.inputs,
        "refused": outcome.refused,
        "seconds": round(outcome.seconds, 1),
        "slowest_ms": round(1e3 * outcome.slowest, 1),
        "slowest_number": outcome.slowest_number,
        "peak_mib": round(outcome.peak / 2**20),
        "more_mib": round((outcome.peak - outcome.at_start) / 2**20),
        "foreign": outcome.foreign,
        "failures": [vars(failure) for failure in outcome.failures],
    }


def _tell(name: str, seed: int, failure: Failure) -> None:
    raw = make(readers()[name].seeds, readers()[name].words, seed, failure.number)
    shown = repr(raw[:_SHOWN]) + (f" and {len(raw) - _SHOWN:,} more" if len(raw) > _SHOWN else "")
    print(f"  {failure.kind}: {failure.message}\n    {failure.place}\n    {shown}")
    print(f"    python -m benchmarks.fuzz '{name}' --seed {seed} --only {failure.number}")


def _read_one(name: str, seed: int, number: int) -> None:
    reader = readers()[name]
    raw = make(reader.seeds, reader.words, seed, number)
    print(repr(raw[:_SHOWN]), f"{len(raw):,} bytes")
    with at_work() as folder:
        began = time.perf_counter()
        try:
            print(repr(reader.read(raw, folder))[:_SHOWN])
        finally:
            print(f"{time.perf_counter() - began:.3f} s")


def _notes() -> list[str]:
    return [
        "each reader in a process of its own, with "
        f"{LIMITS.memory >> 30} GiB of addresses, and {LIMITS.seconds:g} s of the processor for an "
        "input",
        "refused: an error of tuner's own, with a message of a screen at most; foreign: any other "
        "error, a longer message, an input that took too long, or a process that was ended",
        "memory is the most that the process had, and how much more that is than before the first "
        "input",
    ]


if __name__ == "__main__":
    main()
