"""The tables of docs/benchmarks.md, out of result files."""

import json
import re
from pathlib import Path

from benchmarks.faults.catalogue import FAULTS as CATALOGUE
from benchmarks.faults.table import render as render_faults
from benchmarks.gpu.result import AWAITS, Result
from benchmarks.gpu.stages import STAGES
from benchmarks.load.__main__ import NAMES
from benchmarks.tables import (
    DEFAULTS,
    FAULTS,
    LOAD_RESULTS,
    PAGE,
    PEERS,
    RESULTS,
    SEARCHES,
    SIMULATOR,
    fill,
    fill_load,
    fill_one,
    render_default,
    render_peers,
    render_search,
    render_simulator,
)

MACHINE = {"processor": "some processor", "cores": 16, "gpu": "some card", "notes": ["in use"]}


def make(results: Path, stage: str, dry: bool = False) -> Result:
    return Result(results / f"{stage}.json", stage, "", MACHINE, dry)


def place(stage: str) -> str:
    return f"before\n<!-- gpu:{stage} -->\nold\n<!-- end -->\nafter\n"


def test_measured_failed_and_missing_rows_are_told_apart(tmp_path):
    result = make(tmp_path, "search")
    result.plan(["first", "second", "third"], AWAITS)
    with result.row("first") as row:
        row |= {"capacity": 1234.5, "p99_ms": 19.5, "of_bare": 0.81, "configuration": "batch 64"}
        row["gpu"] = {"utilisation": 0.875, "memory": 3 * 2**30, "power": 610.0, "throttled": []}
    with result.row("second") as row:
        raise ValueError("no server\nand more")
    text = fill(place("search"), tmp_path)
    lines = text.splitlines()
    first = next(line for line in lines if line.startswith("| first"))
    for cell in ("1,234/s", "19.50 ms", "81 %", "88 %", "3.0 GiB", "610 W", "batch 64"):
        assert f" {cell} " in first
    assert any(line.startswith("| second | failed: no server |") for line in lines)
    assert any(line.startswith("| third | awaits a GPU |") for line in lines)
    assert "old" not in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "some card, some processor with 16 cores" in text
    assert "in use" in text
    widths = {line.count("|") for line in lines if line.startswith("|")}
    assert len(widths) == 1


def test_a_row_without_a_capacity_says_why(tmp_path):
    result = make(tmp_path, "backend", dry=True)
    result.record("full", capacity=None, cause="out of memory")
    result.record("slow", capacity=None)
    text = fill(place("backend"), tmp_path)
    assert "| full | out of memory |" in text
    assert "| slow | not at any rate |" in text
    assert "figures mean nothing" in text


def test_the_page_has_every_stage_and_is_as_the_result_files_have_it():
    page = PAGE.read_text(encoding="utf-8")
    for stage in STAGES:
        assert f"<!-- gpu:{stage} -->" in page
    assert fill(page, RESULTS) == page, "run: python -m benchmarks.tables"


def test_the_page_has_every_benchmark_of_the_load_generator_as_it_was_measured():
    page = PAGE.read_text(encoding="utf-8")
    for name in NAMES:
        assert f"<!-- load:{name} -->" in page
    assert fill_load(page, LOAD_RESULTS) == page, "run: python -m benchmarks.tables"


def test_the_page_has_the_simulator_as_it_was_measured():
    page = PAGE.read_text(encoding="utf-8")
    assert "<!-- simulator -->" in page
    again = fill_one(page, "simulator", SIMULATOR, render_simulator)
    again = fill_one(again, "search", SEARCHES, render_search)
    again = fill_one(again, "search_default", DEFAULTS, render_default)
    again = fill_one(again, "peers", PEERS, render_peers)
    assert again == page, "run: python -m benchmarks.tables"


def test_each_fault_has_a_row_and_the_page_is_as_it_was_measured():
    page = PAGE.read_text(encoding="utf-8")
    again = fill_one(page, "faults", FAULTS, render_faults)
    assert again == page, "run: python -m benchmarks.tables"
    (table,) = re.findall(r"<!-- faults -->.*?<!-- end -->", page, re.DOTALL)
    for name, fault in CATALOGUE.items():
        assert f"\n| {name} | {fault.does} | " in table


