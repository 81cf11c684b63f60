"""Several searches on one Optuna study: what each may know of the trials of the others.

A trial of a shared study has two more user attributes: ``run``, the id of the run that measures it,
and ``record``, its evaluation as JSON, which the other searches take into their records.
"""

import json
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback, fail_stale_trials
from optuna.storages._heartbeat import BaseHeartbeat, get_heartbeat_thread
from optuna.trial import FrozenTrial, TrialState
from pydantic import ValidationError

from tuner.errors import UsageError
from tuner.model.space import Candidate
from tuner.records.results import Evaluation

RUN = "run"
_RECORD = "record"
_EXPERIMENT = "experiment"
_SHOWN = 60
"""Characters of a value in a message."""


@dataclass(frozen=True)
class SharingSettings:
    """When a search that was killed elsewhere counts as gone, in seconds (whole, for Optuna)."""

    heartbeat: int = 15
    """Between the signs of life of a trial that is measured: few for a database."""
    grace: int = 90
    """Without one, until the trial is tried by another: a machine may stall for a minute."""


SETTINGS = SharingSettings()


def open_storage(url: str) -> RDBStorage:
    """A storage in which a trial whose search was killed is enqueued again, by any other."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return RDBStorage(
            url,
            heartbeat_interval=SETTINGS.heartbeat,
            grace_period=SETTINGS.grace,
            heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(max_retry=1),
        )


@dataclass(frozen=True)
class Sharing:
    """The part of one run, by its ``run`` id, shown to the others by its ``name``, in a study that
    others share.
    """

    run: str
    name: str

    def join(self, study: optuna.Study, experiment: Mapping[str, Any]) -> None:
        """UsageError if the study's trials are of another experiment, or another kind of machine:
        then its capacities mean something else.
        """
        own = json.loads(json.dumps(dict(experiment)))
        known = study.user_attrs.get(_EXPERIMENT)
        if known is None:
            study.set_user_attr(_EXPERIMENT, own)
            known = study.user_attrs[_EXPERIMENT]  # that of another, which joins at this moment
        for key in sorted(known.keys() | own.keys()):
            if known.get(key) != own.get(key):
                raise UsageError(
                    f"the study {study.study_name} is of another experiment: {key} is "
                    f"{_short(known.get(key))} there and {_short(own.get(key))} here; choose "
                    "another --study-name"
                )

    def take(self, study: optuna.Study, trial: optuna.Trial) -> None:
        """Say that the trial is this run's. UpdateFinishedTrialError if it was given up."""
        trial.set_user_attr(RUN, self.run)
        self.beat(study, trial._trial_id)

    def beat(self, study: optuna.Study, trial_id: int) -> None:
        """A sign of life of a trial: without any, it would be in hand for ever."""
        storage = study._storage
        if isinstance(storage, BaseHeartbeat):
            storage.record_heartbeat(trial_id)

    def in_hand_before(self, study: optuna.Study, number: int) -> list[FrozenTrial]:
        """What others have in hand that they asked for before a trial of that number."""
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return [each for each in running if each.number < number and not self.is_own(each)]

    @contextmanager
    def alive(self, study: optuna.Study, trial: optuna.Trial) -> Iterator[None]:
        """Give signs of life for as long as the context."""
        with get_heartbeat_thread(trial._trial_id, study._storage):
            yield

    def key(self, attribute: str) -> str:
        """An attribute of the study that is this run's alone."""
        return f"{attribute}:{self.run}"

    def is_own(self, trial: FrozenTrial) -> bool:
        return bool(trial.user_attrs.get(RUN) == self.run)

    def release_lost(self, study: optuna.Study) -> None:
        """Enqueue again what searches had in hand that are gone."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            fail_stale_trials(study)

    def record(self, evaluation: Evaluation) -> dict[str, str]:
        """What the others are told besides: the evaluation with the probe next to its capacity,
        whose samples stay here.
        """
        near = evaluation.at_capacity()
        probes = () if near is None else (near.model_copy(update={"samples": None}),)
        told = evaluation.model_copy(update={"probes": probes, "measured_by": self.name})
        return {_RECORD: told.model_dump_json(exclude_defaults=True)}

    def of_others(self, study: optuna.Study, known: Collection[Candidate]) -> Iterator[Evaluation]:
        """What the others measured of candidates that are not known yet."""
        states = (TrialState.COMPLETE, TrialState.PRUNED)
        for trial in study.get_trials(deepcopy=False, states=states):
            text = trial.user_attrs.get(_RECORD)
            if text is None or self.is_own(trial):
                continue
            try:
                evaluation = Evaluation.model_validate_json(text)
            except ValidationError:  # of another version of tuner: its value still counts
                continue
            if evaluation.candidate not in known:
                yield evaluation.model_copy(update={"trial": trial.number})


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
