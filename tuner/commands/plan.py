"""An experiment with its model read and its space fitted: what can be told before all else."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from tuner.commands.workplace import relative_path
from tuner.deployments.triton import Inputs
from tuner.errors import UsageError
from tuner.experiment.model import DEFAULT_SPACE, SPACE_OF_SEVERAL, Experiment
from tuner.goals.sla import Sla
from tuner.load.arrivals import CLOSED, Arrivals
from tuner.load.mix import Mix
from tuner.model.config import (
    check_config,
    check_measurable,
    check_name,
    complete,
    fit_space,
    is_complete,
    own_settings,
    read_config,
    render,
)
from tuner.model.parameter import Value
from tuner.model.pipeline import Pipeline
from tuner.model.repository import Repository, is_repository, models_in
from tuner.model.space import Candidate, SearchSpace, did_you_mean, field_of, model_of
from tuner.model.space_file import load_space
from tuner.records.manifest import RecordedStep
from tuner.servers.address import attach
from tuner.servers.base import Endpoints


@dataclass(frozen=True)
class Plan:
    """Nothing is started or written for one. ``own`` are the model's own settings, ``endpoints``
    those of the server to attach to, if so. Of several models that are tuned together there is a
    ``repository``, and a ``mix`` of those that are asked side by side; ``config`` is then that of
    the first one that is asked.
    """

    experiment: Experiment
    config: Any
    space: SearchSpace
    own: dict[str, Value]
    endpoints: Endpoints | None = None
    tunes: bool = True
    repository: Repository | None = None
    mix: Mix | None = None

    @classmethod
    def of(cls, experiment: Experiment, tunes: bool = True) -> "Plan":
        """UsageError where options do not go together, or the model or the space is unfit; unless
        it ``tunes``, no parameter of the search space need apply to the model.
        """
        if experiment.load_engine == "perf_analyzer" and experiment.shared_memory != "none":
            raise UsageError("--shared-memory goes with --load-engine tuner, not perf_analyzer")
        endpoints = _endpoints(experiment)
        if is_repository(experiment.model):
            return cls._of_several(experiment, tunes)
        for option, given in (("--mix", experiment.mix), ("--hold", experiment.hold)):
            if given:
                raise UsageError(
                    f"{option} goes with several models: give the folder that contains them, such "
                    f"as {relative_path(experiment.model.parent)}"
                )
        config = read_config(experiment.model)
        experiment = experiment.model_copy(update={"sla": _of_one(experiment.sla, config.name)})
        called = experiment.bls_composing_models
        if endpoints is not None and called:
            raise UsageError("--bls-composing-models needs a server of tuner's own, without --url")
        if called == (DISCOVER,):  # with the first server
            called = ()
        if endpoints is None:  # only its operators have the models that an attached server has
            repository = Repository.of_pipeline(experiment.model, config, called)
            if repository is not None:
                return cls._together(experiment, repository, None, tunes)
        strict = tunes and is_complete(config)
        return cls._fitted(experiment, config, endpoints, tunes, strict)

    @classmethod
    def _fitted(
        cls,
        experiment: Experiment,
        config: Any,
        endpoints: Endpoints | None,
        tunes: bool,
        strict: bool,
    ) -> "Plan":
        """``strict``: some of the space has to apply to the model."""
        check_measurable(config)
        for name in experiment.load_models:
            check_name(name)
        if config.response_cache.enable:
            _check_cached(experiment)
        whole = load_space(experiment.space)
        space = fit_space(whole, config, may_be_empty=not strict)
        own = own_settings(space, config)
        return cls(experiment, config, space, own, endpoints, tunes)

    @classmethod
    def _of_several(cls, experiment: Experiment, tunes: bool) -> "Plan":
        """Of a folder of models that are asked side by side."""
        if experiment.attaches:
            raise UsageError(
                "several models are tuned on servers of tuner's own; to measure one of them on a "
                "running server, name it"
            )
        for option, value, other in (
            ("--load-engine", experiment.load_engine, "tuner"),
            ("--load", experiment.load == CLOSED, False),
            ("--model-version", experiment.model_version, ""),
        ):
            if value != other:
                raise UsageError(f"{option} goes with a single model, not with several")
        if experiment.bls_composing_models:
            raise UsageError(
                "--bls-composing-models goes with one model that calls them; of a mix, load them "
                "with --load-model"
            )
        if experiment.cache_hits:
            raise UsageError("--cache-hits goes with a single model, not with several")
        mix = _mix_of(experiment)
        repository = Repository.of_models(experiment.model, mix.models)
        sla = experiment.sla.of_each(mix.models)
        experiment = experiment.model_copy(
            update={"sla": sla, "mix": Mix(mix.weights), "hold": dict(mix.held)}
        )
        return cls._together(experiment, repository, mix, tunes)

    @classmethod
    def _together(
        cls, experiment: Experiment, repository: Repository, mix: Mix | None, tunes: bool
    ) -> "Plan":
        if experiment.model_version:
            raise UsageError("--model-version goes with a single model, not with a pipeline")
        for name in repository.asked:
            check_measurable(repository.configs[name])
        for name, config in repository.configs.items():
            check_name(name)
            if not config.response_cache.enable:
                continue
            if name not in repository.asked and experiment.input_data is None:
                raise UsageError(
                    f"{name} has a response cache, and what it is asked would repeat: switch it "
                    "off, or give requests of your traffic with --input-data"
                )
            if mix is not None:
                raise UsageError(
                    f"{name} has a response cache, which is not supported where several models are "
                    "asked side by side; switch it off, or tune the models one by one"
                )
        if repository.configs[repository.asked[0]].response_cache.enable:
            _check_cached(experiment)
        if experiment.space == DEFAULT_SPACE and len(repository.tuned) > 1:
            experiment = experiment.model_copy(update={"space": SPACE_OF_SEVERAL})
        space = repository.fit(load_space(experiment.space), may_be_empty=not tunes)
        first = repository.configs[repository.asked[0]]
        own = repository.own_settings(space)
        return cls(experiment, first, space, own, None, tunes, repository, mix)

    @property
    def is_complete(self) -> bool:
        """Whether the configurations leave nothing to Triton that decides what can be tuned."""
        if self.repository is None:
            return is_complete(self.config)
        return all(is_complete(self.repository.configs[name]) for name in self.repository.tuned)

    def render(self, candidate: Candidate) -> Mapping[str, Any]:
        """The configurations of a candidate, by model; ModelConfigError where Triton would refuse
        one.
        """
        if self.repository is not None:
            return self.repository.render(candidate)
        config = render(self.config, candidate)
        check_config(config, self.config.name)
        return {self.config.name: config}

    def completed(self, in_force: Mapping[str, Any]) -> "Plan":
        """With what the server made of the configurations; raises as ``of``."""
        if self.repository is None:
            config = complete(self.config, in_force[self.config.name])
            check_config(config, f"the configuration of {config.name} in force")
            return self._fitted(self.experiment, config, self.endpoints, self.tunes, self.tunes)
        configs = self.repository.configs
        whole = {name: complete(configs[name], found) for name, found in in_force.items()}
        repository = self.repository.with_configs(whole)
        return self._together(self.experiment, repository, self.mix, self.tunes)

    @cached_property
    def inputs(self) -> Inputs:
        """What requests hold."""
        return self.contents[self.config.name]

    @cached_property
    def contents(self) -> Mapping[str, Inputs]:
        """What requests to each model hold that is asked."""
        experiment = self.experiment
        names = (self.config.name,) if self.repository is None else self.repository.asked
        several = len(names) > 1
        return {
            name: Inputs(
                experiment.seed,
                _shapes_of(name, experiment.shapes) if several else dict(experiment.shapes),
                _input_data_of(name, experiment.input_data) if several else experiment.input_data,
                experiment.batch,
            )
            for name in names
        }

    def changed(self, **fields: Any) -> "Plan":
        """With other values of some fields of the experiment."""
        return replace(self, experiment=self.experiment.model_copy(update=fields))

    @cached_property
    def recorded(self) -> Mapping[str, Any]:
        """What every manifest says of it."""
        experiment, load = self.experiment, self.experiment.load
        storage = experiment.storage
        changes = {
            "model": relative_path(experiment.model),
            "storage": None if storage is None else _shown(storage),
        }
        configs = [self.config] if self.repository is None else self.repository.configs.values()
        config = b"".join(each.SerializeToString(deterministic=True) for each in configs)
        return {
            "experiment": experiment.model_copy(update=changes),
            "space": self.space,
            "config_sha256": hashlib.sha256(config).hexdigest(),
            "trace_sha256": load.sha256 if isinstance(load, Arrivals) else None,
            "pipeline": self._steps,
        }

    @property
    def _steps(self) -> tuple[RecordedStep, ...]:
        pipeline = None if self.repository is None else self.repository.pipeline
        steps = () if pipeline is None or pipeline.called else pipeline.steps
        return tuple(RecordedStep(model=step.model, after=step.after) for step in steps)


DISCOVER = "auto"
"""In place of the names of models that a model calls: find them with one request."""


def _of_one(sla: Sla, model: str) -> Sla:
    """Bounds that may name the only model; UsageError if they name another."""
    named = [each for each in sla.models if each != model]
    if named:
        raise UsageError(f"--sla names {named[0]}, and only {model} is measured")
    return Sla(tuple(sorted({replace(bound, model="") for bound in sla.bounds})))


def _mix_of(experiment: Experiment) -> Mix:
    """That of the experiment; else all models that have an SLA of their own, alike, or all that
    clients may call. UsageError if it names one that is not there.
    """
    folder, held = experiment.model, dict(experiment.hold)
    known = sorted(models_in(folder))
    named = experiment.mix.models if experiment.mix else ()
    for option, names in (("--mix", named), ("--hold", held), ("--sla", experiment.sla.models)):
        for name in names:
            if name not in known:
                raise UsageError(
                    f"{option} names {name}: {folder} has no such model{did_you_mean(name, known)}"
                )
    mix = experiment.mix
    if mix is None:
        names = experiment.sla.models or _called_by_clients(folder)
        mix = Mix.equal(tuple(dict.fromkeys((*names, *held))))
    return mix.holding(held) if held else mix


def _called_by_clients(folder: Path) -> tuple[str, ...]:
    """The models that are no step of another."""
    models = models_in(folder)
    steps: set[str] = set()
    for model in models.values():
        pipeline = Pipeline.of(model, read_config(model))
        steps.update(pipeline.loaded if pipeline else ())
    return tuple(name for name in models if name not in steps)


def _shapes_of(model: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Of ``detector/image:3,224,224``, those of one model."""
    for name in shapes:
        if not model_of(name):
            raise UsageError(
                f"--shape {name} says nothing of the model; write it like detector/{name}:…"
            )
    return {field_of(name): dims for name, dims in shapes.items() if model_of(name) == model}


