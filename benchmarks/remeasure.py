"""Winners of searches measured again, beside the best that is known.

This may be on another day: what was measured is a line of a file, and nothing in it is measured
twice. Each measurement has a fresh server and arrivals of its own, and starts from the server's own
saturation, not from what the search stated. All candidates are interleaved, round by round.
"""

import json
import math
import random
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.ground_truth import Harness
from benchmarks.workloads import Workload
from tuner.errors import CandidateError
from tuner.load.generator import LoadGenerator
from tuner.measurement.capacity import find_capacity
from tuner.measurement.session import CandidateSession
from tuner.measurement.settings import EFFORTS, JUDGEMENT, SEARCH_PROBE, START
from tuner.model.config import read_config, render, to_text
from tuner.model.parameter import Value
from tuner.model.space import Candidate

_FULL_TEST = replace(JUDGEMENT, confidence=0.95)
"""Up to 90 s of the recommended rate, at 95 %: as sure as the SLA's verdicts in a search."""
_FEWEST_ROUNDS = 3
_FIRST_SEED = 10_000
"""Seeds that no search has."""


@dataclass(frozen=True)
class Measured:
    """One measurement: the capacity of a candidate (``rate`` is what was found, requests/s, None
    where there is none), or the full test of a ``rate`` and its ``outcome``.
    """

    round: int
    settings: dict[str, Value]
    rate: float | None
    outcome: str | None = None
    failure: str | None = None
    date: str = ""

    @property
    def candidate(self) -> Candidate:
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in self.settings.items()}
        return Candidate.of(values)


@dataclass(frozen=True)
class Stated:
    """What a search said: its winner, the capacity and the recommended rate (requests/s)."""

    winner: Candidate
    capacity: float
    recommended: float | None


class Configurations:
    """Tells candidates of one model apart by what Triton gets to see of them."""

    def __init__(self, workload: Workload) -> None:
        with TemporaryDirectory() as name:
            self._config = read_config(workload.model(Path(name)))

    def key(self, candidate: Candidate) -> str:
        """The same for two candidates that come to the same configuration."""
        return to_text(render(self._config, candidate))

    def by_key(self, candidates: Iterable[Candidate]) -> dict[str, Candidate]:
        return {self.key(candidate): candidate for candidate in candidates}


class Records:
    """The measurements of one workload, in a file of one line for each."""

    def __init__(self, file: Path, configurations: Configurations) -> None:
        self._file, self._configurations = file, configurations
        lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
        self._all = [Measured(**json.loads(line)) for line in lines]

    def add(self, measured: Measured) -> None:
        self._all.append(measured)
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(measured)) + "\n")

    def capacities(self, candidate: Candidate) -> dict[int, float]:
        """By round, requests/s; 0.0 where there was none."""
        return {m.round: m.rate or 0.0 for m in self._of(candidate) if m.outcome is None}

    def tests(self, candidate: Candidate, rate: float) -> list[str]:
        """The outcomes of the full tests of that rate."""
        found = [m for m in self._of(candidate) if m.outcome is not None]
        return [m.outcome or "" for m in found if math.isclose(m.rate or 0.0, rate)]

    def _of(self, candidate: Candidate) -> Iterator[Measured]:
        key = self._configurations.key(candidate)
        return (m for m in self._all if self._configurations.key(m.candidate) == key)


def measure_again(
    workload: Workload,
    stated: Sequence[Stated],
    others: Iterable[Candidate],
    records: Records,
    rounds: int,
) -> None:
    """Measure the winners and ``others`` until each has so many rounds, and each recommended rate
    was tested once.
    """
    configurations = Configurations(workload)
    candidates = list(configurations.by_key([*others, *(s.winner for s in stated)]).values())
    with (
        TemporaryDirectory() as name,
        LoadGenerator() as generator,
        Harness(workload, Path(name), generator) as harness,
    ):
        for number in range(rounds):
            tasks: list[tuple[Candidate, float | None]] = [
                (c, None) for c in candidates if number not in records.capacities(c)
            ]
            tasks += [
                (each.winner, each.recommended)
                for each in stated[number::rounds]
                if each.recommended and not records.tests(each.winner, each.recommended)
            ]
            random.Random(number).shuffle(tasks)
            for place, (candidate, rate) in enumerate(tasks):
                seed = _FIRST_SEED + 100 * number + place
                found = _measure(harness, candidate, rate, seed)
                done = replace(found, round=number, date=time.strftime("%Y-%m-%d"))
                records.add(done)
                print(workload.name, done, file=sys.stderr)


def _measure(harness: Harness, candidate: Candidate, rate: float | None, seed: int) -> Measured:
    """The capacity, or the full test of the rate; once more where one stall decided that."""
    settings = dict(candidate.settings)
    try:
        with harness.session(candidate, seed) as session:
            if rate is None:
                return Measured(0, settings, _capacity(session))
            result = session.probe(rate, _FULL_TEST, "measure")
            if result.repeat:
                result = session.probe(rate, _FULL_TEST, "measure")
            return Measured(0, settings, rate, result.outcome.value)
    except CandidateError as error:
        outcome = None if rate is None else "failed"
        return Measured(0, settings, rate, outcome, str(error).splitlines()[0])


def _capacity(session: CandidateSession) -> float | None:
    start = START.of_saturation * session.saturation
    found = find_capacity(lambda r: session.probe(r, SEARCH_PROBE), start, EFFORTS.measure)
    return None if found.rate is None else round(found.rate, 1)


def middle_rate(rates: Iterable[float]) -> float | None:
    """The median (requests/s): one round that had a bad time decides nothing. None of none."""
    known = list(rates)
    return median(known) if known else None


def quality(winner: str, rates: dict[str, dict[int, float]]) -> float | None:
    """The winner's capacity over that of the best, by rounds in which all were measured.

    The median over the rounds; in each of these the best is the one that is best in the others,
    since the largest of several measurements flatters, and would make every winner look worse. None
    with fewer than three rounds, of which a single bad one would decide.
    """
    rounds = sorted(set.intersection(*(set(each) for each in rates.values())))
    if len(rounds) < _FEWEST_ROUNDS or winner not in rates:
        return None
    ratios = []
    for left_out in rounds:
        others = [number for number in rounds if number != left_out]
        best = max(rates, key=lambda key: middle_rate(rates[key][n] for n in others) or 0.0)
        if rates[best][left_out]:
            ratios.append(rates[winner][left_out] / rates[best][left_out])
    return median(ratios) if ratios else 0.0
