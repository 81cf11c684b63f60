"""The winner as something to deploy: a model repository that Triton serves as it is."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from tuner.errors import RunError, StorageError
from tuner.model.config import parse_config, to_text
from tuner.model.files import copy_beside, copy_model
from tuner.model.repository import configs_of, is_repository, server_flags
from tuner.model.weights import complete_model
from tuner.records.results import Evaluation, baseline, best
from tuner.records.run import Run
from tuner.scratch import scratch_folder


def export_winner(run: Run, model: Path | None, destination: Path) -> Path:
    """Write ``destination``/<model>: the files of ``model``, or of the folder that the run names,
    with the winner's config.pbtxt; the file's path. Of several models, ``destination`` has all.

    Beside it goes ``manifest.json``: what was found, and from which run. The folder appears whole
    or not at all, in place of an older one of tuner's making.
    """
    model = model or run.manifest().experiment.model
    evaluations = run.evaluations()
    winner = best(evaluations)
    if winner is None:
        searched = any(e.phase == "search" for e in evaluations)
        why = "no candidate met the SLA" if searched else "it is not a search"
        raise RunError(f"{run.folder} has no winner: {why}")
    if not os.path.isdir(model):
        raise RunError(f"the model of {run.folder} is not at {model}; say where, with --model")
    if os.path.exists(destination) and not os.path.isfile(destination / "manifest.json"):
        raise RunError(f"{destination} exists and is not an export of tuner; choose another place")
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        with scratch_folder("export", destination.parent) as folder:
            staged = Path(folder) / "repository"
            configs = configs_of(winner.config)
            if "" in configs:
                configs = {model.name: configs[""]}
            source = model if is_repository(model) else model.parent
            for name, text in configs.items():
                copy_model(complete_model(source / name), staged / name)
                if not winner.baseline:
                    text = to_text(parse_config(text, "the winner's record"))
                    (staged / name / "config.pbtxt").write_text(text, encoding="utf-8")
            if len(configs) > 1:
                copy_beside(source, configs, staged)
            manifest = _manifest(run, winner, baseline(evaluations))
            (staged / "manifest.json").write_text(
                json.dumps(manifest, indent=2, ensure_ascii=False, allow_nan=False) + "\n",
                encoding="utf-8",
            )
            if destination.exists():
                shutil.rmtree(destination)
            staged.rename(destination)
    except OSError as error:
        raise StorageError(
            f"cannot write {destination}: {error.strerror or error}; "
            "make room or choose another place"
        ) from error
    return destination / model.name / "config.pbtxt" if len(configs) == 1 else destination


def _manifest(run: Run, winner: Evaluation, first: Evaluation | None) -> dict[str, Any]:
    recorded = run.manifest()
    at, flags = winner.at_capacity(), server_flags(winner.candidate)
    return {
        "model": recorded.model_name,
        "run": run.folder.name,
        "sla": recorded.experiment.sla.text,
        "trial": winner.trial,
        "settings": dict(winner.settings),
        **({"server_args": list(flags)} if flags else {}),
        "capacity_per_second": None if winner.cost else winner.capacity,
        "cost": winner.cost.model_dump() if winner.cost else None,
        "confirmed": winner.phase == "confirm",
        "latency_seconds": json.loads(at.model_dump_json())["latency"] if at else None,
        "baseline_capacity_per_second": first.capacity if first and not first.cost else None,
        "baseline_cost": first.cost.model_dump() if first and first.cost else None,
        "environment": recorded.environment.model_dump(mode="json", exclude_none=True),
    }
