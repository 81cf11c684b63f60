"""Which deployment, up to which rate, and what it costs, with the findings that speak for it.

The rule by which one is chosen stands in ``tuner.analysis.bands``.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from tuner.analysis.bands import (
    Answer,
    Band,
    bands,
    by_simplicity,
    kinds_of_clients,
    may_be_recommended,
)
from tuner.analysis.contenders import Contender, contenders, title_of
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
    """The bands of rates of one kind of clients, but the last; no steps where none meets the SLA.
    From ``reach`` requests/s on it takes replicas of ``best``.
    """

    answer: Answer
    steps: tuple[BandStep, ...]

    @property
    def best(self) -> Contender:
        return self.steps[-1].chosen


class Question(StrEnum):
    """What two deployments are compared for."""

    IS_NAIVE_ENOUGH = "is the naive FastAPI enough"
    DOES_TUNING_PAY = "does tuning pay"
    DOES_BATCHING_PAY = "does batching pay"
    """Asked only where the tuned instances do not serve clearly less without it."""
    WHAT_KEEPS_GATEWAY = "what does the gateway keep of Triton"


@dataclass(frozen=True)
class Times:
    """How many times more ``first`` serves than ``second``."""

    question: Question
    first: Contender
    second: Contender
    ratio: Ratio


@dataclass(frozen=True)
class TokenisingTime:
    """Seconds that one request's tokenising takes a client of Triton alone."""

    seconds: float


@dataclass(frozen=True)
class Takes:
    """What the deployments take at a rate that each of them keeps."""

    costs: Costs
    titles: Mapping[str, str]


class Shortfall(StrEnum):
    """Why a deployment is not recommended, or not at the rates that it might serve."""

    UNMEASURED = "unmeasured"
    FAILED = "failed"
    KEEPS_NO_RATE = "keeps no rate"
    CLIENT_FELL_BEHIND = "client fell behind"


@dataclass(frozen=True)
class FallsShort:
    """``failure`` is the reason that was recorded, if there is one."""

    shortfall: Shortfall
    title: str
    failure: str | None = None


Finding = BandsForClients | Times | TokenisingTime | Takes | FallsShort


@dataclass(frozen=True)
class Recommendation:
    """One answer for each kind of clients, what deployments cost, and the findings behind them."""

    answers: tuple[Answer, ...]
    costs: Costs
    findings: tuple[Finding, ...]


def recommend(comparison: Comparison, evaluations: list[Evaluation]) -> Recommendation:
    """From records alone; without bands where no deployment meets the SLA."""
    measured = contenders(comparison, evaluations)
    answers = tuple(
        Answer(clients=clients, bands=bands(by_simplicity(measured, clients)))
        for clients in kinds_of_clients(comparison)
    )
    usage = costs([each for each in measured if may_be_recommended(each)])
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
    yield Takes(usage, {deployed.name: title_of(deployed) for deployed in comparison.deployments})
    for deployed in comparison.deployments:
        contender = by_name.get(deployed.name)
        shortfall = _shortfall(contender)
        if shortfall is not None:
            failure = contender.evaluation.failure if contender is not None else None
            yield FallsShort(shortfall, title_of(deployed), failure)


def _steps(answer: Answer, by_name: ByName) -> Iterator[BandStep]:
    below: Contender | None = None
    for band in answer.bands[:-1]:
        chosen = by_name[band.deployment]
        ties = tuple((by_name[name], ratio(by_name[name], chosen)) for name in band.ties)
        gain = None if below is None else ratio(chosen, below)
        yield BandStep(band, chosen, below, gain, ties)
        below = chosen


def _on_naive(by_name: ByName) -> Iterator[Finding]:
    yield from _times(Question.IS_NAIVE_ENOUGH, by_name.get("naive"), by_name.get("fastapi"))


def _times(
    question: Question, first: Contender | None, second: Contender | None
) -> Iterator[Finding]:
    times = ratio(first, second) if first is not None and second is not None else None
    if first is not None and second is not None and times is not None:
        yield Times(question, first, second, times)


def _on_tuning(by_name: ByName) -> Iterator[Finding]:
    tritons = [each for each in by_name.values() if each.is_batched_triton]
    baseline = next((each for each in tritons if not each.deployed.tuned), None)
    tuned = next((each for each in tritons if each.deployed.tuned), None)
    unbatched = by_name.get(UNBATCHED)
    yield from _times(Question.DOES_TUNING_PAY, tuned, baseline)
    if baseline and tuned and unbatched and not serves_clearly_less(unbatched, tuned):
        yield from _times(Question.DOES_BATCHING_PAY, unbatched, tuned)


def _on_gateway(by_name: ByName) -> Iterator[Finding]:
    tritons = [each for each in by_name.values() if each.is_batched_triton]
    direct = max(tritons, key=lambda each: each.safe_rate or 0.0, default=None)
    hybrid = next((each for each in by_name.values() if each.deployed.kind == "hybrid"), None)
    yield from _times(Question.WHAT_KEEPS_GATEWAY, hybrid, direct)


def _shortfall(contender: Contender | None) -> Shortfall | None:
    if contender is None:
        return Shortfall.UNMEASURED
    if contender.evaluation.state is State.FAILED:
        return Shortfall.FAILED
    if contender.evaluation.capacity is None:
        return Shortfall.KEEPS_NO_RATE
    return Shortfall.CLIENT_FELL_BEHIND if contender.evaluation.client_limited else None
