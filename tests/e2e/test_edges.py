"""Searches at the edge of what there is to search: each ends soon, and says why."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Outcome, no_server_left, sleepy_model
from tuner.records.results import State
from tuner.records.run import Run

pytestmark = [pytest.mark.triton, pytest.mark.usefixtures("embedded_triton")]
Tuner = Callable[..., Outcome]
SMALL = """
parameters:
  max_batch_size: [4, 8]
  instance_group.count: [1, 2]
"""
WORDS = ("--space", "space.yaml", "--load", "constant", "--confirm", "none", "--json")


@pytest.fixture(autouse=True)
def nothing_left_running(tmp_path: Path) -> Iterator[None]:
    with no_server_left(tmp_path):
        yield


def test_a_single_candidate_is_measured_and_that_is_all(
    tuner: Tuner, repository: Path, tmp_path: Path
) -> None:
    model = sleepy_model(repository, tmp_path, max_batch_size=8, base_ms=30)
    (tmp_path / "space.yaml").write_text("parameters:\n  max_batch_size: [8]\n")
    done = tuner("search", str(model), "--sla", "p90<150ms", *WORDS)
    assert done.code == 0, done.err
    assert "every candidate" in done.result["stopped"]
    found = Run.open(tmp_path / done.result["run"]).evaluations()
    assert [each.baseline for each in found] == [True]


def test_where_all_candidates_fail_it_is_said_why(
    tuner: Tuner, repository: Path, tmp_path: Path
) -> None:
    model = sleepy_model(repository, tmp_path, max_batch_size=8, base_ms=30)
    config = model / "config.pbtxt"
    config.write_text(config.read_text().replace('"30000"', '"nonsense"'))
    (tmp_path / "space.yaml").write_text(SMALL)
    done = tuner("search", str(model), "--sla", "p90<150ms", *WORDS)
    assert done.code == 3, done.err
    assert "give a number in config.pbtxt" in done.err


def test_a_model_as_slow_as_its_promise_has_a_capacity_still(
    tuner: Tuner, repository: Path, tmp_path: Path
) -> None:
    model = sleepy_model(repository, tmp_path, max_batch_size=8, base_ms=350)
    (tmp_path / "space.yaml").write_text(SMALL)
    done = tuner("search", str(model), "--sla", "p90<1.25s", "--timeout", "60s", *WORDS)
    assert done.code == 0, done.err
    # A batch of eight in 0.35 s, and no more of them side by side than two: 46/s in the long run. A
    # queue that a few more fill takes longer to grow by 1.25 s than a search of 60 s can look.
    assert 2.8 <= done.result["winner"]["capacity_per_second"] <= 1.25 * 46


def test_a_promise_that_all_keep_leaves_what_the_server_can_do(
    tuner: Tuner, repository: Path, tmp_path: Path
) -> None:
    model = sleepy_model(repository, tmp_path, max_batch_size=8, base_ms=30)
    (tmp_path / "space.yaml").write_text(SMALL)
    done = tuner("search", str(model), "--sla", "p90<60s", "--timeout", "90s", *WORDS)
    assert done.code == 0, done.err
    winner = done.result["winner"]
    assert winner["settings"]["instance_group.count"] == 2
    # Batches of eight in about 33 ms on two instances; a probe falls behind visibly only above it.
    assert 300 <= winner["capacity_per_second"] <= 620


def test_service_times_may_fall_where_batches_get_larger(
    tuner: Tuner, repository: Path, tmp_path: Path
) -> None:
    """Eight items take less time than two to seven, as where a kernel is made for the one alone."""
    model = sleepy_model(repository, tmp_path, max_batch_size=8, base_ms=20)
    code = model / "1/model.py"
    line = "        service_time *= random"
    humped = "        service_time += 0.03 * (2 <= sum(len(x) for x in inputs) < 8)\n"
    assert line in code.read_text()
    code.write_text(code.read_text().replace(line, humped + line))
    (tmp_path / "space.yaml").write_text(SMALL)
    done = tuner("search", str(model), "--sla", "p90<150ms", "--timeout", "90s", *WORDS)
    assert done.code == 0, done.err
    assert done.result["winner"]["settings"]["max_batch_size"] == 8
    states = {each.state for each in Run.open(tmp_path / done.result["run"]).evaluations()}
    assert State.FAILED not in states
