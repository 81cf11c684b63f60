"""What the records of a run say, in plain words: the answer, and what limits its worth."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isinf
from typing import Literal

from tuner.analysis.comparison import cpu_steal, disagreement, drift, gain, refutation
from tuner.goals.sla import Sla
from tuner.model.space import format_value
from tuner.records.manifest import Manifest
from tuner.records.results import (
    Evaluation,
    Outcome,
    ProbeRecord,
    State,
    baseline,
    best,
    closest,
)
from tuner.report import style
from tuner.report.yardstick import Yardstick
from tuner.stats.samples import Samples
from tuner.units import format_rate

NBSP = "\N{NO-BREAK SPACE}"
_SAME = 0.02
"""A gain up to this share is no gain: capacities are found in steps of about that size."""


@dataclass(frozen=True)
class Subject:
    """One of the two candidates that figures compare, with the evaluation that counts for it."""

    name: Literal["baseline", "winner", "closest"]
    evaluation: Evaluation

    @property
    def colour(self) -> str:
        return style.BASELINE if self.name == "baseline" else style.WINNER

    @property
    def label(self) -> str:
        """``winner, 431/s``: for a legend."""
        yardstick = Yardstick.of([self.evaluation])
        value = yardstick.value(self.evaluation)
        return self.name if value is None else f"{self.name}, {yardstick.show(value)}"


def winner(evaluations: list[Evaluation]) -> Evaluation | None:
    """The search's winner or, in a run that only measured, what reached the highest rate."""
    measured = [e for e in evaluations if e.phase == "measure" and e.merit is not None]
    return best(evaluations) or max(measured, key=lambda e: e.merit or 0.0, default=None)


def subjects(evaluations: list[Evaluation]) -> list[Subject]:
    """Baseline and winner, as far as they exist; one where the baseline is the winner.

    Where nothing meets the Sla, what came closest stands in the winner's place.
    """
    found, first = [], baseline(evaluations)
    last, nearest = winner(evaluations), closest(evaluations)
    if first is not None:
        found.append(Subject("baseline", first))
    if last is not None and (first is None or not same(first, last)):
        found.append(Subject("winner", last))
    if last is None and nearest is not None and (first is None or not same(first, nearest)):
        found.append(Subject("closest", nearest))
    return found


def same(one: Evaluation, other: Evaluation) -> bool:
    """Whether two records are of the same candidate."""
    return one.candidate == other.candidate or (one.baseline and other.baseline)


def probes_of(evaluations: list[Evaluation], subject: Evaluation) -> list[ProbeRecord]:
    """All probes of a candidate, from whatever phase."""
    return [probe for e in evaluations if same(e, subject) for probe in e.probes]


def raw_at_capacity(evaluation: Evaluation, samples: Mapping[str, Samples]) -> Samples | None:
    """The raw samples of the probe that shows the capacity, where they are at hand."""
    probe = evaluation.at_capacity()
    return samples.get(probe.samples) if probe is not None and probe.samples else None


