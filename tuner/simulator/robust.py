"""Least squares that a few windows in which the machine was held up do not move."""

import numpy as np
from scipy.optimize import nnls

from tuner.stats.samples import Floats

_CORNER = 1.345
_ROUNDS = 12


def solve(design: Floats, target: Floats, penalties: Floats | None = None) -> tuple[Floats, Floats]:
    """``x`` of at least 0 that makes ``design @ x - target`` and ``penalties @ x`` small, and the
    weights from 0 to 1 that the rows of ``design`` had; shapes (columns,) and (rows,).

    Rows are in units of their standard error. Whatever else the machine does adds time and takes
    none away: a target far above counts by its distance, not its square (Huber, Robust Estimation
    of a Location Parameter, 1964), while one below counts in full.
    """
    rest = np.zeros((0, design.shape[1])) if penalties is None else penalties
    weights = np.ones(len(design))
    x = np.zeros(design.shape[1])
    for _ in range(_ROUNDS):
        roots = np.sqrt(weights)
        stacked = np.vstack([design * roots[:, None], rest])
        x, _ = nnls(stacked, np.concatenate([target * roots, np.zeros(len(rest))]))
        above = np.maximum(target - design @ x, _CORNER)
        weights = _CORNER / above
    return x, weights
