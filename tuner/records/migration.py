"""Manifests of earlier versions, brought into today's form: a function for each old one."""

from collections.abc import Callable
from typing import Any

from tuner.experiment.model import Experiment
from tuner.records.manifest import MANIFEST_FORMAT, ComparedDeployments, Environment, Manifest


def migrate(content: dict[str, Any]) -> dict[str, Any]:
    """The content of ``experiment.yaml`` in today's form; ValueError for a later one than that."""
    number = content.get("format", 1)
    if not isinstance(number, int) or number > MANIFEST_FORMAT:
        raise ValueError(
            f"the manifest has format {number}, and this version of tuner reads formats up to "
            f"{MANIFEST_FORMAT}; update tuner"
        )
    while number in _STEPS:
        content = _STEPS[number](content)
        number += 1
    return content


def _from_flat(old: dict[str, Any]) -> dict[str, Any]:
    """Format 1, of version 0.1: the experiment's fields stood beside the others.

    A field that came later has its default, which is what runs of before it did. In a comparison
    ``workers`` were those of FastAPI; how many processes sent the load was not recorded.
    """
    space = old.get("space")
    comparison = old.get("kind") == "compare"
    others = {"space", "headers"} | ({"workers"} if comparison else set())
    same = [name for name in Experiment.model_fields if name in old and name not in others]
    experiment = {name: old[name] for name in same}
    if isinstance(space, dict) and "name" in space:
        experiment["space"] = space["name"]
    environment = old.get("environment") or {}
    new = {
        **{name: old[name] for name in Manifest.model_fields if name in old},
        "format": 2,
        "kind": old.get("kind"),
        "experiment": experiment,
        "environment": {k: v for k, v in environment.items() if k in Environment.model_fields},
    }
    if comparison:
        names = {"fastapi_workers": "workers"}
        fields = ((name, names.get(name, name)) for name in ComparedDeployments.model_fields)
        new["compared"] = {name: old[before] for name, before in fields if before in old}
        new["finished"] = old.get("finished", False)
    return new


_STEPS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_flat}
