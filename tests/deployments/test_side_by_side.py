"""When servers of several candidates may run at once."""

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.evaluating import Silent
from tuner.deployments.subjects import Subject, TritonCandidates
from tuner.deployments.triton import Inputs, TritonDeployment
from tuner.goals.constraints import parse_constraints
from tuner.goals.objective import Objective
from tuner.goals.sla import Sla
from tuner.load.arrivals import Arrivals
from tuner.load.target import Transport
from tuner.measurement.evaluate import Evaluator
from tuner.measurement.session import Conditions
from tuner.model.space import INSTANCE_COUNT, Candidate
from tuner.records.results import Evaluation, GpuReading, ProbeRecord, State
from tuner.records.run import Run
from tuner.servers.base import Launcher

GIB = 2**30
CANDIDATE = Candidate.of({INSTANCE_COUNT: 2})


@dataclass
class Card:
    memory: int | None


@dataclass
class Cards:
    devices: list[Card] = field(default_factory=list)


class Starts(Launcher):
    def __init__(self, several: bool) -> None:
        self._several = several

    def starts_several(self) -> bool:
        return self._several

    def launch(self, spec: Any) -> Any:
        raise NotImplementedError

    def gpus(self) -> str:
        return "all"

    def describe(self) -> dict[str, str]:
        return {}

    def close(self) -> None: ...


@pytest.mark.parametrize(
    ("cards", "memory", "several", "expected"),
    [
        ([], [None, None], True, True),
        ([], [None, None], False, False),
        ([80], [20, 20, 20], True, True),
        ([80], [20, 20, 30], True, False),
        ([80, 24], [10, 11], True, False),
        ([80], [20, None], True, False),
        ([None], [20, 20], True, False),
        ([80], [20, 20], False, False),
    ],
    ids=[
        "no card",
        "one server at a time",
        "room",
        "no room",
        "no room on the smaller card",
        "a candidate of which nothing is known",
        "a card of which nothing is known",
        "one server at a time on a card",
    ],
)
def test_servers_runs_side_by_side_where_there_is_room(
    cards: list[int | None], memory: list[int | None], several: bool, expected: bool
) -> None:
    gpus: Any = Cards([Card(size and size * GIB) for size in cards])
    launcher = Starts(several)
    deployment = TritonDeployment(launcher, Path("m"), None, Transport.HTTP, Inputs(), gpus=gpus)
    needed = [size and size * GIB for size in memory]
    assert deployment.runs_side_by_side(needed) is expected


MEMORY = "gpu_memory<20GiB"


def evaluator_of(
    folder: Path, constraints: tuple[str, ...] = (), objective: str | None = None
) -> Evaluator:
    """One that has two servers to compare on a GPU of 80 GiB."""
    gpus: Any = Cards([Card(80 * GIB)])
    deployment = TritonDeployment(
        Starts(True), Path("m"), None, Transport.HTTP, Inputs(), gpus=gpus
    )
    generator: Any = SimpleNamespace(meter=None)
    limits = tuple(each for text in constraints for each in parse_constraints(text))
    return Evaluator(
        TritonCandidates(deployment),
        generator,
        Conditions(Sla.parse("p99<20ms"), Arrivals.POISSON, limits),
        Run.create(folder / "run"),
        0,
        Silent(),
        None if objective is None else Objective.parse(objective, 10.0),
    )


def evaluation(gpu_memory: int, devices: int = 1) -> Evaluation:
    probe = ProbeRecord.model_construct(
        gpu=GpuReading(utilisation=0.5, memory=gpu_memory, power=None, devices=devices)
    )
    made = Evaluation(
        trial=0,
        phase="search",
        baseline=False,
        settings=dict(CANDIDATE.settings),
        config="",
        state=State.OK,
        capacity=100.0,
        started="2025-01-01T00:00:00+00:00",
        seconds=1.0,
    )
    return made.model_copy(update={"probes": (probe,)})


@pytest.mark.parametrize(
    ("constraints", "objective", "expected"),
    [((), None, True), ((MEMORY,), None, False), ((), "p99", True), ((), "gpu_memory", False)],
)
def test_finalists_have_a_gpu_to_themselves_where_its_memory_is_judged(
    constraints: tuple[str, ...],
    objective: str | None,
    expected: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    evaluator = evaluator_of(tmp_path, constraints, objective)
    seen = [evaluation(gpu_memory=10 * GIB)]
    monkeypatch.setattr(evaluator._run, "evaluations", lambda: seen)
    assert evaluator.runs_side_by_side([Subject(0, CANDIDATE)] * 2) is expected


@pytest.mark.parametrize(("devices", "expected"), [(1, True), (4, False)])
def test_a_mean_over_gpus_may_all_be_on_one(
    devices: int, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluator = evaluator_of(tmp_path)
    seen = [evaluation(gpu_memory=10 * GIB, devices=devices)]
    monkeypatch.setattr(evaluator._run, "evaluations", lambda: seen)
    assert evaluator.runs_side_by_side([Subject(0, CANDIDATE)] * 2) is expected
