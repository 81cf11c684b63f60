"""Profiles a model for the simulator: a few seconds of load on one server."""

import math
from dataclasses import dataclass

import numpy as np

from tuner.measurement.probe import Prober
from tuner.model.parameter import Parameter, Value
from tuner.model.space import (
    DYNAMIC_BATCHING,
    INSTANCE_COUNT,
    MAX_BATCH_SIZE,
    PREFERRED,
    QUEUE_DELAY,
    Candidate,
    SearchSpace,
    by_model,
)


@dataclass(frozen=True)
class CalibrationSettings:
    """How much load a calibration runs."""

    alone_seconds: float = 0.5
    """Seconds of one request at a time: the base of the service time, so it is measured longest."""
    window_seconds: float = 0.3
    """Seconds of any other window, where executions are short."""
    saturated_seconds: float = 0.6
    """Of the one window with all instances busy: it has no other beside it."""
    executions: int = 8
    """Executions in a window at least: their mean is then known to about a tenth of their scatter.
    """
    most_seconds: float = 3.0
    """Seconds of a window at most; a model too slow for that gets fewer windows."""
    most_counts: int = 3
    """Numbers of instances that are loaded, one among them: the simulator interpolates between
    them, and each costs a launch."""
    tries: int = 3
    """Largest batches that are tried where the larger ones do not load."""
    most_concurrency: int = 512
    """Most requests outstanding: more would only wait."""
    backlog: float = 2.0
    """Full batches outstanding per instance: one that is computed and one that waits."""
    hopeless: float = 1.5
    """Times the SLA's loosest limit: if a request alone takes longer, no rate meets the SLA."""


CALIBRATION = CalibrationSettings()
_GREEDY: dict[str, Value] = {DYNAMIC_BATCHING: True, PREFERRED: (), QUEUE_DELAY: 0}


@dataclass(frozen=True)
class CalibrationPlan:
    """What to load: the largest batches, on one instance and then on more of them.

    On one even if the space has only more: what an execution takes alone is seen there.
    """

    candidates: tuple[Candidate, ...]
    """The same with fewer and smaller batches, for where the largest do not fit."""
    counts: tuple[int | None, ...]
    """Numbers of several instances, ascending: Triton adds some to those that are there, which is
    quick, while ending one takes it seconds. None: as many as the model has.
    """

    @classmethod
    def of(cls, space: SearchSpace, own: dict[str, Value]) -> "CalibrationPlan":
        parts = by_model(space.parameters)
        if not any(parts):
            return cls._of_one(space, own)
        settings = by_model(own)
        plans = {
            model: cls._of_one(
                space.model_copy(update={"parameters": parameters}), settings.get(model, {})
            )
            for model, parameters in parts.items()
            if model
        }
        tries = max(len(plan.candidates) for plan in plans.values())
        candidates = (
            Candidate.together(
                {m: plan.candidates[min(n, len(plan.candidates) - 1)] for m, plan in plans.items()}
            )
            for n in range(tries)
        )
        counts = {count for plan in plans.values() for count in plan.counts}
        varied = tuple(sorted(count for count in counts if count is not None))
        several: tuple[int | None, ...] = _few(varied)[-(CALIBRATION.most_counts - 1) :]
        return cls(tuple(dict.fromkeys(candidates)), several or (None,))

    @classmethod
    def _of_one(cls, space: SearchSpace, own: dict[str, Value]) -> "CalibrationPlan":
        sizes = _numbers(space.parameters.get(MAX_BATCH_SIZE))
        varied = space.parameters.get(INSTANCE_COUNT)
        counts = [count for count in _few(_numbers(varied)) if count > 1]
        base = {**own, **{p: v for p, v in _GREEDY.items() if p in space.parameters}}
        base[INSTANCE_COUNT] = 1
        larger = [{**base, MAX_BATCH_SIZE: size} for size in reversed(sizes)] or [base]
        candidates = dict.fromkeys(Candidate.of(settings) for settings in larger)
        return cls(
            tuple(candidates)[: CALIBRATION.tries], (None,) if varied is None else tuple(counts)
        )

    def further(self, alone: float, longest: float) -> tuple[int | None, ...]:
        """The counts that are worth a look where a request alone takes so many seconds: of slow
        ones the highest, and none that cannot meet the SLA.
        """
        if alone > CALIBRATION.hopeless * longest:
            return ()
        return self.counts[-1:] if is_slow(alone) else self.counts


