"""What each of several models serves beside the others, and with how much room below its SLA."""

from dataclasses import dataclass

from tuner.analysis.steps import StepUse, step_uses
from tuner.goals.sla import Bound, Sla
from tuner.load.mix import Mix
from tuner.records.results import Evaluation, Insight, ProbeRecord


@dataclass(frozen=True)
class ModelShare:
    """One model of a mix: its part of the ``capacity`` and of the ``recommended`` rate (requests/s,
    None if unknown); of the probe near the capacity, the ``latency`` (seconds) at its tightest
    ``bound``, and its ``use`` of the server. ``alone`` is what it could serve by itself in the
    simulation.
    """

    model: str
    capacity: float | None
    recommended: float | None
    bound: Bound
    latency: float | None
    use: StepUse | None
    alone: float | None

    @property
    def slack(self) -> float | None:
        """The share of the limit that is left; below 0 where it is exceeded."""
        return None if self.latency is None else 1 - self.latency / self.bound.limit


def model_shares(
    evaluation: Evaluation,
    probe: ProbeRecord | None,
    sla: Sla,
    mix: Mix,
    insight: Insight | None = None,
) -> list[ModelShare]:
    """In the order of the mix; ``probe`` is one near the capacity."""
    uses = {use.model: use for use in (step_uses(probe) if probe is not None else [])}
    capacity, recommended = (
        {} if rate is None else mix.rates(rate)
        for rate in (evaluation.capacity, evaluation.recommended)
    )
    shares = []
    for model in mix.models:
        bound, latency = _tightest(probe, sla, model)
        shares.append(
            ModelShare(
                model,
                capacity.get(model),
                recommended.get(model),
                bound,
                latency,
                uses.get(model),
                None if insight is None else insight.alone.get(model),
            )
        )
    return shares


def _tightest(probe: ProbeRecord | None, sla: Sla, model: str) -> tuple[Bound, float | None]:
    """The model's bound on latency of which most is used up, and the latency there."""
    bounds = [b for b in sla.bounds if b.model == model and not b.on_errors]
    known = [(b, probe.latency.get(b.name) if probe is not None else None) for b in bounds]
    return max(known, key=lambda each: (each[1] or 0.0) / each[0].limit)
