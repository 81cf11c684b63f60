"""Manifests of runs: typed, written as text, and read in the forms of earlier versions."""

import shutil
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tests.manifests import make_manifest
from tuner.errors import RunError
from tuner.goals.sla import Sla
from tuner.load.arrivals import Arrivals
from tuner.records.manifest import CompareManifest, SearchManifest
from tuner.records.run import Run
from tuner.report.page import write_report

OLD = Path(__file__).parent / "old"
COMPARED = {"deployments": ["fastapi"], "fastapi_workers": 2, "gateway_workers": 1, "rounds": 3}


def run_with(manifest: Path, folder: Path) -> Run:
    folder.mkdir(exist_ok=True)
    shutil.copy(manifest, folder / "experiment.yaml")
    return Run.open(folder)


@pytest.mark.parametrize("file", sorted(OLD.glob("*.yaml")), ids=lambda file: file.stem)
def test_a_manifest_of_an_earlier_version_is_read_and_can_be_written(
    file: Path, tmp_path: Path
) -> None:
    run = run_with(file, tmp_path)
    found = run.manifest()
    assert found.model_name == "text_classifier"
    assert found.experiment.sla == Sla.parse("p99<20ms")
    assert found.experiment.load == Arrivals.POISSON
    assert found.space.name == "onnxruntime_cpu"
    assert found.environment.tuner == "0.1.0"
    assert found.environment.cores == 2
    assert found.command is not None
    assert found.command.startswith("tuner ")
    run.describe(found)
    assert run.manifest() == found
    assert yaml.safe_load(run.experiment_file.read_text())["format"] == 2


def test_the_workers_of_an_old_comparison_were_those_of_fastapi(tmp_path: Path) -> None:
    found = run_with(OLD / "compare-0.1.0.yaml", tmp_path).manifest()
    assert isinstance(found, CompareManifest)
    assert (found.compared.fastapi_workers, found.experiment.workers) == (2, 1)
    assert found.compared.deployments[0] == "naive"
    assert found.compared.search_seconds == 90.0


def test_an_old_run_recorded_names_of_headers(tmp_path: Path) -> None:
    content = yaml.safe_load((OLD / "search-0.1.0.yaml").read_text())
    content |= {"headers": ["X-Key"], "token_env": "MY_TOKEN"}
    (tmp_path / "old.yaml").write_text(yaml.safe_dump(content))
    found = run_with(tmp_path / "old.yaml", tmp_path / "run").manifest()
    assert (found.headers, found.experiment.headers) == (("X-Key",), ())
    assert found.experiment.token_env == "MY_TOKEN"


def test_a_run_of_before_a_field_came_is_the_same(tmp_path: Path) -> None:
    """Without ``pin``, ``sampler`` and others: the defaults are what was done then."""
    oldest = run_with(OLD / "search-first.yaml", tmp_path / "oldest").manifest()
    newest = run_with(OLD / "search-0.1.0.yaml", tmp_path / "newest").manifest()
    assert oldest.identity() == newest.identity()


@pytest.mark.parametrize("name", ["sample", "sample-compare"])
def test_the_committed_runs_can_be_reported(name: str, tmp_path: Path) -> None:
    leave = shutil.ignore_patterns("report.html", "winner", "search")
    folder = Path(shutil.copytree(ROOT / "reports" / name, tmp_path / name, ignore=leave))
    assert "text_classifier" in write_report(Run.open(folder)).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("format: 3\nkind: search\n", "the manifest has format 3, and this version .* up to 2"),
        ("format: 2\nkind: bake\n", "kind"),
        ("format: 2\nkind: search\n", r"search\.experiment: Field required"),
        ("kind: search\nsla: soon\nmodel: m\n", "bound 'soon' is not valid"),
    ],
)
def test_a_manifest_that_cannot_be_read_is_told(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "experiment.yaml").write_text(text)
    with pytest.raises(RunError, match=rf"experiment\.yaml: .*{words}"):
        Run.open(tmp_path).manifest()


def test_the_identity_is_all_but_the_budget_and_how_tuner_is_let_in() -> None:
    one = make_manifest(trials=3, timeout="10s", environment={"tuner": "1"}, token_env="A")
    other = make_manifest(trials=9, timeout="10m", command="tuner search", token_env="B")
    assert one.identity() == other.identity()
    for changes in ({"seed": 1}, {"gpus": "none"}, {"batch": "1:7,4:3"}, {"env": ["A=1"]}):
        assert make_manifest(**changes).identity() != one.identity()


def test_comparisons_differ_by_what_they_compare() -> None:
    one = make_manifest(kind="compare", compared=COMPARED)
    more = make_manifest(kind="compare", compared=COMPARED | {"rounds": 5})
    assert one.identity() != more.identity()
    assert isinstance(make_manifest(), SearchManifest)
