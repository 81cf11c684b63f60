import json
import math
from pathlib import Path
from typing import Any

import pytest

from tests.manifests import make_manifest
from tuner.commands.export import export_winner
from tuner.errors import ModelConfigError, RunError, StorageError
from tuner.model.config import ModelConfig, parse_config, read_config, render, to_text
from tuner.model.space import MAX_BATCH_SIZE, Candidate
from tuner.records.results import Evaluation, ProbeRecord, State
from tuner.records.run import Run

FOUND = '# By hand, "as it is".\nname:   "mine"\nmax_batch_size:8\n'
CANDIDATE = Candidate.of({MAX_BATCH_SIZE: 16})


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "models" / "mine"
    (folder / "1" / "__pycache__").mkdir(parents=True)
    (folder / "config.pbtxt").write_text(FOUND)
    (folder / "1" / "model.onnx").write_bytes(bytes(range(256)))
    (folder / "1" / "__pycache__" / "model.pyc").write_bytes(b"")
    return folder


@pytest.fixture
def run(tmp_path: Path, model: Path) -> Run:
    return Run.create(
        tmp_path / "reports" / "run-1",
        make_manifest(model=str(model), environment={"tuner": "0.2.0"}),
    )


def record(model: Path, capacity: float | None, **fields: Any) -> Evaluation:
    rendered = render(read_config(model), CANDIDATE)
    values: dict[str, Any] = {
        "trial": 3,
        "phase": "search",
        "baseline": False,
        "settings": dict(CANDIDATE.settings),
        "config": to_text(rendered),
        "state": State.OK if capacity is not None else State.INFEASIBLE,
        "capacity": capacity,
        "started": "2025-01-01T00:00:00+00:00",
        "seconds": 1.0,
    }
    return Evaluation.model_validate({**values, **fields})


def as_found(model: Path, capacity: float) -> Evaluation:
    return record(model, capacity, trial=0, baseline=True, settings={MAX_BATCH_SIZE: 8})


def probe(latency: dict[str, float | None]) -> ProbeRecord:
    return ProbeRecord(
        purpose="capacity",
        load="poisson",
        rate=120.0,
        concurrency=None,
        seed=1,
        seconds=4.0,
        n=480,
        errors=1,
        violations=1,
        latency=latency,
        throughput=120.0,
        outcome="met",
        remedy=None,
        confidence=0.95,
        bound_ratio=0.5,
        lateness_p99=None,
        client_limited=False,
    )


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_the_winner_is_a_repository_with_the_models_files(run: Run, model: Path) -> None:
    run.append(as_found(model, 50.0))
    run.append(record(model, 120.0, probes=(probe({"p99": 0.015}),)))
    config = export_winner(run, model, run.winner)
    assert config == run.winner / "mine" / "config.pbtxt"
    assert files(run.winner) == ["manifest.json", "mine/1/model.onnx", "mine/config.pbtxt"]
    assert (run.winner / "mine/1/model.onnx").read_bytes() == bytes(range(256))
    assert parse_config(config.read_text(), "winner") == ModelConfig(name="mine", max_batch_size=16)


def test_the_manifest_tells_what_was_found_and_where(run: Run, model: Path) -> None:
    run.append(as_found(model, 50.0))
    run.append(record(model, 120.0, probes=(probe({"p99": 0.015}),)))
    export_winner(run, model, run.winner)
    assert json.loads((run.winner / "manifest.json").read_text()) == {
        "model": "mine",
        "run": "run-1",
        "sla": "p99<20ms",
        "trial": 3,
        "settings": {MAX_BATCH_SIZE: 16},
        "capacity_per_second": 120.0,
        "cost": None,
        "confirmed": False,
        "latency_seconds": {"p99": 0.015},
        "baseline_capacity_per_second": 50.0,
        "baseline_cost": None,
        "environment": {"tuner": "0.2.0", "notes": []},
    }


def test_the_manifest_is_json_even_where_a_few_requests_failed(run: Run, model: Path) -> None:
    run.append(record(model, 120.0, probes=(probe({"p99": 0.015, "p99.9": math.inf}),)))
    export_winner(run, model, run.winner)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    json.loads((run.winner / "manifest.json").read_text(), parse_constant=refuse)


def test_a_baseline_that_wins_keeps_its_own_file_byte_for_byte(run: Run, model: Path) -> None:
    run.append(as_found(model, 200.0))
    run.append(record(model, 120.0))
    assert export_winner(run, model, run.winner).read_bytes() == FOUND.encode()


def test_an_older_export_is_replaced(run: Run, model: Path) -> None:
    run.append(as_found(model, 50.0))
    export_winner(run, model, run.winner)
    (run.winner / "mine" / "stale").write_text("")
    run.append(record(model, 120.0))
    config = export_winner(run, model, run.winner)
    assert "stale" not in str(files(run.winner))
    assert "max_batch_size: 16" in config.read_text()


@pytest.mark.parametrize("kind", ["folder", "empty folder", "file"])
def test_what_is_not_an_export_is_left_alone(
    run: Run, model: Path, tmp_path: Path, kind: str
) -> None:
    run.append(record(model, 120.0))
    place = tmp_path / "place"
    if kind == "file":
        place.write_text("mine")
    else:
        place.mkdir()
    if kind == "folder":
        (place / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match="place exists and is not an export of tuner"):
        export_winner(run, model, place)
    assert place.read_text() == "mine" if kind == "file" else len(files(place)) <= 1


def test_without_a_winner_nothing_is_written(run: Run, model: Path) -> None:
    run.append(record(model, None))
    with pytest.raises(RunError, match="no candidate met the SLA"):
        export_winner(run, model, run.winner)
    assert not run.winner.exists()


def test_a_model_that_is_gone_is_named(run: Run, model: Path, tmp_path: Path) -> None:
    run.append(record(model, 120.0))
    with pytest.raises(RunError, match=r"is not at .*elsewhere"):
        export_winner(run, tmp_path / "elsewhere", run.winner)


def test_an_export_that_fails_leaves_nothing_behind(run: Run, model: Path) -> None:
    run.append(record(model, 120.0, config="max_batch_size: many"))
    before = files(run.folder)
    with pytest.raises(ModelConfigError, match="the winner's record"):
        export_winner(run, model, run.winner)
    assert files(run.folder) == before
    assert not run.winner.exists()


def test_an_export_that_fails_leaves_the_older_one(run: Run, model: Path) -> None:
    run.append(record(model, 120.0))
    config = export_winner(run, model, run.winner)
    before = config.read_bytes()
    (model / "1" / "lost").symlink_to(model / "nowhere")  # cannot be copied
    with pytest.raises(StorageError, match=r"cannot write .*winner"):
        export_winner(run, model, run.winner)
    assert config.read_bytes() == before
    assert [path.name for path in run.folder.glob(".export-*")] == []


def test_a_place_that_cannot_be_written_is_named(run: Run, model: Path, tmp_path: Path) -> None:
    run.append(record(model, 120.0))
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="choose another place"):
        export_winner(run, model, tmp_path / "file" / "winner")
