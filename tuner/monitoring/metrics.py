"""A run's results as Prometheus metrics, in its text format."""

from collections.abc import Iterator
from dataclasses import dataclass

from tuner.errors import RunError
from tuner.records.results import Evaluation, baseline, best
from tuner.records.run import Run


@dataclass(frozen=True)
class Metric:
    name: str
    help: str
    labels: dict[str, str]
    value: float


def metrics_text(run: Run) -> str:
    """Gauges with the model as a label; RunError where the run has no capacity."""
    lines: list[str] = []
    named: set[str] = set()
    for metric in _metrics(run):
        if metric.name not in named:
            lines += [f"# HELP {metric.name} {metric.help}", f"# TYPE {metric.name} gauge"]
            named.add(metric.name)
        labels = ",".join(f'{key}="{_escaped(value)}"' for key, value in metric.labels.items())
        lines.append(f"{metric.name}{{{labels}}} {metric.value:.17g}")
    return "\n".join(lines) + "\n"


def found(run: Run) -> Evaluation:
    """The winner or, of a measurement, what was measured."""
    evaluations = run.evaluations()
    measured = [e for e in evaluations if e.phase == "measure" and e.capacity is not None]
    winner = best(evaluations) or next(iter(measured), None)
    if winner is None or winner.capacity is None:
        raise RunError(f"{run.folder} found nothing that meets its SLA")
    return winner


def _metrics(run: Run) -> Iterator[Metric]:
    manifest, winner = run.manifest(), found(run)
    labels = {"model": manifest.model_name, "run": run.folder.name}
    first = baseline(run.evaluations())
    rates = {
        "capacity": ("highest rate that meets the SLA", winner.capacity),
        "capacity_low": ("lower end of its 95 % interval", winner.low),
        "capacity_high": ("upper end of its 95 % interval", winner.high),
        "recommended_rate": ("rate to operate one server at", winner.recommended),
        "baseline_capacity": (
            "that of the configuration before",
            first.capacity if first else None,
        ),
    }
    for name, (text, value) in rates.items():
        if value is not None:
            full = f"tuner_{name}_requests_per_second"
            yield Metric(full, f"Requests/s: {text}.", labels, value)
    for bound in manifest.experiment.sla.bounds:
        if not bound.on_errors:
            own = {**labels, "quantile": bound.of_all}
            if bound.model:
                own["model"] = bound.model
            text = "Seconds: the SLA's bound on this percentile of latency."
            yield Metric("tuner_sla_seconds", text, own, bound.limit)
    probe = winner.at_capacity()
    for name, seconds in (probe.latency if probe is not None else {}).items():
        if seconds is not None and seconds < float("inf"):
            text = "Seconds: latency near the capacity."
            yield Metric("tuner_latency_seconds", text, {**labels, "quantile": name}, seconds)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
