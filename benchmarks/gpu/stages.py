"""The stages: what each measures, row by row, and how long it may take."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu import serve
from benchmarks.gpu.measuring import measurer
from benchmarks.gpu.models import Workbench
from benchmarks.gpu.result import Result, comparable
from benchmarks.gpu.serve import Setting
from tuner.analysis.contenders import contenders
from tuner.records.comparison import read_comparison
from tuner.records.results import Evaluation, baseline, best
from tuner.records.run import Run

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
    if dry:
        return ["20 ms, dynamic batching"]
    ends = ("no batching", "dynamic batching")
    others = [f"{limit} ms, {name}" for limit in (10, 50) for name in ends]
    return [*(f"20 ms, {name}" for name in BASELINES), *others]


def _run_baselines(bench: Workbench, result: Result, out: Path) -> None:
    """Configuration by configuration, since each is loaded once for all its Slas."""
    rows = [name.partition(" ms, ") for name in _baseline_rows(bench.dry)]
    with measurer(bench, "bert_base") as session:
        for setting in dict.fromkeys(name for _, _, name in rows):
            for limit in [limit for limit, _, name in rows if name == setting]:
                with result.row(f"{limit} ms, {setting}") as row:
                    row |= session.measure(promise(int(limit), bench.dry), BASELINES[setting])


def _run_search(bench: Workbench, result: Result, out: Path) -> None:
    with result.row("20 ms, tuned") as row:
        run = _search_into(row, bench, "bert_base", 20, None)
        row |= _of_limit(row, comparable(out / "bare.json", result))
        serve.keep_report(run, out / "search-report.html")


def _run_other_slas(bench: Workbench, result: Result, out: Path) -> None:
    """The second search starts from what the first learned: service times depend on no Sla."""
    learned: tuple[str, ...] = ()
    for limit in (10, 50):
        with result.row(f"{limit} ms, tuned") as row:
            run = _search_into(row, bench, "bert_base", limit, 45.0, learned)
            row |= _of_limit(row, comparable(out / "bare.json", result))
            if any(window.runs_alone for window in run.windows()):
                learned = ("--warm-start", str(run.folder))


def _sweep_rows(dry: bool) -> list[str]:
    sizes = (4,) if dry else (64, 128, 32)
    counts = (1,) if dry else (1, 2)
    return [f"20 ms, batch {size}, instances {count}" for size in sizes for count in counts]


def _run_sweep(bench: Workbench, result: Result, out: Path) -> None:
    """Points around what usually wins, one by one, to hold the search's winner against."""
    tuned = comparable(out / "search.json", result).get("20 ms, tuned", {}).get("capacity")
    with measurer(bench, "bert_base") as session:
        for name in _sweep_rows(bench.dry):
            words = name.replace(",", "").split()
            fields = {"max_batch_size": words[3], "instance_count": words[5]}
            if not bench.dry:
                fields["parameters[execution]"] = "cuda_graphs"
            with result.row(name) as row:
                row |= session.measure(promise(20, bench.dry), Setting(fields))
                if tuned and row["capacity"]:
                    row["search_against_this"] = round(tuned / row["capacity"], 3)


_GRAPHS = {"parameters[execution]": "cuda_graphs"}
BACKEND: dict[str, tuple[Setting, bool]] = {
    "CUDA graphs, 1 instance": (Setting(_GRAPHS), False),
    "CUDA graphs, 2 instances": (Setting({**_GRAPHS, "instance_count": "2"}), False),
    "CUDA graphs, pipeline of 2": (Setting({**_GRAPHS, "parameters[pipeline]": "2"}), False),
    "CUDA graphs, 2 instances, MPS": (Setting({**_GRAPHS, "instance_count": "2"}), True),
    "eager, 1 instance": (Setting(), False),
    "eager, pipeline of 2": (Setting({"parameters[pipeline]": "2"}), False),
}
"""Settings by name, and whether MPS is on; those that tell most come first."""


def _backend_rows(dry: bool) -> list[str]:
    return list(BACKEND)[-1:] if dry else list(BACKEND)


def _run_backend(bench: Workbench, result: Result, out: Path) -> None:
    """Those without MPS first: it needs a server of its own."""
    rows = {name: BACKEND[name] for name in _backend_rows(bench.dry)}
    with measurer(bench, "bert_base") as session:
        for name in [name for name, (_, shared) in rows.items() if not shared]:
            with result.row(name) as row:
                row |= session.measure(promise(20, bench.dry), rows[name][0])
    for name in [name for name, (_, shared) in rows.items() if shared]:
        with (
            result.row(name) as row,
            serve.mps(bench.folder) as environment,
            measurer(bench, "bert_base", environment) as session,
        ):
            row |= session.measure(promise(20, bench.dry), rows[name][0])


DEPLOYMENTS = ("naive", "fastapi", "triton", "triton-unbatched", "triton-tuned", "hybrid")
_FEW_DEPLOYMENTS = ("fastapi", "hybrid")


