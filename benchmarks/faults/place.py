"""Where a search under test runs: a folder with a model, a space, a home and temporary files."""

import json
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.faults.leftovers import processes_of
from benchmarks.faults.session import Session
from benchmarks.load.bench import ROOT

MODEL = "moody"
SPACE = "parameters:\n  max_batch_size: [1, 2, 4, 8]\n  instance_group.count: [1, 2]\n"
_WORDS = (
    *("search", f"models/{MODEL}", "--sla", "p90<250ms", "--load", "constant"),
    *("--space", "space.yaml", "--minimize", "p90", "--rate", "50"),  # a trial takes 7 s
    *("--confirm", "none", "--timeout", "2m", "--startup-timeout", "15s"),
)
LOCAL = ("--launcher", "local")
COMPARE = (
    *("compare", f"models/{MODEL}", "--sla", "p90<250ms", "--load", "constant", "--no-search"),
    *("--deployments", "hybrid", "--gateway-workers", "1", "--rounds", "1", "--no-swaps"),
    *("--confirm", "none", *LOCAL),
)
_KEPT = ("PATH", "LANG", "DOCKER_HOST", "VIRTUAL_ENV")


@dataclass
class Place:
    """``launcher`` are the words that say where servers run, and ``before`` those that the command
    is started with. ``variables`` go to its environment.
    """

    folder: Path
    launcher: tuple[str, ...] = LOCAL
    sampler: str = "tpe"
    before: tuple[str, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)
    sessions: list[Session] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)
    """Words of records that are others here."""
    way: Any = None
    """To the Docker engine, where it can be cut."""

    @property
    def output(self) -> Path:
        return self.folder / "reports"

    @property
    def temporary(self) -> Path:
        return self.folder / "tmp"

    @property
    def mood(self) -> Path:
        """The file that tells the model what to do."""
        return self.folder / "models" / MODEL / "1" / "mood"

    @property
    def runs(self) -> list[Path]:
        return sorted(self.output.glob("*/"))

    def furnish(self) -> None:
        """Model, space and empty folders."""
        for each in (self.output, self.temporary, self.folder / "home"):
            each.mkdir(parents=True, exist_ok=True)
        shutil.copytree(
            Path(__file__).parent / MODEL,
            self.folder / "models" / MODEL,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
        (self.folder / "space.yaml").write_text(SPACE, encoding="utf-8")

    def go_on_from(self, other: "Place") -> None:
        """Have the runs of another place here."""
        shutil.copytree(other.output, self.output, dirs_exist_ok=True)
        for manifest in self.output.glob("*/experiment.yaml"):
            text = manifest.read_text(encoding="utf-8")
            for word, here in self.renamed.items():
                text = text.replace(word, here)
            manifest.write_text(text, encoding="utf-8")

    def start(self, trials: int, *more: str) -> Session:
        """A search of so many candidates, those on record included."""
        words = (*_WORDS, "--sampler", self.sampler, *self.launcher, "--trials", str(trials))
        return self.run(*words, *more)

    def run(self, *words: str) -> Session:
        command = (*self.before, sys.executable, "-m", "tuner", *words)
        said = self.folder / f"said-{len(self.sessions)}.txt"
        session = Session(command, self.folder, self._environment(), said)
        self.sessions.append(session)
        return session

    def lines(self) -> list[str]:
        """The records of evaluations that can be read, of all runs."""
        found = [line for run in self.runs for line in _whole_lines(run / "evaluations.jsonl")]
        return [line for line in found if _content(line) is not None]

    def evaluations(self, run: Path) -> list[dict[str, Any]]:
        lines = _whole_lines(run / "evaluations.jsonl")
        return [content for line in lines if (content := _content(line)) is not None]

    def close(self) -> None:
        """End what still runs here."""
        for session in self.sessions:
            if not session.is_over:
                session.kill()
        for process in processes_of(self.folder):
            process.kill()

    def _environment(self) -> Mapping[str, str]:
        own = {
            "HOME": str(self.folder / "home"),
            "TMPDIR": str(self.temporary),
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "200",
        }
        return {**{k: os.environ[k] for k in _KEPT if k in os.environ}, **own, **self.variables}


def _whole_lines(file: Path) -> list[str]:
    try:
        content = file.read_bytes()
    except OSError:
        return []
    return content.decode("utf-8", "replace").split("\n")[:-1]


def _content(line: str) -> dict[str, Any] | None:
    """None where the line was damaged."""
    try:
        content = json.loads(line)
    except ValueError:
        return None
    return content if isinstance(content, dict) and "settings" in content else None
