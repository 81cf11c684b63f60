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

_PART = re.compile(r"\s*(\d+)\s*(?::\s*(\d+(?:\.\d+)?|\.\d+)\s*)?")
_ROUNDING = 1e-12  # shares that came out of a division add up to 1 but for so much


@dataclass(frozen=True)
class BatchMix:
    """Distinct sizes in items, ascending, and the share of requests of each; shares add up to 1."""

    sizes: tuple[int, ...] = (1,)
    shares: tuple[float, ...] = (1.0,)

    @classmethod
    def parse(cls, text: str) -> "BatchMix":
        """``8``, ``1,4,16`` (in equal shares) or ``1:0.7,4:0.2,16:0.1`` (any positive weights)."""
        weights: dict[int, float] = {}
        parts = [_PART.fullmatch(part) for part in text.split(",")]
        with_share = {match[2] is not None for match in parts if match}
        if not all(parts) or len(with_share) != 1:
            raise UsageError(f"--batch {text!r} does not parse; write 8, 1,4,16 or 1:0.7,4:0.3")
        for match in parts:
            assert match is not None
            size, weight = int(match[1]), float(match[2] or 1)
            if size < 1 or weight <= 0 or size in weights:
                raise UsageError(
                    f"--batch {text!r}: sizes are different whole numbers from 1 on, and shares "
                    "are above zero"
                )
            weights[size] = weight
        total = math.fsum(weights.values())
        if math.isclose(total, 1, rel_tol=_ROUNDING):
            total = 1.0
        sizes = tuple(sorted(weights))
        return cls(sizes, tuple(weights[size] / total for size in sizes))

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
