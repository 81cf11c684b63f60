"""The stages: what each measures, row by row, and how long it may take."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.gpu import serve
from benchmarks.gpu.models import Workbench
from benchmarks.gpu.result import Result, read
from benchmarks.gpu.serve import Setting
from tuner.results import Evaluation, Run, baseline, best

EXECUTIONS = ("eager", "cuda_graphs", "compiled")
BASELINES = {
    "no batching": Setting({"dynamic_batching": "false"}),
    # What Triton's auto-complete gives a model that can batch and says nothing else.
    "Triton's default": Setting({"max_batch_size": "4"}),
    # The configuration in the document that asked the question.
    "a usual configuration": Setting(
        {
            "max_batch_size": "32",
            "preferred_batch_size": "8,16,32",
            "max_queue_delay_microseconds": "5000",
            "instance_count": "2",
        }
    ),
    "dynamic batching": Setting(),
}


@dataclass(frozen=True)
class Stage:
    """A stage fills the rows that it planned; ``seconds`` is all that it may take."""

    what: str
    seconds: int
    rows: Callable[[bool], list[str]]
    run: Callable[[Workbench, Result, Path], None]


def promise(milliseconds: int, dry: bool) -> str:
    """The Sla; a dry run promises what a busy processor can keep."""
    return "p90<500ms" if dry else f"p99<{milliseconds}ms"


def _bare_rows(dry: bool) -> list[str]:
    hows = ("eager",) if dry else EXECUTIONS
    images = ("eager",) if dry else ("eager", "cuda_graphs")
    return [*(f"bert_base, {how}" for how in hows), *(f"resnet50, {how}" for how in images)]


def _run_bare(bench: Workbench, result: Result, out: Path) -> None:
    from benchmarks.gpu import bare  # PyTorch: seconds that other stages can do without

    for name in _bare_rows(bench.dry):
        model, _, how = name.partition(", ")
        with result.row(name) as row:
            row |= bare.measure(bench, model, how, bench.batches)


def _baseline_rows(dry: bool) -> list[str]:
    limits = (20,) if dry else (20, 10, 50)
    names = list(BASELINES)[-1:] if dry else list(BASELINES)
    return [f"{limit} ms, {name}" for limit in limits for name in names]


def _run_baselines(bench: Workbench, result: Result, out: Path) -> None:
    for row_name in _baseline_rows(bench.dry):
        limit, _, name = row_name.partition(" ms, ")
        with result.row(row_name) as row:
            row |= serve.measure(
                bench, "bert_base", promise(int(limit), bench.dry), BASELINES[name]
            )


def _run_search(bench: Workbench, result: Result, out: Path) -> None:
    with result.row("20 ms, tuned") as row:
        run = _search(bench, "bert_base", 20, 150.0)
        row |= _of_search(run)
        row |= _of_limit(row, out)
        serve.keep_report(run, out / "search-report.html")


def _run_other_promises(bench: Workbench, result: Result, out: Path) -> None:
    for limit in (10, 50):
        with result.row(f"{limit} ms, tuned") as row:
            row |= _of_search(_search(bench, "bert_base", limit, 75.0))
            row |= _of_limit(row, out)


def _run_sweep(bench: Workbench, result: Result, out: Path) -> None:
    """Every point of a small space around what usually wins: the search's winner against it."""
    values: dict[str, Any] = {
        "max_batch_size": [2, 4] if bench.dry else [16, 32, 64, 128],
        "instance_group.count": [1] if bench.dry else [1, 2, 3],
    }
    if not bench.dry:
        values["parameters[execution]"] = ["compiled"]
    space = bench.folder / "sweep.yaml"
    space.write_text(yaml.safe_dump({"name": "sweep", "parameters": values}), encoding="utf-8")
    with result.row("20 ms, best of the sweep") as row:
        run = _search(bench, "bert_base", 20, 110.0, str(space), tries=None)
        row |= _of_search(run)
        searched = read(out / "search.json") or {"rows": {}}
        tuned = searched["rows"].get("20 ms, tuned", {}).get("capacity")
        if tuned and row["capacity"]:
            row["search_against_sweep"] = round(tuned / row["capacity"], 3)


