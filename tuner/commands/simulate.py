"""What a configuration would do at some rate, from what a run learned of the model: no server."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tuner.commands.options import SimulateOptions
from tuner.errors import RunError, UsageError
from tuner.load.arrivals import CLOSED
from tuner.model.config import check_config, parse_config, render
from tuner.model.space import Candidate, check_settings
from tuner.records.results import Window, baseline
from tuner.records.run import Run
from tuner.simulator.predict import is_kept, play, predict_capacity, saturation
from tuner.simulator.profile import ModelProfile
from tuner.simulator.scheduling import Scheduling
from tuner.stats.estimators import PERCENTILES
from tuner.units import format_duration, format_rate

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


@dataclass(frozen=True)
class SimulationSettings:
    requests: int = 50_000
    """Of one simulation: 500 of them lie beyond the p99, so that it is told to some 5 %."""
    precision: float = 0.005
    """Share to which the capacity is searched: finer than the requests can tell it."""


_SETTINGS = SimulationSettings()


@dataclass(frozen=True)
class SimulateResult:
    """Simulated, not measured: seconds and requests/s. ``batches`` are shares of executions by
    size; ``kept`` says whether the SLA is, ``busy`` the share of the highest throughput.
    """

    label: str
    sla: str
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
            (self.sla, "met" if self.kept else "violated"),
            ("capacity", format_rate(self.capacity or None)),
        ]

    @property
    def figures(self) -> tuple[str, ...]:
        """The names that ``figure`` knows."""
        return ("latency", "batches")

    def figure(self, name: str) -> "go.Figure":
        """Percentiles of the latency, or shares of executions by batch size; UsageError if there is
        no figure of that name.
        """
        from tuner.report.forecast_figures import batch_shares, latency_percentiles

        if name == "latency":
            return latency_percentiles(self.latency)
        if name == "batches":
            return batch_shares(self.batches)
        raise UsageError(f"no figure is called {name!r}; there are latency and batches")

    def to_dataframe(self) -> "pd.DataFrame":
        """The percentiles of the latency, in seconds."""
        import pandas as pd

        return pd.DataFrame({"seconds": self.latency}).rename_axis("percentile")

    def _repr_html_(self) -> str:
        from tuner.report.html import tag, text

        rows = (
            tag("tr", tag("th", text(name), style="text-align: left"), tag("td", text(value)))
            for name, value in self.lines()
        )
        return tag("div", text(f"{self.label} (simulated)"), tag("table", *rows))


def simulate(run: Run, options: SimulateOptions) -> SimulateResult:
    """Of the run's model with some settings changed, at a rate or near its capacity.

    What is not given is as in the run. RunError where the run knows nothing of service times.
    """
    manifest = run.manifest()
    asked = manifest.experiment
    sla, mix = options.sla or asked.sla, options.batch or asked.batch
    arrivals = options.load or asked.load
    if arrivals == CLOSED:
        raise UsageError("a closed loop is not simulated; give --load poisson or another of those")
    if any(window.model for window in run.windows()):
        raise RunError(
            f"{run.folder} is of several models, and only single ones are simulated so; its report "
            "has what a search of them simulated"
        )
    profile = profile_of(run)
    check_settings(options.changes)
    candidate = Candidate.of(options.changes)
    config = render(_own_config(run), candidate)
    check_config(config, "with --set")
    scheduling = Scheduling.of(config, manifest.environment.gpu_count or 1)
    if mix.largest > scheduling.max_batch:
        raise UsageError(
            f"a request of {mix.largest:,} items exceeds max_batch_size, or the largest that is "
            "simulated"
        )
    service = profile.service(scheduling)
    settings = _SETTINGS
    capacity = predict_capacity(
        scheduling, service, sla, arrivals, mix, settings.requests, settings.precision, options.seed
    )
    most = saturation(scheduling, service, mix)
    rate = options.rate or capacity or most / 2
    played = play(rate, settings.requests, scheduling, service, arrivals, mix, options.seed)
    samples, batches = played.samples, played.batches
    latency = np.sort(samples.latency)
    executions = sum(batches.values())
    return SimulateResult(
        label=str(candidate),
        sla=str(sla),
        rate=rate,
        latency={name: _quantile(latency, q) for name, q in PERCENTILES.items()},
        queue=played.queue,
        batches={size: number / executions for size, number in batches.items()},
        mean_batch=sum(size * number for size, number in batches.items()) / executions,
        refused=samples.errors / len(samples),
        kept=is_kept(samples, sla),
        busy=rate / most,
        capacity=capacity,
    )


def profile_of(run: Run) -> ModelProfile:
    """What the run learned of its model."""
    windows: list[Window] = run.windows()
    profile = ModelProfile.fit(windows)
    if profile is None:
        raise RunError(f"{run.folder} tells nothing of service times: {_why_unknown(windows)}")
    return profile


def _why_unknown(windows: list[Window]) -> str:
    if not windows:
        return (
            "it needs a search or a measurement by this version, of a model whose statistics count "
            "executions"
        )
    if not any(window.runs_alone for window in windows):
        return (
            "its instances always computed at once; use a run of 'tuner search', or measure with "
            "--set instance_count=1"
        )
    return "it saw batches of one size only; use a run of 'tuner search'"


def _own_config(run: Run) -> Any:
    evaluations = run.evaluations()
    first = baseline(evaluations) or next(iter(evaluations), None)
    if first is None:
        raise RunError(f"{run.folder} holds no evaluation yet")
    return parse_config(first.config, str(run.evaluations_file))


def _quantile(latency: Any, q: float) -> float | None:
    value = float(latency[min(len(latency) - 1, int(np.ceil(q * len(latency))) - 1)])
    return value if np.isfinite(value) else None
