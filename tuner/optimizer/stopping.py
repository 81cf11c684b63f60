"""When a search ends, and why."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from tuner.records.results import Evaluation

if TYPE_CHECKING:
    from tuner.optimizer.forecast import Forecast


class Stop(StrEnum):
    """Why a search ended."""

    TRIALS = "the maximum number of trials was reached"
    TIMEOUT = "the time limit was reached"
    EXHAUSTED = "every candidate of the space was measured, or one with the same behavior"
    NONE_LEFT = "all remaining candidates are expected to fail"
    CONVERGED = "the expected improvement fell below --until"
    NOTHING_NEW = "the sampler proposed no new candidate"
    HOPELESS = "none of the first candidates met the SLA"


@dataclass(frozen=True)
class Budget:
    """When to stop: after this number of trials (None: no limit) or seconds, including any
    confirmation; or once the expected improvement is below the share ``until``.
    """

    trials: int | None
    seconds: float
    confirms: bool = True
    until: float = 0.01


@dataclass(frozen=True)
class StoppingSettings:
    most_duplicates: int = 200
    """Proposals in a row that were all measured before. TPE repeats itself dozens of times before
    it finds the last candidates of a small space; answering from the records takes milliseconds."""
    most_idle_seconds: float = 60.0
    """Of such proposals: a Gaussian process that has converged repeats itself, too, and takes a
    second each time; six measurements would fit into that minute."""
    hopeless_trials: int = 5
    """Candidates without any rate that meets the SLA, after which the model itself is too slow."""
    hopeless_trials_at_rate: int = 15
    """The same at a given rate, where a candidate that misses the SLA says less about the others.
    """
    hopeless_trials_forecast: int = 2
    """The same if the simulation predicts failure, too: one failure may be the baseline's own."""
    least_feasibility: float = 0.05
    """Probability of the likeliest candidate below which the simulation predicts failure."""
    calibration_share: float = 0.25
    """Of the time limit: the longest calibration, however slow the model."""
    confirmation_seconds: float = 30.0
    """Of load: two rounds of two configurations, and the verification of the winner's rate."""
    confirmation_launches: float = 2.5
    """In addition, in launches of the search: of both, and their warm-up."""
    reporting_seconds: float = 1.5
    """To write the report."""
    reporting_share: float = 0.1
    """Of the time limit: the most that is reserved for the report."""
    confirmation_share: float = 0.4
    """Of the time limit: the most that is reserved in all, so that a short search still searches.
    """


SETTINGS = StoppingSettings()


@dataclass(frozen=True)
class StoppingPolicy:
    """Asked before each trial. ``size`` is the number of candidates (None: a continuum)."""

    budget: Budget
    size: int | None
    minimizes: bool
    settings: StoppingSettings = SETTINGS

    def spent(
        self,
        done: Sequence[Evaluation],
        seconds: float,
        duplicates: int,
        idle: float,
        forecast: "Forecast | None",
    ) -> Stop | None:
        """Whether there is a reason to measure no more at all: candidates that were measured,
        seconds since the search began, proposals in a row that were known and seconds that they
        took.
        """
        budget, settings = self.budget, self.settings
        own = [each for each in done if each.measured_by is None]
        if budget.trials is not None and len(own) >= budget.trials:
            return Stop.TRIALS
        if done and seconds + _mean(e.seconds for e in own or done) > self.seconds_to_search(done):
            return Stop.TIMEOUT
        if self.size is not None and len(done) >= self.size:
            return Stop.EXHAUSTED
        if duplicates >= settings.most_duplicates or idle > settings.most_idle_seconds:
            return Stop.NOTHING_NEW
        if not _any_meets_sla(done) and self._is_hopeless(len(done), forecast):
            return Stop.HOPELESS
        return None

    def seconds_to_calibrate(self) -> float:
        return self.settings.calibration_share * self.budget.seconds

    def seconds_to_search(self, done: Sequence[Evaluation]) -> float:
        """Seconds from the start of the search to its end, so that time remains for the
        confirmation.
        """
        return self.budget.seconds - self._seconds_to_confirm(done)

    def seconds_to_confirm_by(self) -> float:
        """Seconds from the start of the search to the end of the confirmation, so that time remains
        for the report.
        """
        return self.budget.seconds - self._seconds_to_report()

    def converged(self, done: Sequence[Evaluation], forecast: "Forecast | None") -> Stop | None:
        """Whether the search has converged; without a forecast it goes on."""
        if forecast is None:
            return None
        if forecast.propose() is None:
            return Stop.NONE_LEFT if forecast.unmeasured.any() else Stop.EXHAUSTED
        until = self.budget.until
        if _any_meets_sla(done) and forecast.gain(until) < until:
            return Stop.CONVERGED
        return None

    def _is_hopeless(self, done: int, forecast: "Forecast | None") -> bool:
        settings = self.settings
        if (
            forecast is not None
            and done >= settings.hopeless_trials_forecast
            and forecast.feasibility() < settings.least_feasibility
        ):
            return True
        most = settings.hopeless_trials_at_rate if self.minimizes else settings.hopeless_trials
        return done >= most

    def _seconds_to_confirm(self, done: Sequence[Evaluation]) -> float:
        """Seconds for confirming finalist and baseline, and for the report; for the report alone
        while there is no finalist.
        """
        settings = self.settings
        seconds = self._seconds_to_report()
        if self.budget.confirms and _any_meets_sla(done):
            launch = _mean(e.launch_seconds for e in done if e.launch_seconds is not None)
            seconds += settings.confirmation_seconds + settings.confirmation_launches * launch
        return min(seconds, settings.confirmation_share * self.budget.seconds)

    def seconds_for_confirmation(self) -> float:
        """Of the time limit, before anything is known of launches."""
        settings = self.settings
        return min(settings.confirmation_seconds, settings.confirmation_share * self.budget.seconds)

    def least_seconds_to_confirm(self) -> float:
        """The shortest time limit that leaves the confirmation all the time it takes."""
        return self.settings.confirmation_seconds / self.settings.confirmation_share

    def _seconds_to_report(self) -> float:
        settings = self.settings
        return min(settings.reporting_seconds, settings.reporting_share * self.budget.seconds)


def _mean(values: Iterable[float]) -> float:
    """0.0 of none."""
    known = list(values)
    return sum(known) / len(known) if known else 0.0


def _any_meets_sla(done: Sequence[Evaluation]) -> bool:
    return any(evaluation.merit is not None for evaluation in done)
