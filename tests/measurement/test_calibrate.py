import json
import shutil
from pathlib import Path

import pytest

from tests.evaluating import Silent
from tuner.deployments.subjects import TritonCandidates
from tuner.deployments.triton import Inputs, TritonDeployment
from tuner.goals.sla import Sla
from tuner.load.arrivals import Arrivals
from tuner.load.generator import LoadGenerator
from tuner.load.target import Transport
from tuner.measurement.calibrate import CalibrationPlan, concurrencies
from tuner.measurement.evaluate import Evaluator
from tuner.measurement.session import Conditions
from tuner.model.config import own_settings, read_config
from tuner.model.space import INSTANCE_COUNT, MAX_BATCH_SIZE
from tuner.model.space_file import parse_space
from tuner.records.run import Run
from tuner.servers.local import LocalLauncher
from tuner.simulator.profile import ModelProfile

SPACE = parse_space(
    "parameters: {max_batch_size: [1, 8, 32], instance_count: {range: [1, 3]}}", "here"
)


def calibrated(model: Path, generator: LoadGenerator, folder: Path) -> tuple[Run, list[str]]:
    run = Run.create(folder / "run")
    config = read_config(model)
    with LocalLauncher() as launcher:
        deployment = TritonDeployment(launcher, model, config, Transport.HTTP, Inputs(), 60.0)
        evaluator = Evaluator(
            TritonCandidates(deployment),
            generator,
            Conditions(Sla.parse("p99<100ms"), Arrivals.POISSON),
            run,
            1,
            Silent(),
        )
        failed = evaluator.calibrate(CalibrationPlan.of(SPACE, own_settings(SPACE, config)))
        evaluator.close()
    return run, [str(candidate) for candidate, _ in failed]


@pytest.mark.triton
@pytest.mark.usefixtures("embedded_triton")
def test_a_model_whose_times_are_known_is_known_afterwards(
    repository: Path, generator: LoadGenerator, tmp_path: Path
) -> None:
    """It sleeps 4 ms and 0.35 ms per item, 70 % of it on the device; the machine adds to that."""
    run, failed = calibrated(repository / "emulated_gpu", generator, tmp_path)
    assert failed == []
    seen = run.windows()
    assert {w.instances for w in seen} == {1, 2, 3}
    assert {w.candidate.get(MAX_BATCH_SIZE) for w in seen} == {32}
    assert max(b for w in seen for b in w.server.batches) == 32
    profile = ModelProfile.fit(seen)
    assert profile is not None
    table = profile.curve.table(32)
    for size in (1, 8, 32):
        asleep = 4e-3 + 0.35e-3 * size
        assert asleep <= table[size] < 2.5 * asleep
    assert 1.0 <= profile.effective(3) < 2.5


@pytest.mark.triton
@pytest.mark.usefixtures("embedded_triton")
def test_where_the_largest_batches_do_not_load_smaller_ones_are_taken(
    repository: Path, generator: LoadGenerator, tmp_path: Path
) -> None:
    model = tmp_path / "models" / "emulated_gpu"
    shutil.copytree(repository / "emulated_gpu", model)
    code = (model / "1/model.py").read_text()
    refusal = (
        'if json.loads(args["model_config"])["max_batch_size"] > 8:\n            raise MemoryError'
    )
    (model / "1/model.py").write_text(
        code.replace("        self._base =", f"        {refusal}\n        self._base =", 1)
    )
    run, failed = calibrated(model, generator, tmp_path)
    assert len(failed) == 1
    assert "batch 32" in failed[0]
    assert {w.candidate.get(MAX_BATCH_SIZE) for w in run.windows()} == {8}


@pytest.mark.parametrize(
    ("largest", "items", "expected"),
    [
        (64, 1.0, [8, 32, 128, 160]),
        (1, 1.0, [2, 3]),
        (64, 16.0, [2, 2, 8, 10]),
    ],
)
def test_requests_outstanding_go_up_to_more_than_two_batches(
    largest: int, items: float, expected: list[int]
) -> None:
    assert concurrencies(largest, items) == expected


def test_a_course_over_a_wide_range_takes_a_few_counts() -> None:
    space = parse_space("parameters: {instance_count: {range: [1, 48]}}", "here")
    course = CalibrationPlan.of(space, {INSTANCE_COUNT: 2})
    assert course.counts[-1] == 48
    assert list(course.counts) == sorted(course.counts)
    assert len(course.counts) == 2
    assert {c.get(INSTANCE_COUNT) for c in course.candidates} == {1}


@pytest.mark.parametrize(
    ("space", "counts"),
    [("instance_count: [2, 4]", (2, 4)), ("max_batch_size: [4, 8]", (None,))],
    ids=["several", "not varied"],
)
def test_the_largest_batches_are_seen_on_one_instance_in_any_space(
    space: str, counts: tuple[int | None, ...]
) -> None:
    """Else nothing would tell what a full batch takes alone."""
    course = CalibrationPlan.of(parse_space(f"parameters: {{{space}}}", "here"), {})
    assert [c.get(INSTANCE_COUNT) for c in course.candidates] == [1] * len(course.candidates)
    assert course.counts == counts


@pytest.mark.parametrize(
    ("alone", "longest", "expected"),
    [(0.005, 0.02, (2, 3)), (0.7, 2.5, (3,)), (0.7, 0.3, ()), (0.0, 0.02, (2, 3))],
    ids=["quick", "slow", "hopeless", "unknown"],
)
def test_a_slow_model_is_seen_with_the_most_instances_only(
    alone: float, longest: float, expected: tuple[int, ...]
) -> None:
    assert CalibrationPlan((), (2, 3)).further(alone, longest) == expected
    assert CalibrationPlan((), ()).further(alone, longest) == ()


def test_a_window_survives_the_file(tmp_path: Path) -> None:
    from tests.simulated import batch_times, windows
    from tuner.simulator.simulate import ServiceTimes

    run = Run.create(tmp_path / "run")
    seen = windows(ServiceTimes(batch_times(0.004, 0.0003)), (8,), (2,))
    run.append_windows(seen)
    run.append_windows([])
    assert run.windows() == seen
    assert len(run.windows_file.read_text().splitlines()) == len(seen)
    json.loads(run.windows_file.read_text().splitlines()[0])