def _input_data_of(model: str, folder: Path | None) -> Path | None:
    """The file of one model in a folder of them; None where it has none."""
    if folder is None:
        return None
    if not os.path.isdir(folder):
        raise UsageError(
            f"--input-data {folder}: of several models, give a folder with a file MODEL.json of "
            "each"
        )
    file = folder / f"{model}.json"
    return file if os.path.isfile(file) else None


def _check_cached(experiment: Experiment) -> None:
    """UsageError where requests to a model with a response cache would all be the same."""
    if experiment.input_data is not None:
        if experiment.cache_hits:
            raise UsageError("--cache-hits goes with made-up requests, not with --input-data")
        return
    for option, value, other in (
        ("--load-engine", experiment.load_engine, "tuner"),
        ("--shared-memory", experiment.shared_memory, "none"),
    ):
        if value != other:
            raise UsageError(
                f"{experiment.model.name} has a response cache, and with {option} {value} requests "
                f"repeat: use {option} {other}, or give those of your traffic with --input-data"
            )


def _shown(storage: str) -> str:
    """A storage's URL as it is recorded."""
    from tuner.optimizer.storage import hide_password  # with all of Optuna

    return hide_password(storage)


def _endpoints(experiment: Experiment) -> Endpoints | None:
    """Those to attach to, if so; UsageError where options do not go together."""
    security = experiment.security()
    if not experiment.attaches or experiment.url is None:
        return None
    endpoints = attach(experiment.url, experiment.grpc_url, security)
    if experiment.load_engine == "perf_analyzer" and (endpoints.tls or security.headers):
        raise UsageError(
            "TLS, --header and --token-env go with --load-engine tuner, not perf_analyzer: secrets "
            "on its command line could be seen by all users of this machine"
        )
    return endpoints