def _deployments(dry: bool) -> tuple[str, ...]:
    return _FEW_DEPLOYMENTS if dry else DEPLOYMENTS


def _deployment_rows(limit: int) -> Callable[[bool], list[str]]:
    return lambda dry: [f"{limit} ms, {name}" for name in _deployments(dry)]


def _run_deployments(limit: int) -> Callable[[Workbench, Result, Path], None]:
    """FastAPI, Triton and both by turns under the same load; a search tunes Triton first."""

    def run(bench: Workbench, result: Result, out: Path) -> None:
        names = _deployments(bench.dry)
        kept = promise(limit, bench.dry)
        try:
            found = serve.compare(bench, "bert_base", kept, ",".join(names), 45.0)
        except serve.CutShort as cut:
            _of_deployments(cut.run, limit, result)
            raise
        _of_deployments(found, limit, result)
        serve.keep_report(found, out / f"deployments-{limit}-report.html")

    return run


def _of_deployments(run: Run, limit: int, result: Result) -> None:
    for each in contenders(read_comparison(run), run.evaluations()):
        with result.row(f"{limit} ms, {each.name}") as row:
            row |= serve.figures(each.evaluation)
            row |= {"configuration": each.deployed.what, "cold_start": each.deployed.cold_start}


def _run_images(bench: Workbench, result: Result, out: Path) -> None:
    with result.row("20 ms, tuned") as row:
        _search_into(row, bench, "resnet50", 20, 45.0)


def _search_into(
    row: dict[str, Any],
    bench: Workbench,
    model: str,
    limit: int,
    seconds: float | None,
    more: tuple[str, ...] = (),
) -> Run:
    """Search, and fill the row; also with what there is when the stage's time is over."""
    space = "default" if bench.dry else "pytorch_gpu"
    quick = ("--trials", "2", "--confirm", "none") if bench.dry else ()
    began = time.monotonic()
    try:
        words = (*quick, *more)
        run = serve.search(bench, model, promise(limit, bench.dry), space, seconds, words)
    except serve.CutShort as cut:
        row |= _of_search(cut.run)
        raise
    row |= {**_of_search(run), "wall_seconds": round(time.monotonic() - began, 1)}
    return run


def _of_search(run: Run) -> dict[str, Any]:
    """The winner's figures, the baseline's capacity, and what the search took."""
    evaluations = run.evaluations()
    winner, own = best(evaluations), baseline(evaluations)
    searched = [e for e in evaluations if e.phase == "search"]
    row: dict[str, Any] = {
        "launches": len(evaluations),
        "candidates": len(searched),
        "failed": sum(e.state == "failed" for e in searched),
        "confirmed": winner is not None and winner.phase == "confirm",
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


def _of_limit(row: dict[str, Any], bare: dict[str, Any]) -> dict[str, Any]:
    """The share of the bare model's best throughput, where that was measured on the same card."""
    rates = [r["items_per_second"] for n, r in bare.items() if "bert" in n and "batch" in r]
    if not rates or not row.get("capacity"):
        return {}
    return {"bare_items_per_second": max(rates), "of_bare": round(row["capacity"] / max(rates), 3)}


def _run_first(bench: Workbench, result: Result, out: Path) -> None:
    from benchmarks.gpu import first  # PyTorch, as above

    first.run(bench, result, out)


_CARD_CHECKS = ("driver", "NVML", "CUDA graphs")


def _first_rows(dry: bool) -> list[str]:
    """In the order in which they are made."""
    early = ("packages", "cores", "driver", "NVML", "Python stub")
    names = (*early, "server", "answers", "CUDA graphs", "probe")
    return [name for name in names if not dry or name not in _CARD_CHECKS]


STAGES: dict[str, Stage] = {
    "first": Stage("whether all is there that the other stages need", 60, _first_rows, _run_first),
    "bare": Stage("the models in a tight loop, no server", 120, _bare_rows, _run_bare),
    "search": Stage("a search at p99 <= 20 ms", 240, lambda _: ["20 ms, tuned"], _run_search),
    "baselines": Stage("configurations that nobody tuned", 200, _baseline_rows, _run_baselines),
    "backend": Stage(
        "what the Python backend costs, and what hides it", 170, _backend_rows, _run_backend
    ),
    "sweep": Stage("points around the usual winner, one by one", 150, _sweep_rows, _run_sweep),
    "promises": Stage(
        "searches at p99 <= 10 and 50 ms",
        240,
        lambda _: ["10 ms, tuned", "50 ms, tuned"],
        _run_other_slas,
    ),
    "images": Stage("a search for the image model", 130, lambda _: ["20 ms, tuned"], _run_images),
    **{
        f"deployments-{limit}": Stage(
            f"FastAPI, Triton and both at p99 <= {limit} ms",
            540,
            _deployment_rows(limit),
            _run_deployments(limit),
        )
        for limit in (20, 10, 50)
    },
}
"""In this order. Those of the deployments take up to nine minutes each, all others together at most
24 minutes.
"""
