"""The runs under ``reports/`` that are committed: small, and their winner can be served."""

from pathlib import Path

import pytest

from tests.conftest import ROOT
from tuner.deployments.triton import Inputs
from tuner.load.target import http_body
from tuner.servers.base import ServerSpec
from tuner.servers.control import Control
from tuner.servers.local import LocalLauncher

REPORTS = ROOT / "reports"
MODEL = "text_classifier"
SECONDS = 60.0


@pytest.mark.parametrize("run", ["sample", "sample-compare"])
def test_the_report_is_small(run: str) -> None:
    assert (REPORTS / run / "report.html").stat().st_size <= 2_000_000


def test_what_the_winner_shares_with_its_model_is_a_link_inside_the_checkout() -> None:
    winner = REPORTS / "sample" / "winner" / MODEL
    for entry in winner.iterdir():
        if entry.is_symlink():
            assert not entry.readlink().is_absolute()
            assert entry.resolve() == ROOT / "model_repository" / MODEL / entry.name
    assert (winner / "1").is_symlink(), "the network is here a second time"


@pytest.mark.triton
@pytest.mark.usefixtures("embedded_triton")
def test_the_winner_answers_though_its_files_are_links(tmp_path: Path) -> None:
    spec = ServerSpec(REPORTS / "sample" / "winner", MODEL, tmp_path / "server.log", SECONDS)
    with LocalLauncher() as launcher, launcher.launch(spec) as server, Control(server) as control:
        control.load(MODEL, None, SECONDS)
        assert control.config(MODEL)["max_batch_size"] == 64
        requests = Inputs().pool(control.signature(MODEL))
        answer = control.infer(MODEL, "", *http_body(requests[0]), SECONDS)
    (output,) = answer["outputs"]
    assert (output["name"], output["shape"]) == ("logits", [1, 2])
