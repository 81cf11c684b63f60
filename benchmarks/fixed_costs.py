"""What commands cost besides load: ``python -m benchmarks.fixed_costs [--rounds 5] [--tuner DIR]``.

Wall time and tuner's own CPU time, medians: of ``tuner --help``, of one ``tuner measure``, and of a
search until its first server is launched and until its first trial, with numba's cache filled and
empty. ``--tuner`` is the root of another checkout to measure, interleaved with this one.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import psutil

ROOT = Path(__file__).parents[1]
Times = dict[str, tuple[float, float]]
"""Seconds of wall and CPU time, by what was reached."""
_SEARCH = "search emulated_gpu --sla-p99 40ms --trials 2 --confirm none --launcher local"
_MEASURE = "measure emulated_gpu --sla-p99 40ms --confirm none --launcher local"
_MARKS = {"calibrating:": "search, first launch", "trial 0:": "search, first trial"}


@contextmanager
def _started(root: Path, words: str, cache: str) -> Iterator["subprocess.Popen[str]"]:
    environment = {**os.environ, "PYTHONPATH": str(root), "NUMBA_CACHE_DIR": cache}
    command = [sys.executable, "-m", "tuner", *words.split()]
    with subprocess.Popen(
        command,
        env=environment,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        yield process


def _whole(root: Path, words: str, cache: str) -> tuple[float, float]:
    began, before = time.monotonic(), os.times()
    with _started(root, words, cache) as process:
        process.communicate()
    after = os.times()
    cpu = after.children_user + after.children_system
    return time.monotonic() - began, cpu - before.children_user - before.children_system


def _search(root: Path, cache: str, folder: str) -> Times:
    """Until the marks are told on standard error; then it is killed."""
    began, reached = time.monotonic(), {}
    with _started(root, f"{_SEARCH} --output {folder}", cache) as process:
        watched = psutil.Process(process.pid)
        assert process.stderr is not None
        for line in process.stderr:
            for mark, name in _MARKS.items():
                if mark in line and name not in reached:
                    own = watched.cpu_times()
                    reached[name] = (time.monotonic() - began, own.user + own.system)
            if len(reached) == len(_MARKS):
                process.kill()  # its server ends with it
                process.communicate()
                break
    return reached


def measure(root: Path, folder: str, warm: str) -> Times:
    found = {"--help": _whole(root, "--help", warm)}
    found["measure"] = _whole(root, f"{_MEASURE} --output {folder}/measure", warm)
    for state, cache in (("warm", warm), ("cold", tempfile.mkdtemp(dir=folder))):
        for name, pair in _search(root, cache, tempfile.mkdtemp(dir=folder)).items():
            found[f"{name}, {state} cache"] = pair
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fixed_costs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tuner", type=Path, action="append", help="other checkouts to measure")
    given = parser.parse_args()
    roots = [ROOT, *(given.tuner or [])]
    rounds: dict[Path, list[Times]] = {root: [] for root in roots}
    with tempfile.TemporaryDirectory() as folder:
        caches = {root: tempfile.mkdtemp(dir=folder) for root in roots}
        for root in roots:
            _search(root, caches[root], tempfile.mkdtemp(dir=folder))
        for _ in range(given.rounds):
            for root in roots:
                rounds[root].append(measure(root, folder, caches[root]))
                print(root, rounds[root][-1], file=sys.stderr, flush=True)
    for name in rounds[ROOT][0]:
        for root in roots:
            pairs = [times[name] for times in rounds[root] if name in times]
            wall, cpu = (median(pair[i] for pair in pairs) for i in (0, 1))
            print(f"{name:34} {wall:6.2f} s wall {cpu:6.2f} s CPU  {root}")


if __name__ == "__main__":
    main()
