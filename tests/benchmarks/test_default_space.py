"""What searches stated, held against what was measured again."""

import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks import runs, time_limits
from benchmarks.default_space import Searches
from benchmarks.judging import Judge, summarise
from benchmarks.remeasure import Configurations, Measured, Records, Stated, middle_rate, quality
from benchmarks.workloads import named
from tuner.model.space import INSTANCE_COUNT, MAX_BATCH_SIZE, PREFERRED, QUEUE_DELAY, Candidate

GPU = named("gpu")
BEST = Candidate.of({MAX_BATCH_SIZE: 64, INSTANCE_COUNT: 2, QUEUE_DELAY: 0})
SAME = Candidate.of(
    {MAX_BATCH_SIZE: 64, INSTANCE_COUNT: 2, "dynamic_batching": True, PREFERRED: ()}
)
OTHER = Candidate.of({MAX_BATCH_SIZE: 8, INSTANCE_COUNT: 1})


@pytest.fixture(scope="module")
def configurations() -> Configurations:
    return Configurations(GPU)


def capacity(number: int, candidate: Candidate, rate: float | None) -> Measured:
    return Measured(number, dict(candidate.settings), rate)


def test_candidates_that_triton_sees_no_difference_in_are_one(
    configurations: Configurations,
) -> None:
    assert configurations.key(BEST) == configurations.key(SAME)
    assert len(configurations.by_key([BEST, SAME, OTHER])) == 2


def test_what_was_measured_is_read_again(tmp_path: Path, configurations: Configurations) -> None:
    file = tmp_path / "below" / "records.jsonl"
    records = Records(file, configurations)
    records.add(capacity(0, SAME, 1000.0))
    records.add(capacity(1, BEST, None))
    records.add(Measured(0, dict(BEST.settings), 900.0, "met"))
    again = Records(file, configurations)
    assert again.capacities(BEST) == {0: 1000.0, 1: 0.0}
    assert again.tests(SAME, 900.0) == ["met"]
    assert again.tests(SAME, 800.0) == []
    assert again.capacities(OTHER) == {}


def test_luck_makes_no_winner_look_worse() -> None:
    """Five that are as good as each other, measured to 4 %: on average each one's quality is 1."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(300):
        drawn = 1000 * np.exp(0.04 * rng.standard_normal((5, 3)))
        rates = {
            str(k): {n: float(rate) for n, rate in enumerate(row)} for k, row in enumerate(drawn)
        }
        found.append(quality("0", rates) or 0.0)
    assert float(np.mean(found)) == pytest.approx(1.0, abs=0.006)


def test_the_quality_is_of_rounds_that_all_have() -> None:
    rates = {"a": {0: 500.0, 1: 550.0, 2: 510.0, 3: 1.0}, "b": {0: 1000.0, 1: 1100.0, 2: 1020.0}}
    assert quality("a", rates) == pytest.approx(0.5)
    assert quality("b", rates) == pytest.approx(1.0)
    assert quality("c", rates) is None
    assert quality("a", {"a": {0: 500.0, 1: 500.0}}) is None
    assert (
        quality("a", {"a": dict.fromkeys(range(3), 0.0), "b": dict.fromkeys(range(3), 1.0)}) == 0.0
    )


def test_one_round_that_had_a_bad_time_decides_nothing() -> None:
    assert middle_rate([400.0, 1000.0, 1010.0]) == 1000.0
    assert middle_rate([]) is None
    steady, once_bad = {n: 1000.0 for n in range(3)}, {0: 500.0, 1: 1010.0, 2: 1010.0}
    found = quality("steady", {"steady": steady, "once bad": once_bad})
    assert found == pytest.approx(1.0, abs=0.02)


def test_a_search_is_held_against_what_was_measured_again(
    tmp_path: Path, configurations: Configurations
) -> None:
    records = Records(tmp_path / "records.jsonl", configurations)
    stated = Stated(OTHER, 1100.0, 900.0)
    truth = {BEST: 2000.0, OTHER: 1000.0}
    before = Judge(configurations, records, truth, [stated]).of(stated)
    assert (before["quality"], before["quality_of"]) == (0.5, "ground truth")
    assert before["ratio"] is None
    for number in range(3):
        records.add(capacity(number, BEST, 2000.0))
        records.add(capacity(number, OTHER, 1200.0))
    records.add(Measured(0, dict(OTHER.settings), 900.0, "violated"))
    row = Judge(configurations, records, truth, [stated]).of(stated)
    assert (row["quality"], row["quality_of"]) == (0.6, "measured again")
    assert row["ratio"] == pytest.approx(1100 / 1200, abs=1e-4)
    assert row["test"] == "violated"
    assert Judge(configurations, records, truth, []).of(None)["quality"] == 0.0


def test_medians_and_the_worst_are_told() -> None:
    effort = {"confirmed": True, "trials": 3, "requests": 100}
    groups = [
        [
            {**effort, "seconds": seconds, "quality": 0.99, "ratio": ratio, "test": test}
            for seconds, ratio, test in each
        ]
        for each in (
            [(50.0, 1.04, "met"), (70.0, 0.97, "met")],
            [(80.0, 1.2, "violated"), (90.0, 0.92, "inconclusive")],
        )
    ]
    told = summarise([*groups, []])
    assert (told["workloads"], told["searches"]) == (2, 4)
    assert told["seconds"] == 72.5
    assert (told["seconds_of_worst_workload"], told["seconds_at_most"]) == (85.0, 90.0)
    assert (told["within_5_percent"], told["within_10_percent"]) == (0.5, 0.75)
    assert (told["kept"], told["refuted"]) == ("2 of 4", 1)
    assert math.isclose(told["error"], 0.06, abs_tol=1e-3)


def test_a_search_that_is_kept_is_not_run_again(tmp_path: Path) -> None:
    """One that was interrupted is."""
    ran = []

    def search(place: Path) -> None:
        ran.append(place)
        (place / "reports" / "run").mkdir(parents=True)
        (place / "reports" / "run" / "experiment.yaml").write_text("")

    place = tmp_path / "gpu-default-0"
    place.mkdir()
    (place / "left by an interrupt").write_text("")
    assert runs.kept(place) is None
    _, seconds = runs.keep(place, search)
    assert runs.keep(place, search)[1] == seconds
    assert ran == [place]
    assert not (place / "left by an interrupt").exists()


def test_nothing_that_is_kept_makes_no_rows(tmp_path: Path) -> None:
    assert Searches(GPU, False, tmp_path).rows(5, "quiet") == {}
    assert time_limits.rows(tmp_path, 5) == {}
