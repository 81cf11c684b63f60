"""What searches stated, held against what was measured again of their winners."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from statistics import median

from benchmarks import runs
from benchmarks.load.bench import Row
from benchmarks.remeasure import Configurations, Records, Stated, middle_rate, quality
from tuner.model.space import Candidate
from tuner.records.results import best
from tuner.records.run import Run

GOOD = 0.98
"""Of the best there is: a candidate that is as good for all that matters."""
NEAR, NEARER = 0.10, 0.05
"""Shares by which a stated capacity may be off that counts as stated well."""


class Judge:
    """Holds what searches of a workload stated against what was measured again of their winners;
    of the ground truth, where nothing was.
    """

    def __init__(
        self,
        configurations: Configurations,
        records: Records,
        truth: dict[Candidate, float],
        stated: Sequence[Stated],
    ) -> None:
        self._key, self._records = configurations.key, records
        self._truth = {self._key(candidate): rate for candidate, rate in truth.items()}
        known = [max(truth, key=lambda each: truth[each])] if truth else []
        every = configurations.by_key([*known, *(each.winner for each in stated)])
        rates = {key: records.capacities(candidate) for key, candidate in every.items()}
        self._rates = {key: each for key, each in rates.items() if each}

    def requests_to_good(self, run: Run) -> int | None:
        """Requests until the best so far was good: as measured again, or by the ground truth."""

        def share(candidate: Candidate) -> float:
            return float(self._quality(self._key(candidate))["quality"] or 0.0)

        return requests_to_good(run, share, GOOD)

    def of(self, stated: Stated | None) -> Row:
        """What a search found; capacities are requests/s, ``ratio`` is stated / measured again."""
        if stated is None:
            return {"winner": None, "quality": 0.0}
        again = middle_rate(self._records.capacities(stated.winner).values())
        tests = self._records.tests(stated.winner, stated.recommended or 0.0)
        return {
            "winner": str(stated.winner),
            "stated": round(stated.capacity, 1),
            "remeasured": None if again is None else round(again, 1),
            "ratio": round(stated.capacity / again, 4) if again else None,
            "recommended": stated.recommended and round(stated.recommended, 1),
            "test": tests[-1] if tests else None,
            **self._quality(self._key(stated.winner)),
        }

    def _quality(self, winner: str) -> Row:
        again = quality(winner, self._rates) if self._rates else None
        if again is not None:
            return {"quality": round(again, 4), "quality_of": "measured again"}
        if winner in self._truth:
            share = self._truth[winner] / max(self._truth.values())
            return {"quality": round(share, 4), "quality_of": "ground truth"}
        return {"quality": None}


def requests_to_good(
    run: Run, true_capacity: Callable[[Candidate], float], good: float
) -> int | None:
    """Requests sent, those of the calibration among them, until the best that was measured so far
    was good; None if it never was.
    """
    sent = sum(window.server.requests for window in run.windows())
    best_so_far, is_good = 0.0, False
    for evaluation in run.evaluations():
        if evaluation.phase != "search":
            continue
        sent += sum(p.n for p in evaluation.probes)
        if (evaluation.capacity or 0.0) > best_so_far:
            best_so_far = evaluation.capacity or 0.0
            is_good = true_capacity(evaluation.candidate) >= good
        if is_good:
            return sent
    return None


def stated_by(run: Run) -> Stated | None:
    """What a search said; None where it found nothing."""
    winner = best(run.evaluations())
    if winner is None or winner.capacity is None:
        return None
    return Stated(winner.candidate, winner.capacity, winner.recommended)


def effort(run: Run, seconds: float) -> Row:
    """What the search took: seconds in all and by phase, trials, requests."""
    evaluations = run.evaluations()
    phases: dict[str, float] = dict.fromkeys(("search", "again", "confirm"), 0.0)
    for each in evaluations:
        phases[each.phase] += each.seconds
    proof = sum(p.seconds for e in evaluations for p in e.probes if p.purpose == "proof")
    phases["confirm"] -= proof
    phases["proof"] = proof
    phases["other"] = seconds - sum(phases.values())
    winner = best(evaluations)
    return {
        "seconds": round(seconds, 1),
        "phases": {phase: round(each, 1) for phase, each in phases.items()},
        "confirmed": winner is not None and winner.proof() is not None,
        "trials": sum(each.phase == "search" for each in evaluations),
        "requests": runs.requests_of(run),
    }


def summarise(by_workload: Iterable[Sequence[Row]]) -> Row:
    """The rows of several workloads in one; ``seconds`` are of each one's median over seeds."""
    groups = [list(rows) for rows in by_workload if rows]
    rows = list(itertools.chain(*groups))
    medians = [median(row["seconds"] for row in group) for group in groups]
    qualities = [row["quality"] for row in rows if row["quality"] is not None]
    errors = [abs(row["ratio"] - 1) for row in rows if row.get("ratio")]
    tests = Counter(row["test"] for row in rows if row.get("test"))
    return {
        "workloads": len(groups),
        "searches": len(rows),
        "seconds": round(median(medians), 1),
        "seconds_of_worst_workload": round(max(medians), 1),
        "seconds_at_most": max(row["seconds"] for row in rows),
        "confirmed": sum(row["confirmed"] for row in rows),
        "quality": round(median(qualities), 4) if qualities else None,
        "quality_at_least": min(qualities, default=None),
        "judged": len(qualities),
        "error": round(median(errors), 4) if errors else None,
        "within_5_percent": _share(error <= NEARER for error in errors),
        "within_10_percent": _share(error <= NEAR for error in errors),
        "kept": f"{tests['met']} of {tests.total()}",
        "refuted": tests["violated"],
        "trials": median(row["trials"] for row in rows),
        "requests": median(row["requests"] for row in rows),
    }


def _share(which: Iterable[bool]) -> float | None:
    every = list(which)
    return round(sum(every) / len(every), 3) if every else None
