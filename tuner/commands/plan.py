"""An experiment with its model read and its space fitted: what can be told before all else."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from tuner.commands.workplace import relative_path
from tuner.errors import UsageError
from tuner.experiment.model import Experiment
from tuner.load.arrivals import Arrivals
from tuner.model.config import fit_space, own_settings, read_config
from tuner.model.space import SearchSpace, Value
from tuner.model.space_file import load_space
from tuner.servers.address import attach
from tuner.servers.base import Endpoints


@dataclass(frozen=True)
class Plan:
    """Nothing is started or written for one. ``own`` are the model's own settings, ``endpoints``
    those of the server to attach to, if so.
    """

    experiment: Experiment
    config: Any
    space: SearchSpace
    own: dict[str, Value]
    endpoints: Endpoints | None = None

    @classmethod
    def of(cls, experiment: Experiment) -> "Plan":
        """UsageError where options do not go together, or the model or the space is unfit."""
        if experiment.load_engine == "perf_analyzer" and experiment.shared_memory != "none":
            raise UsageError("--shared-memory goes with --load-engine tuner, not perf_analyzer")
        endpoints = _endpoints(experiment)
        config = read_config(experiment.model)
        space = fit_space(load_space(experiment.space), config)
        return cls(experiment, config, space, own_settings(space, config), endpoints)

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
