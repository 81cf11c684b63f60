"""Stages and their result files, without running any."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.gpu import __main__ as supervisor
from benchmarks.gpu.models import Workbench
from benchmarks.gpu.result import Result, comparable, read, set_state
from benchmarks.gpu.stages import BACKEND, BASELINES, STAGES, _of_limit, _of_search
from tuner.model.config import check_config, read_config, render
from tuner.model.space import Candidate
from tuner.records.run import Run

MINUTES = 24


def test_all_stages_together_fit_in_the_stated_time():
    limits = {name: stage.seconds + supervisor.GRACE_SECONDS for name, stage in STAGES.items()}
    others = {name: limit for name, limit in limits.items() if "deployments" not in name}
    assert sum(others.values()) <= MINUTES * 60
    assert max(limits.values()) <= 10 * 60


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_plans_different_rows(name):
    rows = STAGES[name].rows(False)
    assert rows
    assert len(set(rows)) == len(rows)


@pytest.mark.parametrize("setting", [*BASELINES.values(), *(s for s, _ in BACKEND.values())])
def test_every_setting_is_one_that_the_model_takes(setting):
    changes = setting.changes()
    config = read_config(Path("model_repository/bert_base"))
    check_config(render(config, Candidate.of(changes)), "setting")


def test_the_bench_has_requests_of_the_models_own_vocabulary(tmp_path):
    bench = Workbench(tmp_path, dry=True)
    bench.prepare()
    data = json.loads((tmp_path / "texts.json").read_text())["data"]
    largest = max(max(entry["input_ids"]) for entry in data)
    assert largest < int(bench.options("bert_base")["vocabulary"])
    assert len({tuple(entry["input_ids"]) for entry in data}) == len(data)
    assert read_config(bench.repository / "resnet50").max_batch_size == 4
    assert read_config(Path("model_repository/resnet50")).max_batch_size == 64


def test_a_search_is_told_by_its_records():
    row = _of_search(Run(Path("reports/sample")))
    assert row["capacity"] > row["baseline_capacity"] > 0
    assert row["launches"] > row["candidates"] > row["failed"] >= 0
    assert 0 < row["seconds_to_winner"] < row["seconds"]
    assert row["p50_ms"] < row["p99_ms"] < 20
    assert row["outcome"] == "ok"


def test_the_share_of_the_bare_model_is_that_of_its_best_batch():
    bare = {
        "bert_base, eager": {"items_per_second": 90.0, "batch": 8},
        "bert_base, compiled": {"items_per_second": 100.0, "batch": 64},
        "bert_base, cuda_graphs": {"state": "failed"},
        "resnet50, eager": {"items_per_second": 900.0, "batch": 64},
    }
    assert _of_limit({"capacity": 80.0}, {}) == {}
    assert _of_limit({"capacity": None}, bare) == {}
    assert _of_limit({"capacity": 80.0}, bare)["of_bare"] == 0.8


def test_results_of_other_cards_and_of_dry_runs_are_not_compared(tmp_path):
    here = Result(tmp_path / "here.json", "search", "", {"gpu": "card"}, dry=False)
    for name, gpu, dry in (("same", "card", False), ("dry", "card", True), ("other", "x", False)):
        Result(tmp_path / f"{name}.json", "bare", "", {"gpu": gpu}, dry).record("row", rate=1)
    assert comparable(tmp_path / "same.json", here) == {"row": {"state": "measured", "rate": 1}}
    for name in ("dry", "other", "missing"):
        assert comparable(tmp_path / f"{name}.json", here) == {}


def test_a_result_is_whole_after_every_row(tmp_path):
    file = tmp_path / "stage.json"
    result = Result(file, "stage", "what it is", {"processor": "p"}, dry=False)
    result.plan(["first", "second", "third"])
    with result.row("first") as row:
        row["rate"] = 7.0
    with result.row("second") as row:
        row["rate"] = 8.0
        raise ValueError("the server is gone")
    found = read(file)
    assert found is not None
    assert found["rows"]["first"] == {"state": "measured", "rate": 7.0}
    assert found["rows"]["second"] == {"state": "failed: the server is gone", "rate": 8.0}
    assert found["rows"]["third"] == {"state": "not reached in the stage's time"}
    assert found["state"] != "complete"
    set_state(file, "ended after its 3 s")
    assert json.loads(file.read_text())["state"] == "ended after its 3 s"


def interrupted(result):
    with result.row("first") as row:
        row["capacity"] = 5.0
        raise KeyboardInterrupt


def test_an_interrupt_ends_the_stage_and_not_the_row_alone(tmp_path):
    result = Result(tmp_path / "stage.json", "stage", "", {}, dry=False)
    result.plan(["first"])
    with pytest.raises(KeyboardInterrupt):
        interrupted(result)
    found = read(tmp_path / "stage.json")
    assert found is not None
    assert found["rows"]["first"] == {"state": "cut short", "capacity": 5.0}


def test_a_stage_that_does_not_heed_ctrl_c_is_ended(monkeypatch):
    monkeypatch.setattr(supervisor, "GRACE_SECONDS", 0.2)
    ignore = "signal.signal(signal.SIGINT, signal.SIG_IGN); print(1, flush=True)"
    code = f"import signal, time; {ignore}; time.sleep(60)"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        began = time.monotonic()
        supervisor._end(process)
        assert process.returncode == -signal.SIGKILL
        assert time.monotonic() - began < 30


@pytest.mark.slow
@pytest.mark.parametrize("module", ["first", "measuring", "stages"])
def test_stages_do_without_numba(module: str) -> None:
    """It is not there on the second kind of machine, and nothing is simulated then."""
    code = f"import sys; sys.modules['numba'] = None; import benchmarks.gpu.{module}"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
