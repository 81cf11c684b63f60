from pathlib import Path

import pytest

from benchmarks.ground_truth import read_truth
from benchmarks.search import judge, replays, summarise
from benchmarks.workloads import SPACE, WORKLOADS, Workload, named
from tuner.model.config import fit_space, read_config
from tuner.model.space import INSTANCE_COUNT, MAX_BATCH_SIZE, Candidate
from tuner.model.space_file import parse_space
from tuner.records.results import Evaluation, State
from tuner.records.run import Run


@pytest.mark.parametrize("workload", WORKLOADS, ids=[w.name for w in WORKLOADS])
def test_every_workload_is_a_model_whose_space_can_be_measured_whole(
    workload: Workload, tmp_path: Path
) -> None:
    config = read_config(workload.model(tmp_path))
    if workload.base is not None:
        assert float(config.parameters["base_us"].string_value) == 1e3 * workload.base
        assert float(config.parameters["jitter"].string_value) == workload.jitter
        assert float(config.parameters["most_items"].string_value) == workload.fits
    size = fit_space(parse_space(SPACE, "here"), config).count()
    assert size is not None
    assert 12 <= size <= 120


def test_workloads_are_found_by_name() -> None:
    assert named("gpu") is WORKLOADS[0]


def candidate(largest: int) -> Candidate:
    return Candidate.of({MAX_BATCH_SIZE: largest, INSTANCE_COUNT: 1})


def evaluation(largest: int, capacity: float, phase: str = "search") -> Evaluation:
    return Evaluation(
        trial=largest,
        phase=phase,  # type: ignore[arg-type]
        baseline=False,
        settings=dict(candidate(largest).settings),
        config="",
        state=State.OK,
        capacity=capacity,
        started="2025-01-01T00:00:00+00:00",
        seconds=1.0,
    )


def test_a_search_is_judged_by_the_truth_of_what_it_found(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run")
    for each in (evaluation(4, 900.0), evaluation(8, 1000.0), evaluation(4, 950.0, "confirm")):
        run.append(each)
    row = judge(run, {candidate(4): 800.0, candidate(8): 1000.0, candidate(16): 1250.0}, 9.0)
    assert row["quality"] == pytest.approx(800 / 1250, abs=1e-4)
    assert (row["trials"], row["measured"], row["requests"]) == (2, 2, 0)
    assert row["requests_to_good"] is None


def test_the_median_and_the_worst_of_several_seeds_are_told() -> None:
    row = {"seconds": 1.0, "launches": 3, "measured": 2, "trials": 4, "requests": 100}
    rows = [{**row, "quality": q, "requests_to_good": n} for q, n in ((1.0, 50), (0.9, None))]
    told = summarise(rows)
    assert (told["quality"], told["worst"]) == (0.95, 0.9)
    assert (told["good"], told["seeds"]) == (1, 2)
    assert told["requests_to_good"] == 50
    never = summarise([{**row, "quality": 0.9, "requests_to_good": None}, *rows])
    assert never["requests_to_good"] is None


@pytest.mark.slow
def test_samplers_are_replayed_over_a_known_truth() -> None:
    workload = named("gpu")
    found = replays(workload, read_truth(workload), seeds=1)
    assert set(found) == {"gpu, tpe, replayed", "gpu, random, replayed"}
    for row in found.values():
        assert 0 < row["quality"] <= 1
        assert row["trials"] == 20
        assert row["requests"] > 10_000
