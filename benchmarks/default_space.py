"""Searches of the default space with default options, and what they stated, measured again.

The steps of ``python -m benchmarks.search --space default`` over one folder. Rows are of all that
is in it: one for each search, and one for each kind of workloads, with medians and the worst.
"""

import contextlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from benchmarks import runs, time_limits
from benchmarks.ground_truth import read_truth
from benchmarks.judging import Judge, effort, stated_by, summarise
from benchmarks.load.bench import ROOT, Row
from benchmarks.load.disturber import disturber
from benchmarks.remeasure import Configurations, Records, Stated, measure_again
from benchmarks.workloads import Workload
from tuner.records.run import Run

Surroundings = Literal["quiet", "disturbed"]
_REPLAYED = ROOT / "benchmarks" / "results" / "search.json"
_SURROUNDINGS: tuple[Surroundings, ...] = ("quiet", "disturbed")
_NOTES = [
    "tuner search MODEL --launcher local with the SLA, load and batch of the workload: the rest is "
    "as by default. seconds are those of the whole command; of a summary, the median over "
    "workloads of the medians over seeds, the worst of those, and the longest search",
    "winners and the best of the ground truth are measured again, interleaved, each time on a "
    "fresh server. quality is the winner's capacity over that of the best: in each round the best "
    "is the one that is best in the other rounds, so that luck makes no winner look worse, and "
    "the median of the rounds counts. Where "
    "nothing was measured again, it is that of the ground truth",
    "ratio is the stated capacity over the one measured again, error its distance from 1. test is "
    "a full test of up to 90 s at 95 % of the recommended rate; kept counts those that are met",
    "requests_to_good: sent until the best so far was within 2 % of the best there is, calibration "
    "included; of TPE, replayed over the ground truth, whose space has forty candidates",
    "disturbed: a process takes a core for 100 ms every two seconds",
]


@dataclass(frozen=True)
class Step:
    """What to measure now: searches, ``disturbed`` or not; or the winners of these again, in the
    surroundings that ``remeasure`` names; or searches with time limits; or nothing.
    """

    disturbed: bool = False
    remeasure: Surroundings | None = None
    rounds: int = 5
    limits: bool = False
    report_only: bool = False


@dataclass(frozen=True)
class Searches:
    """Those of one workload, quiet or disturbed, by seed; what of them is in the folder."""

    workload: Workload
    disturbed: bool
    folder: Path

    @property
    def label(self) -> str:
        return self.workload.name + ", disturbed" * self.disturbed

    def run(self, seed: int) -> None:
        """A search with that seed, unless it was run already."""
        search = partial(runs.search, self.workload, (), seed)
        _, seconds = runs.keep(self._place(seed), search, self.disturbed)
        print(f"{self.label}, seed {seed}: {seconds:.1f} s", file=sys.stderr)

    def kept(self, seeds: int) -> dict[int, tuple[Run, float]]:
        """Run and seconds by seed."""
        found = {seed: runs.kept(self._place(seed)) for seed in range(seeds)}
        return {seed: each for seed, each in found.items() if each is not None}

    def records(self, configurations: Configurations, surroundings: str) -> Records:
        """What was measured again, ``quiet`` or ``disturbed``."""
        file = self.folder / f"{self._name}-remeasured-{surroundings}.jsonl"
        return Records(file, configurations)

    def stated(self, seeds: int) -> list[Stated]:
        """What those that found something said."""
        found = (stated_by(run) for run, _ in self.kept(seeds).values())
        return [each for each in found if each is not None]

    def remeasure(self, seeds: int, rounds: int, surroundings: str) -> None:
        """All winners, and the best of the ground truth."""
        stated = self.stated(seeds)
        if not stated:
            return
        truth = read_truth(self.workload)
        others = [max(truth, key=lambda each: truth[each])] if truth else []
        records = self.records(Configurations(self.workload), surroundings)
        with disturber() if surroundings == "disturbed" else contextlib.nullcontext():
            measure_again(self.workload, stated, others, records, rounds)

    def rows(self, seeds: int, surroundings: str) -> dict[str, Row]:
        """A row for each search that is kept, with what was measured again in the surroundings."""
        configurations = Configurations(self.workload)
        records = self.records(configurations, surroundings)
        judge = Judge(configurations, records, read_truth(self.workload), self.stated(seeds))
        return {
            f"{self.label}, seed {seed}": {
                **effort(run, seconds),
                "requests_to_good": judge.requests_to_good(run),
                **judge.of(stated_by(run)),
            }
            for seed, (run, seconds) in self.kept(seeds).items()
        }

    @property
    def _name(self) -> str:
        words = (self.workload.name, "default", *["disturbed"] * self.disturbed)
        return "-".join(words).replace(" ", "_")

    def _place(self, seed: int) -> Path:
        return self.folder / f"{self._name}-{seed}"


def measure(
    workloads: Sequence[Workload], seeds: int, folder: Path, step: Step
) -> tuple[dict[str, Row], list[str]]:
    """Take the step; then rows of all that is in the folder, and notes."""
    _take(step, [Searches(each, step.disturbed, folder) for each in workloads], seeds, folder)
    rows: dict[str, Row] = {}
    summaries: dict[str, Row] = {}
    for disturbed in (False, True):
        every = [Searches(each, disturbed, folder) for each in workloads]
        for surroundings in _SURROUNDINGS:
            found = {each: each.rows(seeds, surroundings) for each in every}
            again = any(row.get("remeasured") for each in found.values() for row in each.values())
            if surroundings == "disturbed" and not again:
                continue
            about = ", measured again while disturbed" * (surroundings == "disturbed")
            rows |= {f"{k}{about}": row for each in found.values() for k, row in each.items()}
            summaries |= {f"{k}{about}": row for k, row in _summaries(found).items()}
    peers = {f"{each.name}, TPE": _tpe(each) for each in workloads if each.base}
    return summaries | time_limits.rows(folder, seeds) | rows | peers, _NOTES


def _tpe(workload: Workload) -> Row:
    """What Optuna's TPE would have sent in the smaller space of the ground truth, as
    ``benchmarks.search`` found.
    """
    rows = json.loads(_REPLAYED.read_text(encoding="utf-8"))["rows"]
    found = rows.get(f"{workload.name}, tpe, replayed", {})
    return {"requests_to_good": found.get("requests_to_good")}


def _take(step: Step, every: Sequence[Searches], seeds: int, folder: Path) -> None:
    if step.report_only:
        return
    if step.remeasure:
        for searches in every:
            searches.remeasure(seeds, step.rounds, step.remeasure)
        return
    for seed in range(seeds):  # seed by seed, so that a slow hour does not meet one workload alone
        if step.limits:
            time_limits.run(folder, seed)
            continue
        for searches in every:
            searches.run(seed)


def _summaries(found: dict[Searches, dict[str, Row]]) -> dict[str, Row]:
    """One for all emulated workloads, and one for each real model."""
    kinds: dict[str, list[list[Row]]] = {}
    for searches, rows in found.items():
        name = "emulated workloads" if searches.workload.base else searches.workload.name
        kind = name + ", disturbed" * searches.disturbed
        if rows:
            kinds.setdefault(kind, []).append(list(rows.values()))
    return {f"{kind}, all": summarise(groups) for kind, groups in kinds.items()}
