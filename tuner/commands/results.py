"""What commands return: typed results over the records of a run, at home in a notebook too."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from tuner.analysis.comparison_findings import ComparisonFindings
from tuner.analysis.ratios import Ratio
from tuner.analysis.recommend import Recommendation
from tuner.analysis.search_findings import SearchFindings
from tuner.records.comparison import Comparison
from tuner.records.costs import describe_cost
from tuner.records.gate import GateRecord, Verdict
from tuner.records.results import Evaluation
from tuner.records.run import Run
from tuner.units import format_rate

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


@dataclass(frozen=True)
class RunResult:
    """A run and what its records say; RunError where they cannot be read."""

    run: Run

    @property
    def folder(self) -> Path:
        """Where all records are."""
        return self.run.folder

    @property
    def report(self) -> Path:
        """The HTML page about the run."""
        return self.run.report

    @cached_property
    def evaluations(self) -> list[Evaluation]:
        """Everything that was measured, in order."""
        return self.run.evaluations()

    @property
    def figures(self) -> tuple[str, ...]:
        """The names that ``figure`` knows."""
        from tuner.report.figures import names

        return names(self.run)

    def figure(self, name: str) -> "go.Figure":
        """A figure of the report, for Plotly; UsageError if there is none of that name."""
        from tuner.report.figures import figure

        return figure(self.run, name)

    def to_dataframe(self) -> "pd.DataFrame":
        """A row for each evaluation: rates in requests/s, times in seconds. A setting's column has
        the path of its field in config.pbtxt.
        """
        import pandas as pd

        return pd.DataFrame(list(map(_row, self.evaluations)))

    def _in_short(self, found: str) -> str:
        """A ``repr`` that shows the outcome."""
        return f"{type(self).__name__}({str(self.folder)!r}, {found})"

    def _repr_html_(self) -> str:
        from tuner.report.summary import summary_html

        return summary_html(self.run)


@dataclass(frozen=True, repr=False)
class SearchResult(RunResult):
    """``reason`` says why the search ended."""

    reason: str

    def __repr__(self) -> str:
        return self._in_short("no winner" if self.winner is None else _found(self.winner))

    @cached_property
    def _findings(self) -> SearchFindings:
        return SearchFindings.of(self.run)

    @property
    def winner(self) -> Evaluation | None:
        """The configuration with the highest confirmed capacity, or the least cost; None where
        nothing keeps the SLA.
        """
        return self._findings.winner

    @property
    def baseline(self) -> Evaluation | None:
        """The model's own configuration."""
        return self._findings.baseline

    @property
    def gain(self) -> Ratio | None:
        """The winner's capacity over the baseline's, with its 95 % interval, as measured in
        interleaved rounds; None without such rounds, or where the baseline wins.
        """
        return self._findings.gain_interval

    @property
    def config(self) -> str | None:
        """The winner's config.pbtxt; of several models, all of them in one text, each below its
        path (see ``tuner.model.repository.configs_of``).
        """
        return None if self.winner is None else self.winner.config


@dataclass(frozen=True, repr=False)
class MeasureResult(RunResult):
    """``evaluation`` is that of the one configuration."""

    evaluation: Evaluation

    def __repr__(self) -> str:
        return self._in_short(_found(self.evaluation))


@dataclass(frozen=True, repr=False)
class GateResult(RunResult):
    """``record`` has the verdict and what it rests on."""

    record: GateRecord

    def __repr__(self) -> str:
        return self._in_short(f"{self.record.verdict}: {self.record.cause}")

    @property
    def passed(self) -> bool:
        return self.record.verdict is Verdict.PASS


@dataclass(frozen=True, repr=False)
class CompareResult(RunResult):
    def __repr__(self) -> str:
        from tuner.report.compare_page import title

        return self._in_short(title(self._findings))

    @cached_property
    def _findings(self) -> ComparisonFindings:
        return ComparisonFindings.of(self.run)

    @property
    def comparison(self) -> Comparison:
        """What is known of the deployments besides their evaluations: configurations, swaps, ..."""
        return self._findings.comparison

    @property
    def recommendation(self) -> Recommendation:
        """Which deployment fits, up to which rate, and what it costs."""
        return self._findings.recommendation


def _found(evaluation: Evaluation) -> str:
    """``batch 8: 412/s``, or its cost, or why it has neither."""
    if evaluation.capacity is None:
        value = evaluation.state.value
    else:
        cost = evaluation.cost
        value = format_rate(evaluation.capacity) if cost is None else describe_cost(cost)
    return f"{evaluation.label}: {value}"


def _row(evaluation: Evaluation) -> dict[str, object]:
    fields: Iterable[str] = (
        *("trial", "phase", "look", "baseline", "deployment", "capacity", "low", "high"),
        *("recommended", "steepness", "client_limited", "cause", "failure", "seconds"),
    )
    probe, cost = evaluation.at_capacity(), evaluation.cost
    return {
        "state": evaluation.state.value,
        **{name: getattr(evaluation, name) for name in fields},
        "cost": None if cost is None else cost.value,
        **{f"latency_{name}": value for name, value in (probe.latency if probe else {}).items()},
        **evaluation.settings,
    }
