"""Which deployment up to which rate.

The rule: of the deployments that keep the promise at a rate, the simplest to run is recommended.
The order of simplicity is

1. a service of the user's own, for it runs already;
2. FastAPI, one process to run. The naive form takes its place only where the well-made one cannot
   keep the promise, or serves less beyond the intervals of both;
3. Triton, a server of its own to run. The tuned configuration counts unless the one as found
   serves as much within the intervals, and the one without batching only where it serves more than
   that beyond the intervals;
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

from tuner.analysis.ratios import is_tie, ratio
from tuner.analysis.records import Comparison, Contender
from tuner.records.results import Interval, Record

UNBATCHED = "triton-unbatched"
"""A yardstick that shows what batching does: the tuned instances without it."""
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
    deployment keeps the promise.
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


def slots(found: Sequence[Contender], clients: Clients) -> list[Contender]:
    """Of each kind the one that counts, the simplest first; only what keeps the promise."""
    kept = [each for each in found if each.safe_rate is not None]
    own = sorted((e for e in kept if e.deployed.kind == "service"), key=_safe_rate)
    chosen: list[Contender | None] = [*own, _fastapi(kept)]
    if clients != "text":
        chosen.append(_triton(kept))
    if clients != "tensors":
        chosen.append(max(_of_kind(kept, "hybrid"), key=_safe_rate, default=None))
    return [each for each in chosen if each is not None]


def _safe_rate(contender: Contender) -> float:
    return contender.safe_rate or 0.0


def _of_kind(kept: Sequence[Contender], kind: str) -> list[Contender]:
    return [each for each in kept if each.deployed.kind == kind]


def _fastapi(kept: Sequence[Contender]) -> Contender | None:
    return _unless_less(_of_kind(kept, "fastapi"), _of_kind(kept, "naive"))


def _triton(kept: Sequence[Contender]) -> Contender | None:
    own = [each for each in _of_kind(kept, "triton") if each.name != UNBATCHED]
    as_found = [each for each in own if not each.deployed.tuned]
    best = _unless_less(as_found, [e for e in own if e.deployed.tuned])
    return None if best is None else _unless_less([best], yardsticks(kept))


def yardsticks(found: Sequence[Contender]) -> list[Contender]:
    """Triton without batching, if that was measured."""
    return [each for each in found if each.name == UNBATCHED]


def counts(each: Contender, found: Sequence[Contender]) -> bool:
    """Whether a deployment may be recommended at all: the yardstick only where it is the best
    Triton there is.
    """
    return each.name != UNBATCHED or _triton([e for e in found if e.safe_rate]) is each


def _unless_less(preferred: Sequence[Contender], others: Sequence[Contender]) -> Contender | None:
    """The best of the preferred ones, or of the others if that serves clearly more."""
    first = max(preferred, key=_safe_rate, default=None)
    other = max(others, key=_safe_rate, default=None)
    if first is None or other is None:
        return first or other
    return other if is_clearly_less(first, other) else first


def is_clearly_less(first: Contender, second: Contender) -> bool:
    """Whether the first serves less than the second, beyond the intervals of both."""
    found = ratio(second, first)
    return found is not None and found.low > 1


def bands(order: Sequence[Contender]) -> tuple[Band, ...]:
    """Ascending and without a gap, the last one without end."""
    found: list[Band] = []
    reached = 0.0
    last: Contender | None = None
    for each in order:
        if last is not None and is_tie(each, last):
            found[-1] = found[-1].model_copy(update={"ties": (*found[-1].ties, each.name)})
        elif _safe_rate(each) > reached:
            high = _safe_rate(each)
            found.append(Band(low=reached, high=high, deployment=each.name, edge=_edge(each)))
            reached, last = high, each
    if last is not None:
        found.append(Band(low=reached, high=None, deployment=last.name, replicas=True))
    return tuple(found)


def _edge(contender: Contender) -> Interval | None:
    """Of the capacity; None where the probes do not tell it."""
    evaluation = contender.evaluation
    return None if evaluation.low is None else (evaluation.low, evaluation.high)
