"""What a comparison concludes from the search that it made itself, and what it never recommends."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.comparing_records import SHAPES, comparison, evaluated, realistic, write_run
from tests.manifests import make_manifest
from tests.search_records import BATCH, EXPERIMENT, evaluate
from tuner.analysis.comparison_findings import SEARCH, ComparisonFindings
from tuner.analysis.doubts import BaselineDiffers
from tuner.analysis.replicas import plan_replicas
from tuner.goals.sla import Sla
from tuner.records.results import Evaluation
from tuner.records.run import Run
from tuner.report.page import write_report
from tuner.report.wording import doubt_sentence

BY_NAME = {shape.name: shape for shape in SHAPES}


def findings(*searched: Evaluation) -> ComparisonFindings:
    return replace(ComparisonFindings(*realistic()), searched=searched)


def searched_baseline(capacity: float) -> Evaluation:
    near = {"low": 0.95 * capacity, "high": 1.05 * capacity}
    return evaluate(0, {BATCH: 8}, baseline=True, capacity=capacity, **near)


def write(folder: Path, *searched: Evaluation) -> Run:
    run = write_run(folder, *realistic())
    own = Run.create(run.folder / SEARCH, make_manifest(**EXPERIMENT))
    for evaluation in searched:
        own.append(evaluation)
    return run


def text_of(run: Run) -> str:
    return write_report(run).read_text(encoding="utf-8")


def test_a_search_that_found_nothing_better_changes_nothing(tmp_path: Path) -> None:
    run = write(tmp_path / "run", searched_baseline(400.0))
    assert not ComparisonFindings.of(run).has_better_configuration
    page = text_of(run)
    assert "Tuning found nothing better than the baseline." in page
    assert 'class="diff"' not in page


def test_what_tuning_changes_is_shown_if_it_serves_more(tmp_path: Path) -> None:
    better = evaluate(1, {BATCH: 16}, capacity=900.0)
    run = write(tmp_path / "run", searched_baseline(400.0), better)
    assert ComparisonFindings.of(run).has_better_configuration
    assert 'class="diff"' in text_of(run)


def test_a_tie_with_the_baseline_is_nothing_better() -> None:
    shapes = (BY_NAME["triton"], BY_NAME["triton-tuned"])
    same = {"capacity": 600.0, "low": 570.0, "high": 630.0, "by_round": ()}
    measured = [evaluated(shape, i, **same) for i, shape in enumerate(shapes)]
    assert not ComparisonFindings(comparison(shapes), measured).has_better_configuration


@pytest.mark.parametrize(("capacity", "is_told"), [(3000.0, True), (440.0, False)])
def test_a_baseline_measured_at_very_different_capacities_is_a_doubt(
    capacity: float, is_told: bool
) -> None:
    doubts = [d for d in findings(searched_baseline(capacity)).doubts()]
    (told,) = [d for d in doubts if isinstance(d, BaselineDiffers)] or [None]
    assert (told is not None) is is_told
    if told is not None:
        assert "the search measured the baseline at 3,000/s, the comparison at" in (
            doubt_sentence(told)
        )


def test_triton_without_batching_is_never_recommended() -> None:
    shapes = (BY_NAME["triton-unbatched"], BY_NAME["triton-tuned"])
    clear = [
        evaluated(shape, i, capacity=c, low=0.98 * c, high=1.02 * c, recommended=c, by_round=())
        for i, (shape, c) in enumerate(zip(shapes, (3000.0, 1000.0), strict=True))
    ]
    known = ComparisonFindings(comparison(shapes), clear)
    bands = [band for answer in known.recommendation.answers for band in answer.bands]
    assert {band.deployment for band in bands} == {"triton-tuned"}
    assert {plan.deployment for plan in known.plans} == {"triton-tuned"}


def test_replicas_whose_p99_breaks_the_sla_are_not_listed() -> None:
    records, measured = realistic()
    lenient, strict = (
        plan_replicas(records, measured, 2000.0, sla=Sla.parse(f"p99<{limit}ms"))
        for limit in (20, 9)
    )
    assert len(lenient) == len(plan_replicas(records, measured, 2000.0))
    assert len(strict) < len(lenient) or sum(p.replicas for p in strict) > sum(
        p.replicas for p in lenient
    )
    for plan in strict:
        assert plan.p99 is None or plan.p99 <= 0.009
        assert plan.rate <= plan.safe_rate * (1 + 1e-12)
