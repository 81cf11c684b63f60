"""How punctually the open loop sends at half of what the client can."""

import numpy as np
from scipy import stats

from benchmarks.load.bench import Row, server, summary
from tuner.arrivals import Arrivals, schedule
from tuner.load.generator import LoadGenerator
from tuner.samples import Samples
from tuner.stats import quantile

SECONDS, PUNCTUAL, TRIES = 3.0, 1e-3, 5
START, GROWTH, MOST = 500.0, 1.5, 30_000.0


def measure(rounds: int) -> tuple[dict[str, Row], list[str]]:
    rows: dict[str, Row] = {}
    with server("emulated_gpu", cheap=True) as targets:
        for protocol, running in targets.items():
            for workers in (1, 2):
                with LoadGenerator(workers) as generator:
                    generator.aim(running.target)
                    generator.closed_loop(8, 0.3, 5.0)
                    limit = _limit(generator)
                    if limit == 0:
                        raise RuntimeError(f"not even {START:g} requests/s are sent on time")
                    parts = [_send(generator, limit / 2, SECONDS, n) for n in range(rounds)]
                rows[f"{protocol}, {workers} worker{'s'[: workers - 1]}"] = {
                    "limit": round(limit),
                    "rate": round(limit / 2),
                    "late_p50_us": summary([_late(p, 0.5) for p in parts]),
                    "late_p99_us": summary([_late(p, 0.99) for p in parts]),
                    "ks_p": summary([_exponential(p, limit / 2) for p in parts], 3),
                }
    return rows, [
        f"Poisson arrivals, {rounds} rounds of {SECONDS:g} s at half of the limit: the highest "
        f"rate, in steps of {GROWTH:g}, with p99 of lateness below {1e3 * PUNCTUAL:g} ms; the "
        "server shares the cores. ks_p is the p-value of a Kolmogorov-Smirnov test of the times "
        "between sends"
    ]


def _limit(generator: LoadGenerator) -> float:
    """The highest rate that is sent on time in at least one of a few tries; 0.0 where none is."""
    best, rate = 0.0, START
    while rate < MOST and any(
        _late(_send(generator, rate, 0.5, n), 0.99) < 1e6 * PUNCTUAL for n in range(TRIES)
    ):
        best, rate = rate, rate * GROWTH
    return best


def _send(generator: LoadGenerator, rate: float, seconds: float, seed: int) -> Samples:
    times = schedule(Arrivals.POISSON, rate, seconds, np.random.default_rng(seed))
    return generator.open_loop(times, 5.0).samples


def _late(samples: Samples, q: float) -> float:
    """A quantile of lateness, in microseconds."""
    found = quantile(samples.lateness, q)
    assert found is not None
    return 1e6 * found


def _exponential(samples: Samples, rate: float) -> float:
    gaps = np.diff(np.sort(samples.sent[~np.isnan(samples.sent)]))
    return float(stats.kstest(gaps, "expon", args=(0, 1 / rate)).pvalue)
