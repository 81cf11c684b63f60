"""What a configuration would do at some rate, from what a run learned of the model: no server."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from tuner.errors import RunError, UsageError
from tuner.goals.sla import Sla
from tuner.load.arrivals import CLOSED, Arrivals
from tuner.load.batches import BatchMix
from tuner.model.config import check_config, parse_config, render
from tuner.model.space import Candidate, Value, check_settings
from tuner.records.results import PERCENTILES, Window, baseline
from tuner.records.run import Run
from tuner.simulator.predict import is_kept, play, predict_capacity, saturation
from tuner.simulator.profile import ModelProfile
from tuner.simulator.scheduling import Scheduling
from tuner.units import format_duration, format_rate

_REQUESTS = 50_000
_PRECISION = 0.005


@dataclass(frozen=True)
class Forecast:
    """Simulated, not measured: seconds and requests/s. ``batches`` are shares of executions by
    size; ``kept`` says whether the promise is, ``busy`` the share of the highest throughput.
    """

    label: str
    promise: str
    rate: float
    latency: dict[str, float | None]
    queue: float
    batches: dict[int, float]
    mean_batch: float
    refused: float
    kept: bool
    busy: float
    capacity: float

    def lines(self) -> list[tuple[str, str]]:
        """What to print, as pairs of name and value."""
        common = sorted(self.batches.items(), key=lambda each: -each[1])[:4]
        sizes = ", ".join(f"{size} ({share:.0%})" for size, share in common)
        return [
            ("at", f"{format_rate(self.rate)}, {self.busy:.0%} of the highest throughput"),
            *((name, format_duration(value)) for name, value in self.latency.items()),
            ("mean time in the queue", format_duration(self.queue)),
            ("mean batch", f"{self.mean_batch:.1f}; most often {sizes}"),
            *([("refused", f"{self.refused:.1%}")] if self.refused else []),
            (self.promise, "kept" if self.kept else "broken"),
            ("capacity", format_rate(self.capacity or None)),
        ]


def forecast(
    run: Run,
    changes: dict[str, Value],
    rate: float | None,
    sla: str | None = None,
    load: str | None = None,
    batch: str | None = None,
    seed: int = 0,
) -> Forecast:
    """Of the run's model with some settings changed, at ``rate`` requests/s, or near its capacity.

    What is not given is as in the run. RunError where the run knows nothing of service times.
    """
    experiment = run.experiment()
    text = sla or str(experiment.get("sla", ""))
    promise = Sla.parse(text)
    arrivals = _arrivals(load or str(experiment.get("load", "poisson")))
    mix = BatchMix.parse(batch or str(experiment.get("batch", "1")))
    profile = profile_of(run)
    check_settings(changes)
    candidate = Candidate.of(changes)
    config = render(_own_config(run), candidate)
    check_config(config, "with --set")
    scheduling = Scheduling.of(config, int(experiment.get("environment", {}).get("gpu_count", 1)))
    if mix.largest > scheduling.max_batch:
        raise UsageError(f"a request of {mix.largest} items exceeds max_batch_size")
    service = profile.service(scheduling)
    capacity = predict_capacity(
        scheduling, service, promise, arrivals, mix, _REQUESTS, _PRECISION, seed
    )
    most = saturation(scheduling, service, mix)
    at = rate or capacity or most / 2
    played = play(at, _REQUESTS, scheduling, service, arrivals, mix, seed)
    samples, batches = played.samples, played.batches
    latency = np.sort(samples.latency)
    number = sum(batches.values())
    return Forecast(
        label=str(candidate),
        promise=str(promise),
        rate=at,
        latency={name: _quantile(latency, q) for name, q in PERCENTILES.items()},
        queue=played.queue,
        batches={size: n / number for size, n in batches.items()},
        mean_batch=sum(size * n for size, n in batches.items()) / number,
        refused=samples.errors / len(samples),
        kept=is_kept(samples, promise),
        busy=at / most,
        capacity=capacity,
    )


def profile_of(run: Run) -> ModelProfile:
    """What the run learned of its model."""
    windows: list[Window] = run.windows()
    profile = ModelProfile.fit(windows)
    if profile is None:
        raise RunError(
            f"{run.folder} tells nothing of service times: it needs a search or a measurement by "
            "this version, of a model whose statistics count executions"
        )
    return profile


def _own_config(run: Run) -> Any:
    found = baseline(run.evaluations())
    first = found or next(iter(run.evaluations()), None)
    if first is None:
        raise RunError(f"{run.folder} holds no evaluation yet")
    return parse_config(first.config, str(run.evaluations_file))


def _arrivals(text: str) -> Arrivals:
    if text == CLOSED:
        raise UsageError("a closed loop is not simulated; give --load poisson or another of those")
    return Arrivals.parse(text)


def _quantile(latency: Any, q: float) -> float | None:
    value = float(latency[min(len(latency) - 1, int(np.ceil(q * len(latency))) - 1)])
    return value if np.isfinite(value) else None