@dataclass(frozen=True)
class Story:
    manifest: Manifest
    evaluations: list[Evaluation]
    outcome: Outcome | None = None

    @property
    def sla(self) -> Sla:
        return self.manifest.experiment.sla

    @property
    def winner(self) -> Evaluation | None:
        return winner(self.evaluations)

    @property
    def baseline(self) -> Evaluation | None:
        return baseline(self.evaluations)

    @property
    def closest(self) -> Evaluation | None:
        return closest(self.evaluations)

    @property
    def subjects(self) -> list[Subject]:
        return subjects(self.evaluations)

    @property
    def yardstick(self) -> Yardstick:
        return Yardstick.of(self.evaluations)

    @property
    def promise(self) -> str:
        """The Sla and the constraints, in words; and the rate, where one was given."""
        sla = str(self.sla)
        objective = self.yardstick.objective
        if objective is not None:
            sla += f" at {format_rate(objective.rate)}"
        return ", ".join([sla, *map(str, self.manifest.experiment.constraints)])

    @property
    def gain(self) -> float | None:
        """Winner's capacity over the baseline's, or the baseline's cost over the winner's; None
        unless both have one.
        """
        if self.winner is None or self.baseline is None or not self.baseline.merit:
            return None
        ratio = gain(self.winner, self.baseline)
        if ratio is not None:
            return ratio.value
        return (self.winner.merit or 0.0) / self.baseline.merit

    @property
    def gain_range(self) -> tuple[float, float] | None:
        """The 95 % interval of the gain; None where the two were not measured by turns."""
        first, last = self.baseline, self.winner
        if first is None or last is None or same(first, last):
            return None
        ratio = gain(last, first)
        return None if ratio is None else (ratio.low, ratio.high)

    @property
    def candidates(self) -> int:
        return len({e.candidate for e in self.evaluations})

    def not_measured(self) -> dict[str, list[str]]:
        """Of each parameter, the values of its list that no candidate had."""
        found = {}
        for path, parameter in self.manifest.space.parameters.items():
            seen = {format_value(e.candidate.get(path)) for e in self.evaluations}
            listed = [format_value(value) for value in parameter.values or ()]
            lacking = [word for word in listed if word not in seen]
            if lacking:
                found[path] = lacking
        return found

    def headline(self) -> str:
        if not self.evaluations:
            return "Nothing has been measured yet"
        if self.winner is None:
            return f"No candidate keeps {self.promise}"
        yardstick = self.yardstick
        if yardstick.objective is not None:
            return self._cost_headline(self.winner, yardstick)
        rate = f"{format_rate(self.winner.capacity)} within {self.promise}"
        if self.baseline is not None and same(self.winner, self.baseline):
            if self.candidates == 1:
                return f"The model as found serves {rate}"
            return "The configuration as found is the best of all that were measured"
        if self.gain is None:
            return rate
        if self.gain < 1 + _SAME:
            return f"No gain worth a change: {rate}"
        return f"{times(self.gain)} the requests within {self.promise}"

    def _cost_headline(self, winner: Evaluation, yardstick: Yardstick) -> str:
        value = yardstick.show(yardstick.value(winner))
        if self.baseline is not None and same(winner, self.baseline):
            return f"The configuration as found is the best of all: {yardstick.name} {value}"
        if self.gain is None or self.gain < 1 + _SAME:
            return f"{yardstick.name}: {value}"
        return f"{times(self.gain)} less {yardstick.name}: {value}"

    def answer(self) -> str:
        """One or two sentences below the headline."""
        if not self.evaluations:
            return "This page will fill as soon as the first candidate is done."
        first, last = self.baseline, self.winner
        if last is None:
            return self._how_near()
        yardstick = self.yardstick
        rate = yardstick.show(yardstick.value(last))
        if first is None:
            return f"{last.label}: {rate}. The model as found was not measured."
        if same(first, last):
            return f"{first.label}: {rate} within {self.promise}."
        if first.state is State.FAILED:
            return f"{last.label}: {rate}. The model as found could not be measured."
        if first.capacity is None:
            at = "at that rate" if yardstick.objective else "at any rate that was tried"
            return f"{last.label}: {rate}. The model as found does not keep the promise {at}."
        return f"{rate} instead of {yardstick.show(yardstick.value(first))}, with {last.label}."

    def _how_near(self) -> str:
        nearest = self.closest
        if nearest is None or nearest.margin is None:
            return "No candidate could be measured; the reasons are below."
        who = f"Closest came {nearest.label}"
        if nearest.baseline:
            who = f"Closest came the model as found ({nearest.label})"
        if isinf(nearest.margin):
            return f"{who}; even there failed requests reach the percentile."
        if nearest.margin <= 1 and nearest.cost is not None:
            return f"{who}: within the bound in most probes, but not in all that counted."
        if nearest.margin <= 1:
            return f"{who}: within the bound at face value, but too few requests to prove it."
        return f"{who}: it misses the bound by {percent(nearest.margin - 1)}."

    def warnings(self) -> list[str]:
        """What a reader must know before trusting the answer; empty is good news."""
        found = []
        if self.evaluations and self.baseline is None:
            found.append("The model as found was not measured: there is nothing to compare with.")
        if self.winner is not None and all(e.phase == "search" for e in self.evaluations):
            found.append(
                "Not confirmed: the figures come from the search alone, which measures each "
                "candidate once; the best of many such measurements tends to flatter."
            )
        for subject in self.subjects:
            found += self._doubts(subject)
        limited = sum(p.client_limited for e in self.evaluations for p in e.probes)
        if limited:
            found.append(
                f"Client-limited: {count(limited, 'probe')} broke the promise only because the "
                "client sent late. No capacity is taken from them: more --workers, or a machine of "
                "its own for the load, would show whether the server holds more."
            )
        told = (f(self.evaluations) for f in (refutation, drift, cpu_steal))
        return [*found, *filter(None, told), *gpu_doubts(self.evaluations)]

    def _doubts(self, subject: Subject) -> list[str]:
        evaluation, name = subject.evaluation, subject.name.capitalize()
        found = []
        if evaluation.client_limited:
            found.append(
                f"{name}: the client gave out before the server did, so the true capacity may be "
                "higher."
            )
        elif (
            evaluation.capacity is not None and evaluation.high is None and evaluation.cost is None
        ):
            found.append(
                f"{name}: no rate was found at which the promise breaks, so the true capacity may "
                "be higher."
            )
        unsteady = disagreement(evaluation)
        if unsteady:
            found.append(f"{name}: {unsteady}")
        confirmed = any(e.phase == "confirm" for e in self.evaluations)
        if confirmed and evaluation.phase != "confirm":
            found.append(f"{name}: taken from the search, not confirmed by a second measurement.")
        return found


def gpu_doubts(evaluations: list[Evaluation]) -> list[str]:
    """What the GPU went through while it was measured."""
    read = [p.gpu for e in evaluations for p in e.probes if p.gpu is not None]
    slowed = [gpu for gpu in read if gpu.throttled]
    shared = [gpu for gpu in read if gpu.others]
    found = []
    if slowed:
        reasons = ", ".join(dict.fromkeys(r for gpu in slowed for r in gpu.throttled))
        found.append(
            f"GPU throttled: in {count(len(slowed), 'probe')} of {len(read)} the GPU lowered "
            f"its clock ({reasons}). A power cap holds wherever that card serves; heat and "
            "hardware slowdowns belong to this machine and this hour, and cost capacity."
        )
    if shared:
        others = ", ".join(dict.fromkeys(o for gpu in shared for o in gpu.others))
        found.append(
            f"GPU in use by others: in {count(len(shared), 'probe')} of {len(read)} the server "
            f"shared its GPU with {others}. With the GPU to itself it may serve more."
        )
    return found


def times(ratio: float) -> str:
    """``2.3 ×``, with as many digits as can matter."""
    digits = 0 if ratio >= 20 else 1 if ratio >= 2 else 2
    return f"{ratio:.{digits}f}{NBSP}×"


def percent(share: float) -> str:
    value = 100 * share
    digits = f"{value:.3g}" if value > 90 else f"{value:.0f}" if value >= 10 else f"{value:.2g}"
    return f"{digits}{NBSP}%"


def count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
