"""What the simulator needs to know of a model: a few seconds of probes on one server."""

import math
from dataclasses import dataclass

from tuner.measure.probe import Prober
from tuner.model.space import (
    DYNAMIC_BATCHING,
    INSTANCE_COUNT,
    MAX_BATCH_SIZE,
    PREFERRED,
    QUEUE_DELAY,
    Candidate,
    Parameter,
    SearchSpace,
    Value,
)

_ALONE_SECONDS = 0.5
_SECONDS = 0.3
_EXECUTIONS = 8
_MOST_SECONDS = 3.0
_MOST_COUNTS = 4
_TRIES = 3
_MOST_CONCURRENCY = 512
_CROWD = 2.0
_HOPELESS = 1.5
_GREEDY: dict[str, Value] = {DYNAMIC_BATCHING: True, PREFERRED: (), QUEUE_DELAY: 0}


@dataclass(frozen=True)
class CalibrationPlan:
    """What to load: the largest batches, on one instance and then on more of them.

    On one also where the space has only more: what an execution takes alone is seen there.
    """

    candidates: tuple[Candidate, ...]
    """The same with fewer and smaller batches, for where the largest do not fit."""
    counts: tuple[int | None, ...]
    """Numbers of several instances, descending: all are loaded once, side by side, and then ended
    one after another. None: as many as the model has.
    """

    @classmethod
    def of(cls, space: SearchSpace, own: dict[str, Value]) -> "CalibrationPlan":
        sizes = _numbers(space.parameters.get(MAX_BATCH_SIZE))
        varied = space.parameters.get(INSTANCE_COUNT)
        counts = [count for count in reversed(_few(_numbers(varied))) if count > 1]
        base = {**own, **{p: v for p, v in _GREEDY.items() if p in space.parameters}}
        base[INSTANCE_COUNT] = 1
        larger = [{**base, MAX_BATCH_SIZE: size} for size in reversed(sizes)] or [base]
        candidates = dict.fromkeys(Candidate.of(settings) for settings in larger)
        return cls(tuple(candidates)[:_TRIES], (None,) if varied is None else tuple(counts))

    def further(self, alone: float, longest: float) -> tuple[int | None, ...]:
        """The counts that are worth a look where a request alone takes so many seconds: of slow
        ones the highest, and none that cannot keep the promise.
        """
        if alone > _HOPELESS * longest:
            return ()
        return self.counts[:1] if is_slow(alone) else self.counts


def sweep_concurrency(prober: Prober, largest: int, longest: float) -> float:
    """Windows of one instance, or one on each GPU, from one request at a time to more than fill
    their ``largest`` batches, and back at one, since the first may have met a bad time; the mean
    seconds of a request alone.

    Of slow executions two windows have to do; and one where a request alone takes clearly more than
    the ``longest`` seconds of the promise.
    """
    first = prober.sample_window(1, _ALONE_SECONDS)
    if first is None:
        return 0.0
    alone = first.mean
    steps = concurrencies(largest, first.items) if alone <= _HOPELESS * longest else []
    if is_slow(alone):
        steps = steps[-1:]
    for concurrency in steps:
        prober.sample_window(concurrency, min(max(_SECONDS, _EXECUTIONS * alone), _MOST_SECONDS))
    if len(steps) > 1:
        prober.sample_window(1, _ALONE_SECONDS)
    return alone


def is_slow(alone: float) -> bool:
    """Whether some executions, of so many seconds each, take longer than a window should."""
    return _EXECUTIONS * alone > _MOST_SECONDS


def saturate(prober: Prober, largest: int, instances: int) -> None:
    """Two windows in which all instances are busy and more requests wait; the second one is longer
    where the first saw few executions, as the last ones of a window leave instances idle.
    """
    wanted = min(math.ceil(_CROWD * largest * instances), _MOST_CONCURRENCY)
    window = prober.sample_window(wanted, _SECONDS)
    executions = window.server.executions if window else 0
    share = _EXECUTIONS * instances / max(1, executions)
    prober.sample_window(
        wanted, min(2 * share * _SECONDS, _MOST_SECONDS) if share > 1 else _SECONDS
    )


def concurrencies(largest: int, items: float) -> list[int]:
    """Requests of ``items`` each: twice 2, 4, 8 … up to ``largest`` items, and enough for more."""
    steps = [2 * 4**k for k in range(1, 10) if 4**k < largest]
    return [max(2, math.ceil(step / items)) for step in (*steps, 2 * largest, 2.5 * largest)]


def with_instances(candidate: Candidate, count: int | None) -> Candidate:
    """With so many instances of each group; None: with as many as the model has."""
    rest = {path: value for path, value in candidate.settings if path != INSTANCE_COUNT}
    return Candidate.of(rest if count is None else {**rest, INSTANCE_COUNT: count})


def _few(counts: tuple[int, ...]) -> tuple[int, ...]:
    """At most four of them, the first and the last among them, in about equal ratios."""
    if len(counts) <= _MOST_COUNTS:
        return counts
    steps = [round(i * (len(counts) - 1) / (_MOST_COUNTS - 1)) for i in range(_MOST_COUNTS)]
    return tuple(counts[i] for i in steps)


def _numbers(parameter: Parameter | None) -> tuple[int, ...]:
    """The whole numbers that a parameter may be, ascending; both ends of a large range."""
    if parameter is None:
        return ()
    found = parameter.examples() if (parameter.size or 10**9) > 64 else parameter.points()
    return tuple(sorted({v for v in found if isinstance(v, int) and not isinstance(v, bool)}))
