"""Several models that are tuned together: those of a pipeline, or those that share a server."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from tuner.errors import ModelConfigError, SpaceError
from tuner.model.config import (
    ModelConfig,
    check_config,
    fit_space,
    own_settings,
    read_config,
    render,
    to_text,
)
from tuner.model.parameter import Value
from tuner.model.pipeline import CONFIG, Pipeline, Step
from tuner.model.space import (
    RATE_LIMIT,
    Candidate,
    SearchSpace,
    by_model,
    did_you_mean,
    field_of,
    model_of,
    of_model,
)

_ENSEMBLE = "ensemble_scheduling"
_RESOURCE = "tuner"
"""The name of the rate limiter's resource."""
_HEADER = re.compile(r"# ([^/]+)/config\.pbtxt")


@dataclass(frozen=True)
class Repository:
    """The models of one server, in a ``folder`` of model folders.

    ``configs`` are their configurations by name, each after those of the models that it calls,
    which is the order of loading. ``asked`` are those that get requests. ``pipeline`` is that of
    the only one that is asked, if it is an ensemble or calls other models.
    """

    folder: Path
    configs: Mapping[str, Any]
    asked: tuple[str, ...]
    pipeline: Pipeline | None = None

    @classmethod
    def of_pipeline(
        cls, folder: Path, config: Any, called: Iterable[str] = ()
    ) -> "Repository | None":
        """That of an ensemble's folder, or of a model that calls others (BLS), which nobody but its
        user knows; None of another model. ModelConfigError as ``Pipeline.of``.
        """
        pipeline = Pipeline.of(folder, config, tuple(called))
        if pipeline is None:
            return None
        configs = {name: _read(folder.parent, name) for name in pipeline.loaded}
        return cls(folder.parent, {**configs, config.name: config}, (config.name,), pipeline)

    @classmethod
    def of_models(cls, folder: Path, names: Collection[str]) -> "Repository":
        """Models of a folder that are asked side by side. ModelConfigError if one is not there, or
        cannot be asked so.
        """
        known = models_in(folder)
        configs: dict[str, Any] = {}
        for name in names:
            if name not in known:
                raise ModelConfigError(
                    f"{folder} has no model {name}{did_you_mean(name, sorted(known))}"
                )
            config = read_config(known[name])
            pipeline = Pipeline.of(known[name], config)
            for called in pipeline.loaded if pipeline else ():
                configs.setdefault(called, _read(folder, called))
            configs[name] = config
        return cls(folder, configs, tuple(names))

    @cached_property
    def pipelines(self) -> tuple[Pipeline, ...]:
        """Those of the models that are asked, in their order; a model that calls none is a pipeline
        of one step.
        """
        if self.pipeline is not None:
            return (self.pipeline,)
        return tuple(
            Pipeline.of(self.folder / name, self.configs[name]) or Pipeline(name, (Step(name),))
            for name in self.asked
        )

    @cached_property
    def tuned(self) -> tuple[str, ...]:
        """The models whose settings vary: an ensemble has none of its own."""
        return tuple(n for n, config in self.configs.items() if not config.HasField(_ENSEMBLE))

    def fit(self, space: SearchSpace, may_be_empty: bool = False) -> SearchSpace:
        """The space of all models together: what is said without a model counts for each one, what
        is said of a model for it alone. SpaceError if it names another model, or nothing is left,
        unless it ``may_be_empty``.
        """
        named = by_model(dict.fromkeys(space.parameters, True))
        for model in named:
            if model and model not in self.tuned:
                path = next(path for path in space.parameters if model_of(path) == model)
                raise SpaceError(
                    f"{space.place(path)}: {model} is not among the models that are tuned"
                    f"{did_you_mean(model, sorted(self.tuned))}"
                )
        parameters, places = {}, {}
        if RATE_LIMIT in space.parameters and len(self.tuned) > 1:
            parameters[RATE_LIMIT] = space.parameters[RATE_LIMIT].including(0)
            places[RATE_LIMIT] = space.place(RATE_LIMIT)
        for model in self.tuned:
            fitted = fit_space(_space_of(space, model), self.configs[model], may_be_empty=True)
            for path, parameter in fitted.parameters.items():
                parameters[of_model(model, path)] = parameter
                places[of_model(model, path)] = fitted.place(path)
        if not parameters and not may_be_empty:
            raise SpaceError(
                f"no parameter of the search space {space.name!r} applies to any of "
                f"{', '.join(self.tuned)}"
            )
        together = space.model_copy(update={"parameters": dict(sorted(parameters.items()))})
        together._places = places
        return together

    def own_settings(self, space: SearchSpace) -> dict[str, Value]:
        """The models' own values of a space that was fitted."""
        found: dict[str, Value] = {}
        for model, paths in by_model(space.parameters).items():
            if not model:
                found[RATE_LIMIT] = 0
                continue
            own = own_settings(space.model_copy(update={"parameters": paths}), self.configs[model])
            found.update({of_model(model, path): value for path, value in own.items()})
        return found

    def render(self, candidate: Candidate) -> dict[str, Any]:
        """The configurations of a candidate, of all models; ModelConfigError if it names another
        one, or Triton would refuse one of them.

        Triton loads no ensemble with larger batches than its steps take: it follows them down.
        """
        others = {path for path, _ in candidate.settings if not model_of(path)} - {RATE_LIMIT}
        if others:
            raise ModelConfigError(
                f"{min(others)}: say of which model, such as {self.tuned[0]}/{min(others)}"
            )
        for model in candidate.models:
            if model and model not in self.tuned:
                where = f"{model} is not among the models that are tuned"
                raise ModelConfigError(f"{where}{did_you_mean(model, sorted(self.tuned))}")
        rendered = {
            name: render(config, candidate.part(name)) for name, config in self.configs.items()
        }
        if candidate.get(RATE_LIMIT):
            for name in self.tuned:
                _take_turns(rendered[name])
        for name, config in rendered.items():
            if config.HasField(_ENSEMBLE) and config.max_batch_size:
                config.max_batch_size = min(config.max_batch_size, _largest(config, rendered))
            check_config(config, name)
        return rendered

    def with_configs(self, configs: Mapping[str, Any]) -> "Repository":
        """With other configurations of some models."""
        return replace(self, configs={**self.configs, **configs})


