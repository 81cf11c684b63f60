"""A pipeline whose steps are counted, but that is not simulated."""

from pathlib import Path
from typing import cast

from tests.goals.test_constraints import SERVER, probe
from tests.optimizer.test_study import Bench, in_memory, number
from tuner.deployments.subjects import Subject
from tuner.model.space import Candidate
from tuner.model.space_file import parse_space
from tuner.optimizer.moves import moves
from tuner.optimizer.samplers.choose import make_sampler
from tuner.optimizer.stopping import Budget
from tuner.optimizer.study import Measurer, Study
from tuner.records.results import Evaluation, StepReading, best
from tuner.records.run import Run

SPACE = parse_space(
    "parameters: {a/max_batch_size: [4, 8, 16], a/instance_count: {range: [1, 4]}, "
    "b/max_batch_size: [4, 8, 16], b/instance_count: {range: [1, 4]}}",
    "space.yaml",
)
A, B = "a/instance_group.count", "b/instance_group.count"
OWN = {"a/max_batch_size": 4, A: 1, "b/max_batch_size": 4, B: 1}
WORK = {"a": 30, "b": 100}
"""Executions of one instance."""


def steps(candidate: Candidate) -> tuple[StepReading, ...]:
    """``b`` has the more work to do."""
    return tuple(
        StepReading(
            model=model,
            instances=number(candidate, f"{model}/instance_group.count"),
            server=SERVER.model_copy(update={"batches": {1: work}, "batch_seconds": {1: 0.01}}),
        )
        for model, work in WORK.items()
    )


class Steps(Bench):
    """As much as the busiest step lets through."""

    def __init__(self) -> None:
        super().__init__(
            lambda candidate: min(
                number(candidate, f"{model}/instance_group.count") * 1e4 / work
                for model, work in WORK.items()
            )
        )

    def _evaluation(self, subject: Subject, phase: str, formula: object) -> Evaluation:
        made = super()._evaluation(subject, phase, self.formula)
        seen = probe().model_copy(update={"steps": steps(subject.candidate)})
        return made.model_copy(update={"probes": (seen,)})


def test_the_busiest_step_gets_an_instance_and_then_larger_batches_before_others_do() -> None:
    leader = Steps().search(Subject(0, Candidate.of(OWN)), 0.0)
    found = [{k: v for k, v in move.items() if v != OWN[k]} for move in moves(SPACE, leader)]
    assert found == [{B: 2}, {"b/max_batch_size": 8}, {A: 2}, {"a/max_batch_size": 8}]


def test_what_is_as_large_as_it_may_be_is_not_moved() -> None:
    most = {**OWN, B: 4, "b/max_batch_size": 16}
    leader = Steps().search(Subject(0, Candidate.of(most)), 0.0)
    assert all(move[B] == 4 for move in moves(SPACE, leader))


def test_a_search_follows_the_bottleneck(tmp_path: Path) -> None:
    bench = Steps()
    run, sampler = Run.create(tmp_path / "run"), make_sampler("tpe", 0)
    study = Study(run, SPACE, OWN, cast(Measurer, bench), sampler, in_memory(), moves=True)
    study.search(Budget(trials=6, seconds=1e6), lambda _: None)
    counts = [(number(s.candidate, A), number(s.candidate, B)) for s in bench.searched]
    assert counts[:2] == [(1, 1), (2, 2)], "the first ideas"
    assert (2, 4) in counts
    winner = best(study.evaluations)
    assert winner is not None
    assert winner.settings[B] == 4
