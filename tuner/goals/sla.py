"""The SLA: bounds on percentiles of the latency, and on errors.

>>> str(Sla.parse("p99<20ms, errors<0.1%"))
'p99 ≤ 20 ms and errors ≤ 0.1 %'
>>> Sla.parse("p50 < 5ms, p99 < 0.02s").text
'p50<5ms,p99<20ms'
>>> str(Sla.parse("detector:p99<40ms,classifier:p99<20ms"))
'classifier p99 ≤ 20 ms and detector p99 ≤ 40 ms'
"""

import math
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from decimal import Decimal

from tuner.errors import UnitError, UsageError
from tuner.stats.estimators import quantile
from tuner.stats.samples import Bools, Samples
from tuner.text import shown
from tuner.units import exact_duration, format_duration, parse_duration

_LATENCY = re.compile(r"p([0-9]{1,2}(?:\.[0-9]+)?) ?(?:<=?|≤) ?(.+)", re.IGNORECASE)
_ERRORS = re.compile(r"errors ?(?:<=?|≤) ?([0-9]+(?:\.[0-9]*)?|\.[0-9]+) ?%", re.IGNORECASE)
_SEPARATOR = re.compile(r",|\sand\s")
_MOST_BOUNDS = 20  # each is judged in each probe


@dataclass(frozen=True, order=True)
class Bound:
    """``percentile`` in (0, 1) of the latencies lies within ``limit`` seconds; errors are late.

    A limit of +inf bounds the errors alone: their share is at most ``budget``. With a ``model`` it
    bounds the requests to that one alone.
    """

    percentile: float
    limit: float
    model: str = ""

    @property
    def name(self) -> str:
        """``p99.9``, or ``errors``; with the model in front, if there is one."""
        return f"{self.model} {self.of_all}" if self.model else self.of_all

    @property
    def of_all(self) -> str:
        """The name without the model."""
        if self.on_errors:
            return "errors"
        return f"p{_shortest(100 * self.percentile, lambda p: p / 100 == self.percentile)}"

    def of(self, samples: Samples) -> Samples:
        """The requests that it bounds."""
        return samples.of(self.model) if self.model else samples

    @property
    def budget(self) -> float:
        """The error budget: the share of requests that may be late."""
        return 1 - self.percentile

    @property
    def on_errors(self) -> bool:
        return math.isinf(self.limit)

    def late(self, samples: Samples) -> Bools:
        """Which of the requests that it bounds (``of``) were late or, for a bound on errors,
        failed; shape (n,).
        """
        return ~samples.ok if self.on_errors else samples.latency > self.limit

    def __str__(self) -> str:
        if self.on_errors:
            return f"{self.name} ≤ {self._errors_percent} %"
        limit = format_duration(self.limit)
        exact = parse_duration(limit) == self.limit
        return f"{self.name} ≤ {limit if exact else exact_duration(self.limit)}"

    @property
    def text(self) -> str:
        """``p99<20ms`` or ``errors<0.1%``, as ``--sla`` takes it."""
        model = f"{self.model}:" if self.model else ""
        if self.on_errors:
            return f"{model}errors<{self._errors_percent}%"
        return f"{model}{self.of_all}<{exact_duration(self.limit)}"

    @property
    def _errors_percent(self) -> str:
        return _shortest(100 * self.budget, lambda p: 1 - p / 100 == self.percentile)


