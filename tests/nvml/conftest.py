"""Machines with NVIDIA GPUs that are not there: a library in NVML's place, compiled here.

It is loaded by processes of their own only, so that no other test sees a GPU.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import need

SOURCE = Path(__file__).with_name("fake_nvml.c")
NEW, OLD, OLDER = 2025, 2021, 2019
Lines = dict[str, str | int | float]


def gpu(index: str = "0", **changes: str | int | float) -> Lines:
    """What NVML says of a GPU that serves something."""
    said: Lines = {
        "name": "NVIDIA L4",
        "uuid": f"GPU-{index}a1b2c3d4",
        "total": 24 * 2**30,
        "used": 2**29,
        "util": 80,
        "power": 61_000,
        "clock": 1740,
        "temperature": 71,
        "reasons": 0,
    }
    return {f"{index}.{name}": value for name, value in {**said, **changes}.items()}


def machine(*gpus: Lines, **changes: str | int) -> Lines:
    """A machine with these GPUs; those that are slices (``0:1.uuid``) do not count."""
    whole = sum(":" not in next(iter(each)) for each in gpus)
    said: Lines = {"driver": "550.54.15", "gpus": whole, **changes}
    return {key: value for lines in (said, *gpus) for key, value in lines.items()}


@dataclass(frozen=True)
class FakeNvml:
    """A folder with the library, and the file that tells it what to say."""

    library: Path
    state: Path
    environment: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        inherited = os.environ.get("LD_LIBRARY_PATH")
        path = os.pathsep.join(filter(None, (str(self.library), inherited)))
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("TUNER_", "CUDA_"))}
        found = {**kept, "LD_LIBRARY_PATH": path, "FAKE_NVML": str(self.state)}
        object.__setattr__(self, "environment", found)

    def says(self, lines: Mapping[str, str | int | float]) -> None:
        write(self.state, lines)

    def run(self, code: str, *words: str) -> Any:
        """What a Python program prints as JSON on such a machine."""
        if self.library not in _interpreters:
            _interpreters[self.library] = Interpreter(self.environment)
        return _interpreters[self.library].run(code, words, self.state)


_RUN_PROGRAMS = """
import contextlib, io, json, os, sys, traceback
from tuner.commands import doctor
from tuner.servers import gpu_watch
for line in sys.stdin:
    code, words, os.environ["FAKE_NVML"] = json.loads(line)
    sys.argv = ["-c", *words]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            exec(code, {})
        except BaseException:
            traceback.print_exc()
    print(json.dumps([out.getvalue(), err.getvalue()]), flush=True)
"""


class Interpreter:
    """A process that runs one program after the other: to start it takes longer than they do."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", _RUN_PROGRAMS],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, code: str, words: Sequence[str], state: Path) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([code, words, str(state)]) + "\n")
        self._process.stdin.flush()
        out, err = json.loads(self._process.stdout.readline())
        assert err == ""
        return json.loads(out)

    def close(self) -> None:
        self._process.communicate(timeout=60)


_interpreters: dict[Path, Interpreter] = {}


@pytest.fixture(scope="package", autouse=True)
def interpreters() -> Iterator[None]:
    yield
    for interpreter in _interpreters.values():
        interpreter.close()
    _interpreters.clear()


def write(file: Path, lines: Mapping[str, str | int | float]) -> None:
    partial = file.with_suffix(".partial")
    partial.write_text("".join(f"{key} {value}\n" for key, value in lines.items()))
    partial.replace(file)


@pytest.fixture(scope="session")
def nvml_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """The folder of the library as a driver of that year has it."""
    compiler = shutil.which("cc") or ""
    need(bool(compiler), "no C compiler; run tests/setup.sh")
    folders: dict[int, Path] = {}

    def compile_for(year: int) -> Path:
        if year not in folders:
            folder = tmp_path_factory.mktemp(f"nvml-{year}")
            library = folder / "libnvidia-ml.so.1"
            flags = ("-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", f"-DDRIVER_YEAR={year}")
            name = f"-Wl,-soname,{library.name}"
            command = [compiler, *flags, name, str(SOURCE), "-o", str(library)]
            subprocess.run(command, check=True, timeout=60)
            folders[year] = folder
        return folders[year]

    return compile_for


@pytest.fixture
def nvml(nvml_of: Callable[[int], Path], tmp_path: Path) -> FakeNvml:
    return FakeNvml(nvml_of(NEW), tmp_path / "nvml.txt")
