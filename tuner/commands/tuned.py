"""The tuned configuration of a comparison, and what its search lets one foresee."""

from dataclasses import dataclass

from tuner.commands.options import SimulateOptions
from tuner.commands.simulate import SimulateResult, simulate
from tuner.errors import UsageError
from tuner.experiment.model import Experiment
from tuner.model.parameter import Value
from tuner.model.space import DYNAMIC_BATCHING, QUEUE_DELAY, Candidate
from tuner.records.comparison import Delay
from tuner.records.run import Run
from tuner.simulator import is_available

_IDLE_RATE = 1.0
"""Requests/s at which requests do not meet: the p50 is that of one alone."""
_DELAYS = (0.0, 0.001, 0.002, 0.005, 0.01)
"""Seconds: from none to what already shows in an SLA of some tens of milliseconds."""


@dataclass(frozen=True)
class Tuned:
    """``candidate`` is None where the model's own configuration is the one to use; ``source`` is
    the search that found it, None where there was none.
    """

    experiment: Experiment
    candidate: Candidate | None = None
    source: Run | None = None

    def _settings(self, own: dict[str, Value]) -> dict[str, Value]:
        return dict(self.candidate.settings) if self.candidate else own

    def simulated_capacities(self, own: dict[str, Value]) -> dict[str, float]:
        """Of Triton's deployments, by name, as far as the search learned what they rest on; ``own``
        are the settings that the model was found with.
        """
        tuned = self._settings(own)
        settings = {
            "triton": own,
            "triton-tuned": tuned,
            "triton-unbatched": {**tuned, DYNAMIC_BATCHING: False},
        }
        forecasts = {name: self._forecast(each) for name, each in settings.items()}
        return {name: it.capacity for name, it in forecasts.items() if it and it.capacity}

    def simulated_delays(self, own: dict[str, Value]) -> tuple[Delay, ...]:
        """The tuned configuration with other queue delays."""
        delays = []
        for delay in _DELAYS:
            micros = round(delay * 1e6)
            changed = {**self._settings(own), DYNAMIC_BATCHING: True, QUEUE_DELAY: micros}
            forecast = self._forecast(changed)
            if forecast is None:
                return ()
            p50 = forecast.latency["p50"]
            delays.append(Delay(delay=delay, capacity=forecast.capacity or None, p50=p50))
        return tuple(delays)

    def _forecast(self, settings: dict[str, Value]) -> SimulateResult | None:
        """What a configuration would do, mostly idle; None where that cannot be simulated."""
        if self.source is None or not is_available():
            return None
        options = SimulateOptions(
            changes=settings,
            rate=_IDLE_RATE,
            sla=self.experiment.sla,
            load=self.experiment.load,
        )
        try:
            return simulate(self.source, options)
        except UsageError:
            return None