BACKEND: dict[str, tuple[Setting, bool]] = {
    "eager, 1 instance": (Setting(), False),
    "eager, pipeline of 2": (Setting({"parameters[pipeline]": "2"}), False),
    "eager, 2 instances": (Setting({"instance_count": "2"}), False),
    "CUDA graphs, 1 instance": (Setting({"parameters[execution]": "cuda_graphs"}), False),
    "CUDA graphs, pipeline of 2": (
        Setting({"parameters[execution]": "cuda_graphs", "parameters[pipeline]": "2"}),
        False,
    ),
    "CUDA graphs, 2 instances": (
        Setting({"parameters[execution]": "cuda_graphs", "instance_count": "2"}),
        False,
    ),
    "CUDA graphs, 2 instances, MPS": (
        Setting({"parameters[execution]": "cuda_graphs", "instance_count": "2"}),
        True,
    ),
}


def _backend_rows(dry: bool) -> list[str]:
    return list(BACKEND)[1:2] if dry else list(BACKEND)


def _run_backend(bench: Workbench, result: Result, out: Path) -> None:
    for name in _backend_rows(bench.dry):
        setting, shared = BACKEND[name]
        with result.row(name) as row:
            if not shared:
                row |= serve.measure(bench, "bert_base", promise(20, bench.dry), setting)
                continue
            with serve.mps(bench.folder) as options:
                row |= serve.measure(bench, "bert_base", promise(20, bench.dry), setting, options)


def _run_images(bench: Workbench, result: Result, out: Path) -> None:
    with result.row("20 ms, tuned") as row:
        row |= _of_search(_search(bench, "resnet50", 20, 90.0))


def _search(
    bench: Workbench,
    model: str,
    limit: int,
    seconds: float,
    space: str | None = None,
    tries: int | None = 1,
) -> Run:
    chosen = space or ("default" if bench.dry else "pytorch_gpu")
    more = ("--trials", str(tries)) if bench.dry and tries else ()
    return serve.search(bench, model, promise(limit, bench.dry), chosen, seconds, more)


def _of_search(run: Run) -> dict[str, Any]:
    """The winner's figures, the baseline's capacity, and what the search took."""
    evaluations = run.evaluations()
    winner, own = best(evaluations), baseline(evaluations)
    searched = [e for e in evaluations if e.phase == "search"]
    row: dict[str, Any] = {
        "launches": len(evaluations),
        "candidates": len(searched),
        "failed": sum(e.state == "failed" for e in searched),
        "seconds": round(sum(e.seconds for e in evaluations), 1),
        "baseline_capacity": own.capacity if own else None,
        "capacity": None,
    }
    if winner is None:
        return row
    return {**row, **serve.figures(winner), "seconds_to_winner": _seconds_to(winner, evaluations)}


def _seconds_to(winner: Evaluation, evaluations: list[Evaluation]) -> float:
    """Seconds of measuring until the search had measured what was to win."""
    spent = 0.0
    for each in evaluations:
        spent += each.seconds
        if each.candidate == winner.candidate:
            break
    return round(spent, 1)


def _of_limit(row: dict[str, Any], out: Path) -> dict[str, Any]:
    """The share of the bare model's best throughput, where that was measured before."""
    rows = (read(out / "bare.json") or {"rows": {}})["rows"]
    rates = [r["items_per_second"] for n, r in rows.items() if "bert" in n and "batch" in r]
    if not rates or not row.get("capacity"):
        return {}
    return {"bare_items_per_second": max(rates), "of_bare": round(row["capacity"] / max(rates), 3)}


STAGES: dict[str, Stage] = {
    "bare": Stage("the models in a tight loop, no server", 150, _bare_rows, _run_bare),
    "search": Stage("a search at p99 <= 20 ms", 190, lambda _: ["20 ms, tuned"], _run_search),
    "baselines": Stage("configurations that nobody tuned", 260, _baseline_rows, _run_baselines),
    "backend": Stage(
        "what the Python backend costs, and what hides it", 140, _backend_rows, _run_backend
    ),
    "sweep": Stage(
        "the search's winner against a sweep",
        140,
        lambda _: ["20 ms, best of the sweep"],
        _run_sweep,
    ),
    "promises": Stage(
        "searches at p99 <= 10 and 50 ms",
        190,
        lambda _: ["10 ms, tuned", "50 ms, tuned"],
        _run_other_promises,
    ),
    "images": Stage("a search for the image model", 130, lambda _: ["20 ms, tuned"], _run_images),
}
"""In this order; together at most 20 minutes. Other deployments (FastAPI, hybrid) add theirs."""
