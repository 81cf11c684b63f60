"""Boundaries of a test that is looked at several times."""

from functools import lru_cache

import numpy as np

_PATHS = 100_000
"""Random walks by which a boundary is found: its error rate is right to a tenth of a percent."""
_SHAPE = 0.25
"""Between O'Brien and Fleming's (0.0), which hardly ever ends early, and Pocock's (0.5)."""


@lru_cache
def boundary(looks: int, error: float) -> tuple[float, ...]:
    """The standard score that ends a one-sided test at each of equally spaced looks, so that it is
    wrong with the probability ``error`` over all of them; shape (looks,), falling.

    It is c · (look / looks) ** (shape - 1/2) (Wang and Tsiatis, Biometrics 43, 1987); c is found by
    simulation, always with the same random numbers.
    """
    rng = np.random.default_rng(0)
    taken = np.arange(1, looks + 1)
    walks = np.cumsum(rng.standard_normal((_PATHS, looks)), axis=1) / np.sqrt(taken)
    falling = (taken / looks) ** (_SHAPE - 0.5)
    constant = float(np.quantile((walks / falling).max(axis=1), 1 - error))
    return tuple((constant * falling).tolist())
