"""Evidence that grows while a probe runs, and may be looked at any time: e-values.

An e-value is a likelihood ratio against the hypothesis, mixed over alternatives; under the
hypothesis it exceeds 1 / alpha at any look ever with a probability of at most alpha (Ville's
inequality; Wald's sequential test is the case of one alternative). So a probe may be judged after
every request and stopped at once, and the stated error still holds.
"""

import math

import numpy as np

from tuner.stats.samples import Floats

_BELOW = np.array([0.02, 0.15, 0.4, 0.7])
_BELOW_WEIGHTS = np.array([0.55, 0.2, 0.15, 0.1])
_ABOVE = np.array([1.4, 2.5, 6.0, 20.0])
_ABOVE_WEIGHTS = np.array([0.25, 0.25, 0.25, 0.25])


def log_evidence_below(late: float, n: float, share: float) -> float:
    """Log of the e-value against "the true share of late requests is ``share`` or more".

    ``late`` of ``n`` requests, 0 <= late <= n, counted in effective (independent) requests.
    """
    return _log_mixture(late, n, share, share * _BELOW, _BELOW_WEIGHTS)


def log_evidence_above(late: float, n: float, share: float) -> float:
    """Log of the e-value against "the true share of late requests is ``share`` or less"."""
    above = np.minimum(share * _ABOVE, (1 + share) / 2)
    return _log_mixture(late, n, share, above, _ABOVE_WEIGHTS)


def enough(confidence: float) -> float:
    """The log of an e-value that shows what it stands for at that confidence."""
    return -math.log(1 - confidence)


def _log_mixture(
    late: float, n: float, share: float, alternatives: Floats, weights: Floats
) -> float:
    ratios = late * np.log(alternatives / share) + (n - late) * np.log(
        (1 - alternatives) / (1 - share)
    )
    return float(np.logaddexp.reduce(ratios + np.log(weights)))