@dataclass(frozen=True)
class Sweep:
    """Mean seconds of an execution: of a request ``alone``, and of the fullest batches."""

    alone: float = 0.0
    full: float = 0.0


def sweep_concurrency(prober: Prober, largest: int, longest: float) -> Sweep:
    """Windows of one instance, or one on each GPU, from one request at a time to more than fill
    their ``largest`` batches, and back at one, since the first may have met a bad time.

    Of slow executions two windows have to do; and one where a request alone takes clearly more than
    the ``longest`` seconds of the SLA.
    """
    first = prober.sample_window(1, CALIBRATION.alone_seconds)
    if first is None:
        return Sweep()
    alone = full = first.mean
    steps = concurrencies(largest, first.items) if alone <= CALIBRATION.hopeless * longest else []
    if is_slow(alone):
        steps = steps[-1:]
    for concurrency in steps:
        window = prober.sample_window(
            concurrency,
            min(
                max(CALIBRATION.window_seconds, CALIBRATION.executions * alone),
                CALIBRATION.most_seconds,
            ),
        )
        full = max(full, window.server.compute if window else 0.0)
    if len(steps) > 1:
        prober.sample_window(1, CALIBRATION.alone_seconds)
    return Sweep(alone, full)


def is_slow(alone: float) -> bool:
    """Whether some executions, of so many seconds each, take longer than a window should."""
    return CALIBRATION.executions * alone > CALIBRATION.most_seconds


def saturate(prober: Prober, largest: int, full: float) -> None:
    """A window in which all instances are busy and more requests wait.

    It is long enough for some executions of each, of ``full`` seconds, even if they take turns on
    one device: the last ones of a window leave instances idle.
    """
    batches = CALIBRATION.backlog * prober.instances
    wanted = min(math.ceil(batches * largest), CALIBRATION.most_concurrency)
    seconds = CALIBRATION.executions * full * prober.instances / prober.devices
    seconds = max(seconds, CALIBRATION.saturated_seconds)
    prober.sample_window(wanted, min(seconds, CALIBRATION.most_seconds))


def concurrencies(largest: int, items: float) -> list[int]:
    """Requests of ``items`` each: twice 2, 4, 8 … up to ``largest`` items, and enough for more."""
    steps = [2 * 4**k for k in range(1, 10) if 4**k < largest]
    return [max(2, math.ceil(step / items)) for step in (*steps, 2 * largest, 2.5 * largest)]


def with_instances(candidate: Candidate, count: int | None) -> Candidate:
    """With so many instances of each group; None: with as many as the model has. Of several models,
    each one's.
    """
    if any(candidate.models):
        models = candidate.models
        parts = {model: with_instances(candidate.part(model), count) for model in models if model}
        return Candidate.together({"": candidate.part(""), **parts})
    rest = {path: value for path, value in candidate.settings if path != INSTANCE_COUNT}
    return Candidate.of(rest if count is None else {**rest, INSTANCE_COUNT: count})


def _few(counts: tuple[int, ...]) -> tuple[int, ...]:
    """At most three of them, the first and the last among them, in about equal ratios."""
    if len(counts) <= CALIBRATION.most_counts:
        return counts
    wanted = np.geomspace(counts[0], counts[-1], CALIBRATION.most_counts)
    nearest = (min(counts, key=lambda count: abs(math.log(count / each))) for each in wanted)
    return tuple(dict.fromkeys(nearest))


def _numbers(parameter: Parameter | None) -> tuple[int, ...]:
    """The whole numbers that a parameter may be, ascending; both ends of a large range."""
    if parameter is None:
        return ()
    found = parameter.examples() if (parameter.size or 10**9) > 64 else parameter.points()
    return tuple(sorted({v for v in found if isinstance(v, int) and not isinstance(v, bool)}))