@dataclass(frozen=True)
class Sla:
    """Bounds that hold at once, ascending; at least one of them is on latency.

    ``parse`` gives the very same Sla back from ``text`` as from ``str``, which is for people.
    """

    bounds: tuple[Bound, ...]

    @classmethod
    def parse(cls, text: str) -> "Sla":
        """From ``p99<20ms`` or ``p50<5ms,p99<20ms,errors<0.1%``."""
        parts = _SEPARATOR.split(text)
        if len(parts) > _MOST_BOUNDS:
            raise UnitError(f"{shown(text)} has more than {_MOST_BOUNDS} bounds")
        bounds = sorted({_parse_bound(part) for part in parts})
        if all(bound.on_errors for bound in bounds):
            raise UnitError(
                f"{shown(text.strip())} has no bound on latency; write p99<20ms,errors<0.1%"
            )
        return cls(tuple(bounds))

    @property
    def models(self) -> tuple[str, ...]:
        """Those that have bounds of their own."""
        return tuple(sorted({bound.model for bound in self.bounds if bound.model}))

    def of_each(self, models: Collection[str]) -> "Sla":
        """With bounds of each of several models that are asked: what is said without a model counts
        for each one. UsageError if a model has no bound on latency, or one is named that is not
        asked.
        """
        for bound in self.bounds:
            if bound.model and bound.model not in models:
                raise UsageError(
                    f"--sla {bound.text}: {bound.model} gets no requests; those that do are "
                    f"{', '.join(models)}"
                )
        bounds = sorted(
            {
                replace(bound, model=model)
                for bound in self.bounds
                for model in ([bound.model] if bound.model else models)
            }
        )
        for model in models:
            if all(bound.on_errors for bound in bounds if bound.model == model):
                raise UsageError(
                    f"--sla says nothing of {model}; add a bound such as {model}:p99<20ms"
                )
        return Sla(tuple(bounds))

    @property
    def text(self) -> str:
        """``p99<20ms,errors<0.1%``, as ``--sla`` takes it."""
        return ",".join(bound.text for bound in self.bounds)

    @property
    def primary(self) -> Bound:
        """The bound on the highest percentile: the one that figures and tables show."""
        return [bound for bound in self.bounds if not bound.on_errors][-1]

    @property
    def longest(self) -> float:
        """The loosest latency limit in seconds: a request that takes longer is late for every
        bound.
        """
        return max(bound.limit for bound in self.bounds if not bound.on_errors)

    def __str__(self) -> str:
        return " and ".join(map(str, self.bounds))


def _parse_bound(text: str) -> Bound:
    model, separator, rest = text.rpartition(":")
    if separator:
        model = model.strip()
        if not model or any(letter.isspace() for letter in model):
            raise UnitError(f"bound {shown(text.strip())}: write it like detector:p99<20ms")
        return replace(_parse_bound(rest), model=model)
    spaced = " ".join(text.split())
    errors, match = _ERRORS.fullmatch(spaced), _LATENCY.fullmatch(spaced)
    if errors is not None and 0 < 1 - float(errors[1]) / 100 < 1:
        return Bound(1 - float(errors[1]) / 100, math.inf)
    if match is None or not 0 < float(match[1]) / 100 < 1:
        raise UnitError(
            f"bound {shown(text.strip())} is not valid; write p99<20ms, or p99<20ms,errors<0.1%"
        )
    limit = parse_duration(match[2])
    if not 0 < limit < math.inf:
        raise UnitError(f"bound {shown(text.strip())}: the limit must be greater than zero")
    return Bound(float(match[1]) / 100, limit)


def bound_ratio(samples: Samples, sla: Sla) -> float | None:
    """The largest ratio of a measured percentile, or share of errors, to its limit over all bounds;
    None without data. At most 1 if the samples, taken at face value, meet the SLA; +inf if failed
    requests reach a percentile.
    """
    if len(samples) == 0:
        return None
    ratios = []
    for bound in sla.bounds:
        own = bound.of(samples)
        if not len(own):
            continue
        if bound.on_errors:
            ratios.append(own.errors / len(own) / bound.budget)
        else:
            ratios.append((quantile(own.latency, bound.percentile) or 0.0) / bound.limit)
    return max(ratios, default=None)


def _shortest(near: float, is_same: Callable[[float], bool]) -> str:
    """The shortest decimal about ``near`` that ``is_same``; no other way to print it is exact."""
    for digits in range(1, 18):
        for number in (near, math.nextafter(near, 0.0), math.nextafter(near, math.inf)):
            text = f"{Decimal(f'{number:.{digits}g}'):f}"
            if is_same(float(text)):
                return text
    raise ValueError(f"no decimal comes to {near!r}")
