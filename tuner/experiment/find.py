"""Where a model is: by its path or its name."""

import os
from pathlib import Path
from typing import Any

from tuner.errors import RepositoryError
from tuner.model.space import did_you_mean, nearest
from tuner.model.weights import complete_model
from tuner.resources import bundled
from tuner.text import shortened, shown

SAMPLE = "text_classifier"
"""The default model if there is no ./model_repository."""


def find_model(name: Any, several: bool = False) -> Path:
    """Finds the folder of a model: by its path, by its name in ./model_repository, or among the
    samples.

    Where ``several`` models will do, a folder of them is returned as it is. Without a name: the
    only model of ./model_repository, or the sample model if there is no such folder. If a model's
    weights are generated, its complete copy in the user's cache is returned.
    """
    own = Path("model_repository")
    if name is None:
        models = _models(own)
        if len(models) == 1:
            return complete_model(_absolute(models[0]))
        if models:
            raise RepositoryError(
                f"{own} contains several models; name one: {', '.join(m.name for m in models)}"
            )
        return bundled("model_repository") / SAMPLE
    if "://" in str(name):
        raise RepositoryError(
            f"{shortened(str(name))} is not a local folder; copy the repository here, or start "
            "Triton on it with --model-control-mode=explicit and attach to it with --url"
        )
    path = Path(str(name))
    for place in (path, own / path, bundled("model_repository") / path):
        if os.path.isfile(place / "config.pbtxt"):  # Path.is_file raises at odd names
            return complete_model(_absolute(place))
    if several and os.path.isdir(path) and _models(path):
        return _absolute(path)
    raise RepositoryError(_no_model(path))


def known_models() -> list[str]:
    """Names for a shell to complete: models of ./model_repository, the samples, and paths of models
    below the working folder.
    """
    places = [*_models(Path("model_repository")), *_models(bundled("model_repository"))]
    below = [str(path.parent) for path in Path().glob("*/*/config.pbtxt")]
    return sorted({*(place.name for place in places), *below})


def known_spaces() -> list[str]:
    """Names of presets, and YAML files of ./search_spaces, for a shell to complete."""
    own = [str(path) for path in Path("search_spaces").glob("*.yaml")]
    return sorted({*(path.stem for path in bundled("search_spaces").glob("*.yaml")), *own})


def _absolute(model: Path) -> Path:
    """Its absolute path, by the name under which Triton finds it: a model may be a link."""
    return Path(os.path.abspath(model))


def _models(repository: Path) -> list[Path]:
    if not os.path.isdir(repository):
        return []
    return sorted(p.parent for p in repository.glob("*/config.pbtxt"))


def similar_model(path: Path) -> str | None:
    """What to write for the model whose name is nearest: of those beside it, in ./models, in
    ./model_repository, or of the samples. None with nothing close.
    """
    places = _nearby(path)
    name = nearest(path.name, places)
    return None if name is None else places[name]


def _nearby(path: Path) -> dict[str, str]:
    """What to write for each model, by its name."""
    named = (*_models(bundled("model_repository")), *_models(Path("model_repository")))
    beside = (*_models(Path("models")), *_models(path.parent))
    return {m.name: m.name for m in named} | {m.name: str(m) for m in beside}


def _no_model(path: Path) -> str:
    similar = similar_model(path)
    if not os.path.isdir(path):
        hint = f"; did you mean {shown(similar)}?"
        if similar is None:
            hint = did_you_mean(path.name, sorted(_nearby(path).values()))
        return f"there is no model {shown(str(path))}{hint}"
    inside = _models(path)
    if inside:
        return f"{path} is a model repository; name one of its models, such as {inside[0]}"
    if similar is not None and Path(similar).name == path.name != similar:
        return f"{path} has no config.pbtxt; did you mean {shown(similar)}?"
    return (
        f"{path} has no config.pbtxt; tuner starts from the model's own configuration, so add one"
    )