def models_in(folder: Path) -> dict[str, Path]:
    """The folders of models in a repository, by their names; those with a config.pbtxt."""
    return {path.parent.name: path.parent for path in sorted(folder.glob(f"*/{CONFIG}"))}


def is_repository(folder: Path) -> bool:
    """Whether it is not a model itself, and contains some."""
    return not (folder / CONFIG).is_file() and bool(models_in(folder))


def server_flags(candidate: Candidate) -> tuple[str, ...]:
    """Flags of tritonserver that a candidate needs."""
    limit = candidate.get(RATE_LIMIT)
    if not limit:
        return ()
    return ("--rate-limit=execution_count", f"--rate-limit-resource={_RESOURCE}:{limit}")


def _take_turns(config: Any) -> None:
    """Each execution needs one of the resource that all models share."""
    if not config.instance_group:
        config.instance_group.add()
    for group in config.instance_group:
        if any(each.name == _RESOURCE for each in group.rate_limiter.resources):
            continue
        resource = group.rate_limiter.resources.add()
        resource.name, resource.count = _RESOURCE, 1
        setattr(resource, "global", True)


def text_of(configs: Mapping[str, Any]) -> str:
    """The configuration; of several models, all of them, each below the name of its file."""
    if len(configs) == 1:
        return to_text(*configs.values())
    return "\n".join(f"# {name}/{CONFIG}\n{to_text(config)}" for name, config in configs.items())


def _largest(ensemble: Any, configs: Mapping[str, Any]) -> int:
    """The largest batch that all of its steps take; its own where they do not say."""
    steps = {step.model_name for step in ensemble.ensemble_scheduling.step}
    sizes = [int(configs[name].max_batch_size) for name in steps if name in configs]
    return min([size for size in sizes if size], default=int(ensemble.max_batch_size))


def configs_of(text: str) -> dict[str, str]:
    """What ``text_of`` made the text of, by model; a single one has no name."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in text.splitlines(keepends=True):
        if header := _HEADER.fullmatch(line.strip()):
            name = header[1]
        else:
            found.setdefault(name, []).append(line)
    return {name: "".join(lines) for name, lines in found.items()}


def _space_of(space: SearchSpace, model: str) -> SearchSpace:
    """The part of a space that counts for one model, without its name."""
    paths = [p for p in space.parameters if not model_of(p)]
    paths += [p for p in space.parameters if model_of(p) == model]
    paths = [path for path in paths if path != RATE_LIMIT]
    own = space.model_copy(update={"parameters": {field_of(p): space.parameters[p] for p in paths}})
    own._places = {field_of(path): space.place(path) for path in paths}
    return own


def _read(folder: Path, name: str) -> Any:
    """Also of a model without config.pbtxt, of which Triton derives it."""
    if (folder / name / CONFIG).is_file():
        return read_config(folder / name)
    return ModelConfig(name=name)
