"""Client batch sizes: how many items the requests of a load hold.

>>> BatchMix.parse("1:7,4:2,16:1").mean
3.1
>>> str(BatchMix.parse("1:7,4:2,16:1"))
'1:0.7,4:0.2,16:0.1'
"""

import math
import re
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from tuner.errors import UsageError
from tuner.text import shown
from tuner.units import whole_number

_PART = re.compile(r"([0-9]+) ?(?:: ?([0-9]+(?:\.[0-9]+)?|\.[0-9]+))?")
_ROUNDING = 1e-12  # shares that came out of a division add up to 1 but for so much


@dataclass(frozen=True)
class BatchLimits:
    """Of what a mix may say."""

    size: int = 2**31 - 1
    """Items of a request: what max_batch_size can say."""
    sizes: int = 1000
    """Different ones: each is sent at least once in a pool of some hundred requests."""
    weight: float = 1e12
    """Any share: sums of them are far from overflowing."""
    share: float = 1e-12
    """The smallest: no run sends a request of it."""


LIMITS = BatchLimits()


@dataclass(frozen=True)
class BatchMix:
    """Distinct sizes in items, ascending, and the share of requests of each; shares add up to 1."""

    sizes: tuple[int, ...] = (1,)
    shares: tuple[float, ...] = (1.0,)

    @classmethod
    def parse(cls, text: str) -> "BatchMix":
        """``8``, ``1,4,16`` (in equal shares) or ``1:0.7,4:0.2,16:0.1`` (any positive weights)."""
        weights: dict[int, float] = {}
        texts = text.split(",")
        if len(texts) > LIMITS.sizes:
            raise UsageError(f"--batch {shown(text)}: at most {LIMITS.sizes:,} sizes are supported")
        parts = [_PART.fullmatch(" ".join(part.split())) for part in texts]
        with_share = {match[2] is not None for match in parts if match}
        if not all(parts) or len(with_share) != 1:
            raise UsageError(f"--batch {shown(text)} is not valid; write 8, 1,4,16 or 1:0.7,4:0.3")
        for match in parts:
            assert match is not None
            size, weight = whole_number(match[1], LIMITS.size), float(match[2] or 1)
            if not size or not 0 < weight <= LIMITS.weight or size in weights:
                raise UsageError(
                    f"--batch {shown(text)}: sizes must be distinct whole numbers from 1 to "
                    f"{LIMITS.size:,}, and shares above zero"
                )
            weights[size] = weight
        return cls._of_weights(weights, text)

    @classmethod
    def _of_weights(cls, weights: dict[int, float], text: str) -> "BatchMix":
        total = math.fsum(weights.values())
        if math.isclose(total, 1, rel_tol=_ROUNDING):
            total = 1.0
        sizes = tuple(sorted(weights))
        shares = tuple(weights[size] / total for size in sizes)
        if min(shares) < LIMITS.share:
            raise UsageError(
                f"--batch {shown(text)}: a share of {min(shares):.0e} is too small: no request "
                "would be sent"
            )
        return cls(sizes, shares)

    def __str__(self) -> str:
        """As ``parse`` takes it, which gives the very same mix back."""
        count = len(self.sizes)
        if self.shares == (1 / count,) * count:
            return ",".join(map(str, self.sizes))
        pairs = zip(self.sizes, self.shares, strict=True)
        return ",".join(f"{size}:{Decimal(repr(share)):f}" for size, share in pairs)

    @property
    def mean(self) -> float:
        """Items per request."""
        return math.fsum(n * share for n, share in zip(self.sizes, self.shares, strict=True))

    @property
    def largest(self) -> int:
        return self.sizes[-1]

    def draw(self, count: int, rng: np.random.Generator) -> list[int]:
        """Sizes of ``count`` requests in random order, in the shares as exactly as whole numbers
        can be; each size at least once, so there are more where ``count`` is below their number.
        """
        exact = np.array(self.shares) * count
        counts = np.maximum(1, np.floor(exact).astype(int))
        while counts.sum() < count:
            counts[np.argmax(exact - counts)] += 1
        while counts.sum() > count and counts.max() > 1:
            counts[np.argmax(np.where(counts > 1, counts - exact, -np.inf))] -= 1
        sizes = np.repeat(self.sizes, counts)
        rng.shuffle(sizes)
        return [int(size) for size in sizes]
