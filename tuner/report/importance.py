"""Which settings made the difference, by PED-ANOVA over the measured candidates.

The method looks only at which candidates are among the best (https://arxiv.org/abs/2304.10255), so
a candidate that met the Sla at no rate ranks below all others and needs no invented capacity.
"""

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuner.model.parameter import Value
from tuner.model.space import format_value
from tuner.records.results import Evaluation, State

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution


@dataclass(frozen=True)
class ImportanceSettings:
    """How many candidates the evaluation needs, and which are the best of them."""

    candidates: int = 8
    """With fewer, the best are one or two, and any setting that they share would seem to matter."""
    best_share: float = 0.25
    """Of the candidates: the best quarter, as the figure's text says."""
    best: int = 3
    """At least so many are the best, for the same reason as above."""


SETTINGS = ImportanceSettings()


def importances(evaluations: list[Evaluation]) -> dict[str, float]:
    """Shares that sum to 1, by path, largest first; empty where the records do not show any."""
    ranked = _ranked(evaluations)
    seen = _values_seen(ranked)
    if len(ranked) < SETTINGS.candidates or not seen:
        return {}
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    study = _study([_as_trial(evaluation, seen) for evaluation in ranked])
    share = max(SETTINGS.best_share, SETTINGS.best / len(ranked))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that few trials say little: the figure says so itself
        shares = get_param_importances(
            study, evaluator=PedAnovaImportanceEvaluator(target_quantile=share), normalize=True
        )
    return dict(shares) if sum(shares.values()) > 0 else {}


def _study(trials: "list[optuna.trial.FrozenTrial]") -> "optuna.Study":
    """A study in memory, without the line that Optuna logs for each new one."""
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(direction="maximize")
    finally:
        optuna.logging.set_verbosity(verbosity)
    study.add_trials(trials)
    return study


def why_none(evaluations: list[Evaluation]) -> str:
    """The sentence that stands where the figure would."""
    if all(e.capacity is None for e in evaluations):
        return "No candidate has a capacity."
    measured = len(_ranked(evaluations))
    if measured < SETTINGS.candidates:
        return f"Needs at least {SETTINGS.candidates} measured candidates; this run has {measured}."
    return "The measured candidates differ too little."


def _ranked(evaluations: list[Evaluation]) -> list[Evaluation]:
    """What the search measured: one record per candidate, failures and client limits left out."""
    measured = {
        e.candidate: e
        for e in evaluations
        if e.phase == "search" and e.state is not State.FAILED and not e.client_limited
    }
    ranked = list(measured.values())
    return ranked if any(e.capacity is not None for e in ranked) else []


def _values_seen(evaluations: list[Evaluation]) -> dict[str, tuple[str, ...]]:
    seen: dict[str, dict[str, None]] = {}
    for evaluation in evaluations:
        for path, value in evaluation.candidate.settings:
            seen.setdefault(path, {})[_word(value)] = None
    return {path: tuple(words) for path, words in seen.items() if len(words) > 1}


def _as_trial(
    evaluation: Evaluation, seen: dict[str, tuple[str, ...]]
) -> "optuna.trial.FrozenTrial":
    from optuna.distributions import CategoricalDistribution
    from optuna.trial import create_trial

    params = {p: _word(v) for p, v in evaluation.candidate.settings if p in seen}
    distributions: dict[str, BaseDistribution] = {
        path: CategoricalDistribution(seen[path]) for path in params
    }
    value = (evaluation.merit if evaluation.cost else evaluation.estimate) or 0.0
    return create_trial(params=params, distributions=distributions, value=value)


def _word(value: Value) -> str:
    return format_value(value)
