"""The terminal says what the records hold, and fits; the JSON form is whole."""

import io
import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.comparing_records import (
    SHAPES,
    comparison,
    deployed,
    evaluated,
    failed,
    missed,
    realistic,
    write_run,
)
from tuner.cli.compare_summary import show, show_so_far
from tuner.errors import RunError
from tuner.records.comparison import FILE, Comparison, read_comparison
from tuner.records.results import Evaluation
from tuner.records.run import Run

MakeRun = Callable[..., Run]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    return partial(write_run, tmp_path / "run")


HOSTILE = "[red]</b> [/] [link=x]"


def printed(run: Run, width: int = 120, as_json: bool = False) -> tuple[int, str]:
    console = Console(file=io.StringIO(), width=width)
    code = show(run, as_json, console)
    assert isinstance(console.file, io.StringIO)
    return code, console.file.getvalue().replace("\N{NO-BREAK SPACE}", " ")


@pytest.mark.parametrize("width", [100, 120])
def test_all_is_told_within_the_width(make_run: MakeRun, width: int) -> None:
    code, said = printed(make_run(*realistic()), width)
    assert code == 0
    assert max(map(len, said.splitlines())) <= width
    assert "…" not in said
    for words in (
        "1,056 to 1,155",
        "(231 lost)",
        "FastAPI up to 269/s, then FastAPI in front of Triton up to 751/s.",
        "one instance of FastAPI serves 50 requests/s",
        "For 5,000/s",
        "the fewest replicas",
    ):
        assert words in said


def test_without_a_target_there_is_no_plan(make_run: MakeRun) -> None:
    _, evaluations = realistic()
    _, said = printed(make_run(comparison(target_rate=None), evaluations))
    assert "replicas:" not in said
    assert "For 5,000/s" not in said


@pytest.mark.parametrize(
    ("evaluations", "code"),
    [
        ([failed(SHAPES[0], 0), missed(SHAPES[1], 1), evaluated(SHAPES[4], 4)], 0),
        ([failed(SHAPES[0], 0), missed(SHAPES[1], 1)], 1),
        ([failed(SHAPES[0], 0), failed(SHAPES[1], 1)], 3),
        ([], 3),
    ],
)
def test_the_exit_code_says_whether_the_sla_is_met(
    make_run: MakeRun, evaluations: list[Evaluation], code: int
) -> None:
    run = make_run(comparison(), evaluations)
    found, said = printed(run)
    assert found == code
    assert ("No deployment meets p99 ≤ 20 ms." in said) is (code != 0)
    assert printed(run, as_json=True)[0] == code


def test_titles_are_no_markup(make_run: MakeRun) -> None:
    shape = SHAPES[1]
    records = comparison((shape,), model=HOSTILE)
    hostile = (deployed(shape, 0, title=HOSTILE),)
    records = records.model_copy(update={"deployments": hostile})
    _, said = printed(make_run(records, [evaluated(shape, 0)]))
    assert f"{HOSTILE} up to 269/s." in said


def test_the_json_form_is_whole_and_keeps_its_keys(make_run: MakeRun) -> None:
    records, evaluations = realistic(gpu=True)
    last = evaluations[0].probes[-1].model_copy(update={"latency": {"p50": 0.01, "p99": math.inf}})
    evaluations[0] = evaluations[0].model_copy(update={"probes": (last,)})
    told = loaded(make_run(records, evaluations))
    assert list(told) == [
        *("run", "report", "model", "sla", "load", "cores", "gpu", "encode_seconds", "tuned_run"),
        *("target_per_second", "headline", "recommendation", "deployments", "delays"),
        *("claims", "plan"),
    ]
    assert told["deployments"][0]["near_capacity"]["latency_seconds"]["p99"] == "Infinity"
    fastapi = told["deployments"][1]
    assert fastapi["capacity_per_second"] == evaluations[1].capacity
    assert fastapi["safe_per_second"] == evaluations[1].recommended
    assert set(fastapi["alone"]["parts_seconds"]) >= {"parsing", "inference", "rest"}
    assert fastapi["near_capacity"]["gpu"]["utilisation"] > 0
    assert told["recommendation"]["answers"][0]["bands"][0]["deployment"] == "fastapi"
    assert len(told["claims"]) == 15
    assert told["plan"][0]["replicas"] == 5
    keys = [set(each) for each in told["deployments"]]
    assert all(each == keys[0] for each in keys)


def test_a_deployment_without_an_evaluation_has_the_same_keys(make_run: MakeRun) -> None:
    told = loaded(make_run(comparison(), [evaluated(SHAPES[0], 0)]))
    first, second = told["deployments"][:2]
    assert set(first) == set(second)
    assert second["state"] is None


def loaded(run: Run) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise ValueError(constant)

    found = json.loads(printed(run, as_json=True)[1], parse_constant=refuse)
    assert isinstance(found, dict)
    return found


def test_a_comparison_is_read_as_it_was_written(make_run: MakeRun) -> None:
    records: Comparison = realistic()[0]
    run = make_run(records, [])
    assert read_comparison(run) == records
    (run.folder / FILE).write_text('{"model": 3}')
    with pytest.raises(RunError, match=r"comparison\.json: not a comparison in format 1"):
        read_comparison(run)
    (run.folder / FILE).unlink()
    with pytest.raises(RunError, match=r"'tuner compare' writes this file"):
        read_comparison(run)


def test_an_interrupted_comparison_says_what_was_measured(make_run: MakeRun) -> None:
    records, evaluations = realistic()
    run = make_run(records, evaluations[:2])
    run.report.write_text("report")
    console = Console(file=io.StringIO(), width=200)
    show_so_far(run.folder, console)
    assert isinstance(console.file, io.StringIO)
    first, second, report = console.file.getvalue().splitlines()
    assert first.startswith("measured: FastAPI (naive): capacity ")
    assert second.startswith("measured: FastAPI: capacity ")
    assert report == f"report: {run.report}"
