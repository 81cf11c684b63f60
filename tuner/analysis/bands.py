"""Which deployment up to which rate.

The rule: of the deployments that keep the SLA at a rate, the simplest to run is recommended.
The order of simplicity is

1. a service of the user's own, for it runs already;
2. FastAPI, one process to run. The naive form takes its place only where the well-made one cannot
   keep the SLA, or serves less beyond the intervals of both;
3. Triton, a server of its own to run. The tuned configuration counts unless the baseline serves as
   much within the intervals. The one without batching only shows what batching does, and is never
   recommended;
4. FastAPI in front of Triton: two servers to run.

Where the model has a pre-processing of its own, a client of Triton alone has to do it. There are
two answers then: clients that send text have a choice of FastAPI and FastAPI in front of Triton,
clients that send tensors of FastAPI and Triton.

A deployment that is less simple gets a band of rates only if it serves more beyond the intervals
of both; else the two are called a tie, which the simpler one wins. Rates are the recommended ones
(see ``tuner.records.results.Evaluation``). Above the highest, it takes replicas of what serves
most.
"""

from collections.abc import Sequence
from typing import Literal

from tuner.analysis.contenders import Contender
from tuner.analysis.ratios import is_tie, serves_clearly_less
from tuner.records.comparison import UNBATCHED, Comparison
from tuner.records.results import Interval, Record

Clients = Literal["any", "text", "tensors"]


class Band(Record):
    """From ``low`` to ``high`` requests/s, without end for None, ``deployment`` is the one to use,
    more than one of it with ``replicas``. Its capacity, from which ``high`` keeps a margin, lies in
    ``edge`` with 95 %. ``ties`` serve as much within the intervals.
    """

    low: float
    high: float | None
    deployment: str
    replicas: bool = False
    edge: Interval | None = None
    ties: tuple[str, ...] = ()


class Answer(Record):
    """For ``clients`` that send text, tensors, or whatever there is to send; no bands where no
    deployment meets the SLA.
    """

    clients: Clients
    bands: tuple[Band, ...]

    @property
    def reach(self) -> float | None:
        """The highest rate that one of a deployment serves."""
        return self.bands[-1].low if self.bands else None


def kinds_of_clients(comparison: Comparison) -> tuple[Clients, ...]:
    has_text = any(deployed.sends == "text" for deployed in comparison.deployments)
    return ("text", "tensors") if has_text else ("any",)


def by_simplicity(contenders: Sequence[Contender], clients: Clients) -> list[Contender]:
    """Of each kind the one that counts, the simplest first; only what meets the SLA."""
    usable = [each for each in contenders if each.safe_rate is not None]
    services = sorted(_of_kind(usable, "service"), key=_safe_rate)
    order: list[Contender | None] = [*services, _fastapi(usable)]
    if clients != "text":
        order.append(_triton(usable))
    if clients != "tensors":
        order.append(max(_of_kind(usable, "hybrid"), key=_safe_rate, default=None))
    return [each for each in order if each is not None]


def _safe_rate(contender: Contender) -> float:
    return contender.safe_rate or 0.0


def _of_kind(contenders: Sequence[Contender], kind: str) -> list[Contender]:
    return [each for each in contenders if each.deployed.kind == kind]


def _fastapi(usable: Sequence[Contender]) -> Contender | None:
    return _unless_less(_of_kind(usable, "fastapi"), _of_kind(usable, "naive"))


def _triton(usable: Sequence[Contender]) -> Contender | None:
    batched = [each for each in usable if each.is_batched_triton]
    baselines = [each for each in batched if not each.deployed.tuned]
    return _unless_less(baselines, [each for each in batched if each.deployed.tuned])


def may_be_recommended(contender: Contender) -> bool:
    """All but Triton without batching."""
    return contender.name != UNBATCHED


def _unless_less(preferred: Sequence[Contender], others: Sequence[Contender]) -> Contender | None:
    """The best of the preferred ones, or of the others if that serves clearly more."""
    first = max(preferred, key=_safe_rate, default=None)
    other = max(others, key=_safe_rate, default=None)
    if first is None or other is None:
        return first or other
    return other if serves_clearly_less(first, other) else first


def bands(order: Sequence[Contender]) -> tuple[Band, ...]:
    """Ascending and without a gap, the last one without end; ``order`` has the simplest first."""
    rising: list[Band] = []
    reached = 0.0
    last: Contender | None = None
    for each in order:
        if last is not None and is_tie(each, last):
            rising[-1] = rising[-1].model_copy(update={"ties": (*rising[-1].ties, each.name)})
        elif _safe_rate(each) > reached:
            high = _safe_rate(each)
            rising.append(Band(low=reached, high=high, deployment=each.name, edge=_edge(each)))
            reached, last = high, each
    if last is not None:
        rising.append(Band(low=reached, high=None, deployment=last.name, replicas=True))
    return tuple(rising)


def _edge(contender: Contender) -> Interval | None:
    """Of the capacity; None where the probes do not tell it."""
    evaluation = contender.evaluation
    return None if evaluation.low is None else (evaluation.low, evaluation.high)
