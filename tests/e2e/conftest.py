"""The command as a user runs it: in a process of its own, in an empty folder."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

SECONDS = 240


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def result(self) -> Any:
        return json.loads(self.out.strip().splitlines()[-1])


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "tuner", *words]


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("TUNER_")}
    return {**kept, "COLUMNS": "120", **(extra or {})}


@pytest.fixture
def tuner(tmp_path: Path) -> Callable[..., Outcome]:
    """Runs ``tuner`` with these words in an empty folder."""

    def run(*words: str, env: Mapping[str, str] | None = None) -> Outcome:
        done = subprocess.run(
            command(*words),
            cwd=tmp_path,
            env=environment(env),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Outcome(done.returncode, done.stdout, done.stderr)

    return run


def servers_under(folder: Path) -> list[int]:
    """Processes of Triton whose command line names the folder."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "status"]):
        words = " ".join(process.info["cmdline"] or [])
        if "tritonserver" in words and str(folder) in words:
            found.append(process.info["pid"])
    return found
