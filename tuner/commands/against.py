"""What a gate compares a model with, as the user names it."""

import os
from dataclasses import dataclass
from pathlib import Path

from tuner.errors import RunError, UnitError, UsageError
from tuner.experiment.model import HIGHEST_RATE, RATE_FLOOR
from tuner.model.revision import commit_of
from tuner.records.gate import NEW, Kind
from tuner.records.results import Evaluation, best
from tuner.records.run import Run
from tuner.text import shown
from tuner.units import parse_rate


@dataclass(frozen=True)
class Against:
    """``text`` as it was given, of one of the kinds; the others' fields are None."""

    kind: Kind
    text: str
    rate: float | None = None
    folder: Path | None = None
    commit: str | None = None

    @classmethod
    def parse(cls, text: str, model: Path) -> "Against":
        """A rate such as ``800/s``, the folder of a run, that of another version of the model, or a
        git revision; UsageError if it is none of these.
        """
        try:
            rate = parse_rate(text)
        except UnitError:
            pass
        else:
            if not RATE_FLOOR <= rate <= HIGHEST_RATE:
                raise UsageError(f"--against {text}: a rate is {RATE_FLOOR:g} to {HIGHEST_RATE:g}")
            return cls("rate", text, rate=rate)
        folder = Path(text)
        if os.path.isdir(folder):
            is_run = os.path.isfile(folder / "experiment.yaml")
            return cls("run" if is_run else "folder", text, folder=folder)
        commit = commit_of(model, text)
        if commit is None:
            raise UsageError(
                f"--against {shown(text)} is neither a rate such as 800/s, nor a folder, nor a git "
                f"revision of {model}; in a shallow clone, fetch the revision first"
            )
        return cls("revision", text, commit=commit)


def stored(folder: Path, model: str) -> tuple[Run, Evaluation]:
    """What a run says that the model served: a search's winner, the new version of a gate, or what
    was measured. RunError where it says nothing, or is of another model.
    """
    run = Run.open(folder)
    manifest, evaluations = run.manifest(), run.evaluations()
    if manifest.model_name != model:
        raise RunError(f"{folder} is a run of {manifest.model_name}, and this is {model}")
    if manifest.kind == "compare":
        raise RunError(f"{folder} is a comparison; give a search, a measurement or a gate")
    if manifest.kind == "gate":
        evaluations = [each for each in evaluations if each.deployment == NEW]
    measured = [e for e in evaluations if e.phase == "measure" and e.capacity is not None]
    found = best(evaluations) or next(iter(measured), None)
    if found is None or found.cost is not None or found.low is None or found.high is None:
        raise RunError(f"{folder} has no capacity with an interval to hold another one against")
    return run, found
