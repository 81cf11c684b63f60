"""Which deployment, up to which rate, and what it costs, with the findings that speak for it.

The rule by which one is chosen stands in ``tuner.analysis.bands``.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tuner.analysis.bands import (
    Answer,
    Band,
    bands,
    by_simplicity,
    kinds_of_clients,
    may_be_recommended,
)
from tuner.analysis.contenders import Contender, contenders
from tuner.analysis.costs import Costs, costs
from tuner.analysis.ratios import Ratio, ratio, serves_clearly_less
from tuner.records.comparison import UNBATCHED, Comparison
from tuner.records.results import Evaluation, State

ByName = Mapping[str, Contender]


@dataclass(frozen=True)
class BandStep:
    """One band of rates: what is chosen in it, and how many times more that serves than what is
    chosen below; each tie with how many times more it serves than the chosen one.
    """

    band: Band
    chosen: Contender
    below: Contender | None
    gain: Ratio | None
    ties: tuple[tuple[Contender, Ratio | None], ...]


@dataclass(frozen=True)
class BandsForClients:
    """The bands of rates of one kind of clients, but the last; no steps where none keeps the SLA.
    From ``reach`` requests/s on it takes replicas of ``best``.
    """

    answer: Answer
    steps: tuple[BandStep, ...]

    @property
    def best(self) -> Contender:
        return self.steps[-1].chosen


@dataclass(frozen=True)
class NaiveAgainstMade:
    """FastAPI (naive) against the well-made form: ``enough`` where it serves clearly more."""

    naive: Contender
    made: Contender
    ratio: Ratio
    enough: bool


@dataclass(frozen=True)
class TuningGain:
    """How many times more the tuned configuration serves than the baseline."""

    tuned: Contender
    baseline: Contender
    ratio: Ratio


@dataclass(frozen=True)
class BatchingCosts:
    """Without batching the tuned instances serve clearly more."""

    unbatched: Contender
    tuned: Contender


@dataclass(frozen=True)
class TokenisingTime:
    """Seconds that one request's tokenising takes a client of Triton alone."""

    seconds: float


@dataclass(frozen=True)
class GatewayShare:
    """How many times more FastAPI in front of Triton serves than Triton alone."""

    hybrid: Contender
    direct: Contender
    ratio: Ratio


@dataclass(frozen=True)
class Takes:
    """What the deployments take at a rate that each of them keeps."""

    costs: Costs
    titles: Mapping[str, str]


@dataclass(frozen=True)
class Unmeasured:
    """A deployment of which there is no evaluation."""

    title: str


@dataclass(frozen=True)
class Failed:
    """A deployment that could not be measured."""

    contender: Contender


@dataclass(frozen=True)
class KeepsNoRate:
    """A deployment that keeps the SLA at no rate that was tried."""

    contender: Contender


@dataclass(frozen=True)
class MayServeMore:
    """The load generator fell behind before this deployment did."""

    contender: Contender


Finding = (
    BandsForClients
    | NaiveAgainstMade
    | TuningGain
    | BatchingCosts
    | TokenisingTime
    | GatewayShare
    | Takes
    | Unmeasured
    | Failed
    | KeepsNoRate
    | MayServeMore
)


@dataclass(frozen=True)
class Recommendation:
    """One answer for each kind of clients, what deployments cost, and the findings behind them."""

    answers: tuple[Answer, ...]
    costs: Costs
    findings: tuple[Finding, ...]


def recommend(comparison: Comparison, evaluations: list[Evaluation]) -> Recommendation:
    """From records alone; without bands where no deployment keeps the SLA."""
    measured = contenders(comparison, evaluations)
    answers = tuple(
        Answer(clients=clients, bands=bands(by_simplicity(measured, clients)))
        for clients in kinds_of_clients(comparison)
    )
    usage = costs([each for each in measured if may_be_recommended(each, measured)])
    return Recommendation(answers, usage, tuple(_findings(comparison, measured, answers, usage)))


def _findings(
    comparison: Comparison, measured: Sequence[Contender], answers: Sequence[Answer], usage: Costs
) -> Iterator[Finding]:
    by_name = {each.name: each for each in measured}
    for answer in answers:
        yield BandsForClients(answer, tuple(_steps(answer, by_name)))
    yield from _on_naive(by_name)
    yield from _on_tuning(by_name)
    if comparison.encode_seconds is not None:
        yield TokenisingTime(comparison.encode_seconds)
    yield from _on_gateway(by_name)
    yield Takes(usage, {deployed.name: deployed.title for deployed in comparison.deployments})
    for deployed in comparison.deployments:
        if deployed.name in by_name:
            yield from _on_failure(by_name[deployed.name])
        else:
            yield Unmeasured(deployed.title)


def _steps(answer: Answer, by_name: ByName) -> Iterator[BandStep]:
    below: Contender | None = None
    for band in answer.bands[:-1]:
        chosen = by_name[band.deployment]
        ties = tuple((by_name[name], ratio(by_name[name], chosen)) for name in band.ties)
        gain = None if below is None else ratio(chosen, below)
        yield BandStep(band, chosen, below, gain, ties)
        below = chosen


def _on_naive(by_name: ByName) -> Iterator[Finding]:
    naive, made = by_name.get("naive"), by_name.get("fastapi")
    times = ratio(naive, made) if naive and made else None
    if naive is not None and made is not None and times is not None:
        yield NaiveAgainstMade(naive, made, times, serves_clearly_less(made, naive))


def _on_tuning(by_name: ByName) -> Iterator[Finding]:
    tritons = [each for each in by_name.values() if each.is_batched_triton]
    baseline = next((each for each in tritons if not each.deployed.tuned), None)
    tuned = next((each for each in tritons if each.deployed.tuned), None)
    times = ratio(tuned, baseline) if tuned and baseline else None
    if tuned is None or baseline is None or times is None:
        return
    yield TuningGain(tuned, baseline, times)
    unbatched = by_name.get(UNBATCHED)
    if unbatched is not None and serves_clearly_less(tuned, unbatched):
        yield BatchingCosts(unbatched, tuned)


def _on_gateway(by_name: ByName) -> Iterator[Finding]:
    tritons = [each for each in by_name.values() if each.is_batched_triton]
    direct = max(tritons, key=lambda each: each.safe_rate or 0.0, default=None)
    hybrid = next((each for each in by_name.values() if each.deployed.kind == "hybrid"), None)
    times = ratio(hybrid, direct) if hybrid and direct else None
    if hybrid is not None and direct is not None and times is not None:
        yield GatewayShare(hybrid, direct, times)


def _on_failure(contender: Contender) -> Iterator[Finding]:
    evaluation = contender.evaluation
    if evaluation.state is State.FAILED:
        yield Failed(contender)
    elif evaluation.capacity is None:
        yield KeepsNoRate(contender)
    elif evaluation.client_limited:
        yield MayServeMore(contender)
