"""What Prometheus and Grafana get of a run."""

import json
import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from tests.conftest import ROOT
from tests.manifests import make_manifest
from tests.records.test_results import evaluation
from tuner.cli.app import app
from tuner.monitoring.grafana import dashboard
from tuner.monitoring.metrics import found, metrics_text
from tuner.records.run import Run

SAMPLE = ROOT / "reports/sample"


def test_prometheus_reads_the_metrics() -> None:
    run = Run.open(SAMPLE)
    families = {each.name: each for each in text_string_to_metric_families(metrics_text(run))}
    (capacity,) = families["tuner_capacity_requests_per_second"].samples
    assert capacity.value == found(run).capacity
    assert capacity.labels["model"] == run.manifest().model_name
    (bound,) = families["tuner_sla_seconds"].samples
    assert (bound.labels["quantile"], bound.value) == ("p99", 0.02)
    assert len(families["tuner_latency_seconds"].samples) > 3


def test_odd_names_are_escaped(tmp_path: Path) -> None:
    run = Run.create(
        tmp_path / 'a"b\\c', make_manifest(model='models/x"y', sla="p99<20ms,errors<1%")
    )
    run.append(evaluation(phase="measure", capacity=100.0))
    families = list(text_string_to_metric_families(metrics_text(run)))
    labels = families[0].samples[0].labels
    assert labels["run"] == 'a"b\\c'
    assert labels["model"] == 'x"y'
    assert [each.labels["quantile"] for f in families for each in f.samples if "sla" in f.name] == [
        "p99"
    ]


def test_the_bounds_of_a_mix_are_each_models(tmp_path: Path) -> None:
    sla = "a:p99<20ms,b:p95<40ms"
    run = Run.create(tmp_path / "r", make_manifest(model="models", sla=sla, mix="a=1,b=2"))
    run.append(evaluation(phase="confirm", capacity=100.0))
    families = {each.name: each for each in text_string_to_metric_families(metrics_text(run))}
    bounds = {s.labels["model"]: s.value for s in families["tuner_sla_seconds"].samples}
    assert bounds == {"a": 0.02, "b": 0.04}
    assert {s.labels["quantile"] for s in families["tuner_sla_seconds"].samples} == {"p99", "p95"}
    assert 'model=~\\"a|b\\"' in dashboard(run)


def test_the_dashboard_has_capacity_and_sla_drawn_in() -> None:
    run = Run.open(SAMPLE)
    made = json.loads(dashboard(run))
    lines = {
        panel["title"]: [
            step["value"]
            for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
            if step["value"] is not None
        ]
        for panel in made["panels"]
    }
    winner = found(run)
    assert lines["Requests/s of each server"] == [winner.recommended, winner.capacity]
    assert lines["Mean latency in the server"] == [0.02]
    places = [tuple(panel["gridPos"].values()) for panel in made["panels"]]
    assert len(set(places)) == len(places)


@pytest.mark.usefixtures("embedded_triton")
@pytest.mark.triton
def test_its_metrics_are_those_that_triton_has(repository: Path, tmp_path: Path) -> None:
    from tuner.servers.base import ServerSpec
    from tuner.servers.control import Control
    from tuner.servers.local import LocalLauncher

    with (
        LocalLauncher() as launcher,
        launcher.launch(ServerSpec(repository, "emulated_gpu", tmp_path / "log")) as server,
        Control(server) as control,
    ):
        control.load("emulated_gpu", None, 60)
        text = control.metrics() or ""
    asked = set(re.findall(r"nv_inference_\w+", dashboard(Run.open(SAMPLE))))
    assert asked
    assert asked <= {line.split("{")[0] for line in text.splitlines() if not line.startswith("#")}


def test_the_command_prints_and_writes(tmp_path: Path) -> None:
    file = tmp_path / "dashboard.json"
    done = CliRunner().invoke(app, ["metrics", str(SAMPLE), "--grafana", str(file)])
    assert done.exit_code == 0, done.output
    assert done.stdout == metrics_text(Run.open(SAMPLE))
    assert json.loads(file.read_text())["panels"]


def test_a_run_that_found_nothing_says_so(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "r", make_manifest())
    done = CliRunner().invoke(app, ["metrics", str(run.folder)])
    assert done.exit_code == 2
    assert "found nothing that meets its SLA" in done.stderr
