"""Least squares that a few windows in which the machine was held up do not move."""

from dataclasses import dataclass

import numpy as np

from tuner.stats.samples import Floats


@dataclass(frozen=True)
class RobustSettings:
    corner: float = 1.345  # standard errors: 95 % as efficient as least squares on normal errors
    rounds: int = 12  # of reweighting, each a least-squares fit with no negative part


_SETTINGS = RobustSettings()


def solve(design: Floats, target: Floats, penalties: Floats | None = None) -> tuple[Floats, Floats]:
    """``x`` of at least 0 that makes ``design @ x - target`` and ``penalties @ x`` small, and the
    weights from 0 to 1 that the rows of ``design`` had; shapes (columns,) and (rows,).

    Rows are in units of their standard error. Whatever else the machine does adds time and takes
    none away: a target far above counts by its distance, not its square (Huber, Robust Estimation
    of a Location Parameter, 1964), while one below counts in full.
    """
    from scipy.optimize import nnls  # slow to import: a first server is launched meanwhile

    rest = np.zeros((0, design.shape[1])) if penalties is None else penalties
    weights = np.ones(len(design))
    x = np.zeros(design.shape[1])
    for _ in range(_SETTINGS.rounds):
        roots = np.sqrt(weights)
        stacked = np.vstack([design * roots[:, None], rest])
        x, _ = nnls(stacked, np.concatenate([target * roots, np.zeros(len(rest))]))
        above = np.maximum(target - design @ x, _SETTINGS.corner)
        weights = _SETTINGS.corner / above
    return x, weights
