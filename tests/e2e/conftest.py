"""The command as a user runs it: in a process of its own, in an empty folder."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from typer.testing import CliRunner

from tuner.cli.app import app

SECONDS = 240


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str
    pid: int

    @property
    def was_measured(self) -> bool:
        """Whether the models were served and measured; which rate they kept is the machine's."""
        return self.code in (0, 1)

    @property
    def result(self) -> Any:
        return json.loads(self.out.strip().splitlines()[-1])


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "tuner", *words]


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("TUNER_")}
    return {**kept, "COLUMNS": "120", **(extra or {})}


def run_in(folder: Path, *words: str, env: Mapping[str, str] | None = None) -> Outcome:
    """What came of ``tuner`` with these words, run in the folder."""
    with subprocess.Popen(
        command(*words),
        cwd=folder,
        env=environment(env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=SECONDS)
        except BaseException:
            process.kill()
            raise
    assert "Traceback" not in err, err
    return Outcome(process.returncode, out, err, process.pid)


@pytest.fixture
def tuner(tmp_path: Path) -> Callable[..., Outcome]:
    """Runs ``tuner`` with these words in an empty folder."""

    def run(*words: str, env: Mapping[str, str] | None = None) -> Outcome:
        return run_in(tmp_path, *words, env=env)

    return run


@pytest.fixture
def refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """What an error says. Nothing is launched before it, so the command runs in this process."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str, code: int = 2) -> str:
        done = CliRunner().invoke(app, words)
        assert done.exit_code == code, done.output
        assert not (tmp_path / "reports").exists()
        return done.stderr

    return run


def sleepy_model(repository: Path, folder: Path, max_batch_size: int, base_ms: int) -> Path:
    """A copy of the emulated model that takes so long for a batch and is idle meanwhile; instances
    do not wait for each other.
    """
    model = Path(shutil.copytree(repository / "emulated_gpu", folder / "models/emulated_gpu"))
    config = model / "config.pbtxt"
    text = config.read_text().replace("max_batch_size: 8", f"max_batch_size: {max_batch_size}")
    text = text.replace('"4000"', f'"{1000 * base_ms}"').replace('"0.7"', '"0"')
    config.write_text(text)
    return model


def servers_under(folder: Path) -> list[int]:
    """Processes of Triton whose command line names the folder."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "status"]):
        words = " ".join(process.info["cmdline"] or [])
        if "tritonserver" in words and str(folder) in words:
            found.append(process.info["pid"])
    return found


@contextmanager
def no_server_left(folder: Path) -> Iterator[None]:
    """Whatever ran inside, ten seconds later no server of the folder runs any more."""
    yield
    deadline = time.monotonic() + 10
    while servers_under(folder) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert servers_under(folder) == []
