"""A mix of requests to several models: how often each is asked.

>>> Mix.parse("detector=1,classifier=5").rates(600.0)
{'detector': 100.0, 'classifier': 500.0}
>>> str(Mix.parse("a=2,b=6"))
'a=1,b=3'
"""

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tuner.documents import lines_of, opened
from tuner.errors import DocumentError, UsageError
from tuner.stats.samples import Ints
from tuner.text import shown

_PART = re.compile(r"([^=\s]+) ?= ?([0-9]+(?:\.[0-9]+)?|\.[0-9]+)")
_NEGATIVE = re.compile(r"([^=\s]+) ?= ?-.*")


@dataclass(frozen=True)
class MixLimits:
    """Of what a mix may say."""

    models: int = 32
    weight: float = 1e9
    line: int = 1 << 20
    """Bytes of a line of a log."""
    share: float = 1e-4
    """The smallest: a probe of some thousand requests has to hold a few of each."""


LIMITS = MixLimits()


@dataclass(frozen=True)
class Mix:
    """``weights`` of the models whose rates grow together, in the order in which they were given;
    ``held`` are the fixed rates (requests/s) of others.

    A rate of the mix is that of the models with weights together: it is what is maximized.
    """

    weights: tuple[tuple[str, float], ...]
    held: tuple[tuple[str, float], ...] = field(default=())

    @classmethod
    def parse(cls, text: str, option: str = "--mix") -> "Mix":
        """``detector=1,classifier=5``: any positive weights."""
        return cls(tuple(_parts(text, option).items()))

    @classmethod
    def equal(cls, models: Collection[str]) -> "Mix":
        return cls(tuple((model, 1.0) for model in models))

    def holding(self, held: Mapping[str, float]) -> "Mix":
        """With some models at fixed rates (requests/s), whatever their weights were. UsageError if
        no other is left.
        """
        weights = tuple((model, weight) for model, weight in self.weights if model not in held)
        if not weights:
            raise UsageError("--hold leaves no model whose rate could be maximized")
        return Mix(weights, tuple(held.items()))

    @property
    def models(self) -> tuple[str, ...]:
        """All that are asked."""
        return tuple(model for model, _ in (*self.weights, *self.held))

    @property
    def shares(self) -> dict[str, float]:
        """Of the rate of the mix, by model; they add up to 1."""
        total = math.fsum(weight for _, weight in self.weights)
        return {model: weight / total for model, weight in self.weights}

    def rates(self, rate: float) -> dict[str, float]:
        """Requests/s of each model at a rate of the mix."""
        return {model: share * rate for model, share in self.shares.items()} | dict(self.held)

    def total(self, rate: float) -> float:
        """Requests/s of all models together at a rate of the mix."""
        return rate + math.fsum(each for _, each in self.held)

    def kinds(self, rate: float, count: int, rng: np.random.Generator) -> Ints:
        """Of so many requests at a rate of the mix, the place of each one's model in ``models``.

        Each is drawn by itself, so that of Poisson arrivals each model gets Poisson arrivals.
        """
        rates = np.array(list(self.rates(rate).values()))
        return np.asarray(rng.choice(len(rates), count, p=rates / rates.sum()), dtype=np.int64)

    def __str__(self) -> str:
        """As ``parse`` takes it; the least weight is 1."""
        least = min(weight for _, weight in self.weights)
        return ",".join(f"{model}={weight / least:.6g}" for model, weight in self.weights)


def mix_of_log(file: str) -> Mix:
    """The shares of a log of requests: CSV with a column ``model``, a row for each request."""
    name = shown(file)
    try:
        with opened(Path(file)) as raw:
            text = io.TextIOWrapper(raw, encoding="utf-8", errors="replace", newline="")
            rows = csv.DictReader(lines_of(text, LIMITS.line))
            if "model" not in (rows.fieldnames or ()):
                raise UsageError(
                    f"--mix {name} has no column model; write shares like detector=1,classifier=5, "
                    "or give a log (CSV) with that column"
                )
            counts = Counter((row["model"] or "").strip() for row in rows)
    except (DocumentError, csv.Error) as error:
        raise UsageError(
            f"--mix {name} is not valid: {error}; write it like detector=1,classifier=5"
        ) from error
    counts.pop("", None)
    if not counts:
        raise UsageError(f"--mix {name} has no request in it")
    return Mix.parse(",".join(f"{model}={count}" for model, count in counts.items()))


def parse_rates(text: str, option: str = "--hold") -> dict[str, float]:
    """``classifier=200``: requests/s by model; more with commas."""
    return _parts(text, option)


def _parts(text: str, option: str) -> dict[str, float]:
    example = "detector=1,classifier=5" if option == "--mix" else "classifier=200"
    found: dict[str, float] = {}
    texts = text.split(",")
    if len(texts) > LIMITS.models:
        raise UsageError(f"{option} names more than {LIMITS.models} models")
    for part in texts:
        spaced = " ".join(part.split())
        match = _PART.fullmatch(spaced)
        value = float(match[2]) if match else 0.0
        if match is None and _NEGATIVE.fullmatch(spaced) is None:
            raise UsageError(f"{option} {shown(text)} is not valid; write it like {example}")
        if match is None or not 0 < value <= LIMITS.weight:
            raise UsageError(f"{option} {shown(text)}: each number must be above zero")
        if match[1] in found:
            raise UsageError(f"{option} {shown(text)} names {match[1]} twice")
        found[match[1]] = value
    total = math.fsum(found.values())
    if option == "--mix" and min(found.values()) < LIMITS.share * total:
        raise UsageError(
            f"{option} {shown(text)}: a share below {LIMITS.share:g} cannot be judged, since "
            "hardly any request would be sent"
        )
    return found
