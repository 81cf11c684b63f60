"""Evidence that grows while a probe runs, and may be looked at any time: e-values.

An e-value is a likelihood ratio against the hypothesis, mixed over alternatives; under the
hypothesis it exceeds 1 / alpha at any look ever with a probability of at most alpha (Ville's
inequality; Wald's sequential test is the case of one alternative). So a probe may be judged after
every request and stopped at once, and the stated error still holds.
"""

import math
from dataclasses import dataclass

import numpy as np

from tuner.stats.samples import Floats


@dataclass(frozen=True)
class EvidenceSettings:
    """Alternatives to the hypothesis, in shares of it, and their weights, which add up to 1."""

    below: tuple[float, ...] = (0.02, 0.15, 0.4, 0.7)  # from hardly any late to near the budget
    below_weights: tuple[float, ...] = (0.55, 0.2, 0.15, 0.1)  # of most good rates hardly any is
    above: tuple[float, ...] = (1.4, 2.5, 6.0, 20.0)  # from near the budget to an overload
    above_weights: tuple[float, ...] = (0.25, 0.25, 0.25, 0.25)  # each as likely


_SETTINGS = EvidenceSettings()


def log_evidence_below(late: float, n: float, share: float) -> float:
    """Log of the e-value against "the true share of late requests is ``share`` or more".

    ``late`` of ``n`` requests, 0 <= late <= n, counted in effective (independent) requests.
    """
    below = share * np.array(_SETTINGS.below)
    return _log_mixture(late, n, share, below, np.array(_SETTINGS.below_weights))


def log_evidence_above(late: float, n: float, share: float) -> float:
    """Log of the e-value against "the true share of late requests is ``share`` or less"."""
    above = np.minimum(share * np.array(_SETTINGS.above), (1 + share) / 2)
    return _log_mixture(late, n, share, above, np.array(_SETTINGS.above_weights))


def enough(confidence: float) -> float:
    """The log of an e-value that shows what it stands for at that confidence."""
    return -math.log(1 - confidence)


def _log_mixture(
    late: float, n: float, share: float, alternatives: Floats, weights: Floats
) -> float:
    """Logs of the likelihood ratios of ``alternatives``, shape (k,), to ``share``, mixed."""
    ratios = late * np.log(alternatives / share) + (n - late) * np.log(
        (1 - alternatives) / (1 - share)
    )
    return float(np.logaddexp.reduce(ratios + np.log(weights)))
