"""Optuna's samplers, and those of OptunaHub, by the name that ``--sampler`` takes."""

import inspect
import os
import warnings
from importlib.util import find_spec
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler

from tuner.errors import UsageError

HUB = "hub:"
_STARTUP_TRIALS = 6
"""Random ones before TPE or a Gaussian process has a say: as few as tell anything of about four
parameters, since each takes ten seconds to measure. Optuna's own 10 suit cheaper ones.
"""


def make_sampler(name: str, seed: int) -> BaseSampler:
    """``tpe``, ``gp``, ``random``, or one of OptunaHub as in ``hub:samplers/auto_sampler``.

    UsageError if there is no such sampler, or a package that it needs is missing.
    """
    if name.startswith(HUB):
        return _hub_sampler(name.removeprefix(HUB), seed)
    match name:
        case "random":
            return optuna.samplers.RandomSampler(seed=seed)
        case "gp":
            _require("torch", "--sampler gp", "torch")
            return optuna.samplers.GPSampler(
                seed=seed,
                n_startup_trials=_STARTUP_TRIALS,
                independent_sampler=optuna.samplers.TPESampler(seed=seed),
                warn_independent_sampling=False,  # conditional parameters, as a matter of course
            )
        case "tpe":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)  # group: conditional spaces
                return optuna.samplers.TPESampler(
                    seed=seed,
                    multivariate=True,
                    group=True,
                    n_startup_trials=_STARTUP_TRIALS,
                    constant_liar=True,  # what others on the study have in hand is no news
                )
    raise UsageError(
        f"no sampler is named {name!r}; choose simulation, tpe, gp, random or {HUB}NAME"
    )


def _hub_sampler(package: str, seed: int) -> BaseSampler:
    """From the registry or, if the package is a path such as ./samplers/mine, from there."""
    option = f"--sampler {HUB}{package}"
    _require("optunahub", option, "hub")
    import optunahub

    try:
        if package.startswith((".", os.sep)):
            folder = os.path.abspath(package)
            module = optunahub.load_local_module(folder.lstrip(os.sep), registry_root=os.sep)
        else:
            module = optunahub.load_module(package)
    except Exception as error:  # a download by git, and the package's own code
        reason = str(error).strip().splitlines()
        raise UsageError(
            f"{option} could not be loaded: {reason[-1] if reason else type(error).__name__}"
        ) from error
    kinds = [
        each
        for each in vars(module).values()
        if inspect.isclass(each)
        and issubclass(each, BaseSampler)
        and each.__module__.startswith(module.__name__)
    ]
    if len(kinds) != 1:
        listed = ", ".join(each.__name__ for each in kinds) or "none"
        raise UsageError(f"{option} must name a package with exactly one sampler; it has {listed}")
    return _construct(kinds[0], option, seed)


def _construct(kind: type[BaseSampler], option: str, seed: int) -> BaseSampler:
    options: dict[str, Any] = {}
    if "seed" in inspect.signature(kind).parameters:
        options["seed"] = seed
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return kind(**options)
    except (TypeError, ImportError) as error:
        raise UsageError(f"{option} cannot be used: {error}") from error


def _require(module: str, option: str, extra: str) -> None:
    if find_spec(module) is None:
        raise UsageError(
            f"{option} needs the package {module}: pip install 'triton-tuner[{extra}]'"
        )
