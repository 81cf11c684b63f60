"""perf_analyzer out of the package index: ``python -m benchmarks.load.program`` prepares it.

The wheel tritonclient 2.48.0 carries it. It needs a CUDA runtime, which comes as a wheel, too, and
Debian's libb64-0d.
"""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

from tuner.errors import LauncherUnavailable
from tuner.load import perf_analyzer

CACHE = Path(__file__).parents[2] / "build" / "perf_analyzer"
_WHEELS = ("tritonclient==2.48.0", "nvidia-cuda-runtime-cu12==12.6.77")


def prepared() -> str | None:
    """The program that a user would find, or the one in the cache; None where neither runs."""
    for path in (perf_analyzer.find(), str(CACHE / "perf_analyzer")):
        try:
            if path is not None and perf_analyzer.version(path):
                return path
        except LauncherUnavailable:
            continue
    return None


def prepare() -> str | None:
    """As ``prepared``, after fetching the wheels where that was needed."""
    found = prepared()
    if found is not None:
        return found
    for wheel in _WHEELS:
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
             "--dest", str(CACHE), wheel],
            check=True,
        )  # fmt: skip
    for file in CACHE.glob("*.whl"):
        with zipfile.ZipFile(file) as wheel_file:
            wheel_file.extractall(CACHE / "files")
        file.unlink()
    binary = next((CACHE / "files").glob("*.data/*/bin/perf_analyzer"))
    library = next((CACHE / "files").rglob("libcudart.so*")).parent
    binary.chmod(0o755)
    wrapper = CACHE / "perf_analyzer"
    wrapper.write_text(
        f'#!/bin/sh\nexport LD_LIBRARY_PATH="{library}:$LD_LIBRARY_PATH"\nexec "{binary}" "$@"\n'
    )
    wrapper.chmod(0o755)
    return prepared()


if __name__ == "__main__":
    program = prepare()
    print(program or "no perf_analyzer; it may need Debian's libb64-0d", file=sys.stderr)
    sys.exit(os.EX_OK if program else os.EX_UNAVAILABLE)
