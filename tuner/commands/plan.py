"""An experiment with its model read and its space fitted: what can be told before all else."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from tuner.commands.workplace import relative_path
from tuner.deployments.triton import Inputs
from tuner.errors import UsageError
from tuner.experiment.model import Experiment
from tuner.load.arrivals import Arrivals
from tuner.model.config import (
    check_config,
    check_measurable,
    check_name,
    fit_space,
    is_complete,
    own_settings,
    read_config,
)
from tuner.model.parameter import Value
from tuner.model.pipeline import Pipeline
from tuner.model.space import SearchSpace
from tuner.model.space_file import load_space
from tuner.servers.address import attach
from tuner.servers.base import Endpoints


@dataclass(frozen=True)
class Plan:
    """Nothing is started or written for one. ``own`` are the model's own settings, ``endpoints``
    those of the server to attach to, if so. ``pipeline`` are the steps of an ensemble.
    """

    experiment: Experiment
    config: Any
    space: SearchSpace
    own: dict[str, Value]
    endpoints: Endpoints | None = None
    tunes: bool = True
    pipeline: Pipeline | None = None

    @classmethod
    def of(cls, experiment: Experiment, tunes: bool = True) -> "Plan":
        """UsageError where options do not go together, or the model or the space is unfit; unless
        it ``tunes``, no parameter of the search space need apply to the model.
        """
        if experiment.load_engine == "perf_analyzer" and experiment.shared_memory != "none":
            raise UsageError("--shared-memory goes with --load-engine tuner, not perf_analyzer")
        endpoints = _endpoints(experiment)
        config = read_config(experiment.model)
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
        # Only the other server's operators have the models that an attached one serves.
        pipeline = Pipeline.of(experiment.model, config) if endpoints is None else None
        own = own_settings(space, config)
        return cls(experiment, config, space, own, endpoints, tunes, pipeline)

    def with_config(self, config: Any) -> "Plan":
        """With what the server made of the model's configuration; raises as ``of``."""
        check_config(config, f"the configuration of {config.name} in force")
        return self._fitted(self.experiment, config, self.endpoints, self.tunes, self.tunes)

    @cached_property
    def inputs(self) -> Inputs:
        """What requests hold."""
        experiment = self.experiment
        shapes = dict(experiment.shapes)
        return Inputs(experiment.seed, shapes, experiment.input_data, experiment.batch)

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
        config = self.config.SerializeToString(deterministic=True)
        return {
            "experiment": experiment.model_copy(update=changes),
            "space": self.space,
            "config_sha256": hashlib.sha256(config).hexdigest(),
            "trace_sha256": load.sha256 if isinstance(load, Arrivals) else None,
        }


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
