"""The process that reads, with a limit of its memory: ``python -m benchmarks.fuzz.child JSON``.

A reader may hang in C, or be killed; then its parent knows from a file which input it was.
"""

import dataclasses
import json
import resource
import sys
import warnings
from pathlib import Path

from benchmarks.fuzz.readers import readers
from benchmarks.fuzz.running import Progress, run


def main() -> None:
    asked = json.loads(sys.argv[1])
    warnings.simplefilter("ignore")  # of numbers that overflow: what comes of them is looked at
    reader = readers()[asked["reader"]]
    memory = asked["memory"]
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    numbers = range(asked["first"], asked["end"])
    progress = Progress(Path(asked["progress"]))
    outcome = run(reader, asked["seed"], numbers, asked["limit"], progress)
    print(json.dumps(dataclasses.asdict(outcome)))


if __name__ == "__main__":
    main()