def test_each_configuration_that_was_simulated_has_a_row(tmp_path):
    row = {"simulated": 1100, "measured": 1000, "rounds": [990, 1010], "ratio": 1.1, "p50": 0.97}
    whole = dict.fromkeys(
        (
            "median_error",
            "rank_correlation",
            "median_error_mean_batch",
            "median_error_p50",
            "median_error_p99",
        ),
        4.2,
    )
    result = {
        "machine": {"processor": "some processor", "cores": 4},
        "date": "2026-01-02",
        "command": "python -m benchmarks.simulator",
        "rows": {
            "speed": {"requests_per_second": {"small": 5_600_000}},
            "batch 8": row,
            "all": whole,
        },
        "notes": ["said once"],
    }
    (tmp_path / "x.json").write_text(json.dumps(result))
    old = "<!-- simulator -->\nold\n<!-- end -->\n"
    text = fill_one(old, "simulator", tmp_path / "x.json", render_simulator)
    assert "| batch 8 | 1,100 | 1,000 | 990, 1,010 | 1.10 |  | 0.97 |  |" in text
    assert "5.6 million (small)" in text
    assert "median error 4.2 %" in text
    assert "old" not in text


def test_medians_stand_with_their_spread_and_what_a_row_lacks_is_empty(tmp_path):
    result = {
        "machine": {"processor": "some processor", "cores": 4},
        "date": "2026-01-02",
        "command": "python -m benchmarks.load x",
        "rows": {
            "one": {"throughput": {"median": 1234.5, "least": 1000.0, "most": 2000.0}, "limit": 7},
            "two": {"throughput": {"median": 1.5}},
        },
        "notes": ["said once"],
    }
    (tmp_path / "x.json").write_text(json.dumps(result))
    text = fill_load("<!-- load:x -->\nold\n<!-- end -->\n", tmp_path)
    assert "| one | 1,234.5 (1,000.0 to 2,000.0) | 7 |" in text
    assert "| two | 1.5 |  |" in text
    assert "some processor with 4 cores, 2026-01-02" in text
    assert "- said once." in text
    assert "old" not in text


def test_searches_of_a_workload_have_one_row(tmp_path):
    def row(seconds: float, **more: object) -> dict[str, object]:
        return {
            "seconds": seconds,
            "trials": 3,
            "quality": 1.0,
            "ratio": None,
            "test": None,
            "requests_to_good": 20_000,
            **more,
        }

    result = {
        "machine": MACHINE,
        "date": "today",
        "command": "the command",
        "notes": ["a note"],
        "rows": {
            "emulated workloads, all": {
                **{"searches": 3, "seconds": 61.0, "seconds_of_worst_workload": 90.0},
                **{"trials": 3, "quality": 1.0, "quality_at_least": 0.97, "error": 0.031},
                "kept": "2 of 2",
            },
            "gpu, seed 0": row(60.0, ratio=1.02, test="met"),
            "gpu, seed 1": row(
                70.0, quality=0.97, requests_to_good=40_000, ratio=0.95, test="violated"
            ),
            "gpu, disturbed, seed 0": row(80.0, requests_to_good=None),
            "gpu, TPE": {"requests_to_good": 150_000},
        },
    }
    file = tmp_path / "search_default.json"
    file.write_text(json.dumps(result))
    page = "<!-- search_default -->\nold\n<!-- end -->\n"
    lines = fill_one(page, "search_default", file, render_default).splitlines()
    assert any(
        "| 61 (worst workload 90) | 3 | 100.0 | 97.0 | off by 3.1 %" in line for line in lines
    )
    assert (
        "| gpu | 2 | 65 (60 to 70) | 3 | 98.5 | 97.0 | 1.02, 0.95 | 1 of 2 | 30,000 | 5.0 times |"
        in lines
    )
    assert "| gpu, disturbed | 1 | 80 (80 to 80) | 3 | 100.0 | 100.0 |  |  | never |  |" in lines
    assert "- A note." in lines
