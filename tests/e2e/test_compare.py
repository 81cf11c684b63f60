"""One comparison from its start to its end: FastAPI, the gateway, and a service of the user's.

It promises so little that a bad moment of the machine costs nothing but time.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.e2e.conftest import Outcome, no_server_left, run_in
from tuner.analysis.contenders import contenders
from tuner.records.comparison import read_comparison
from tuner.records.results import State
from tuner.records.run import Run

pytestmark = pytest.mark.triton
OWN = Path(__file__).parents[1] / "deployments" / "own_server.py"
SERVICES = {
    "mine": {
        "title": "My own",
        "command": [sys.executable, str(OWN), "{port}"],
        "path": "/classify",
        "body": {"inputs": ["$text"]},
    },
    "broken": {
        "command": [sys.executable, str(OWN), "{port}", "broken"],
        "path": "/classify",
        "body": {"inputs": ["$text"]},
    },
}
WORDS = (
    *("compare", "text_classifier", "--sla", "p90<500ms", "--no-search"),
    *("--deployments", "fastapi,hybrid,services.yaml", "--fastapi-workers", "2"),
    *(
        "--confirm",
        "none",
        "--rounds",
        "1",
        "--launcher",
        "local",
        "--target-rate",
        "5000",
        "--json",
    ),
)


@dataclass(frozen=True)
class Story:
    folder: Path
    outcome: Outcome

    @property
    def run(self) -> Run:
        return Run.open(self.folder / self.outcome.result["run"])


@pytest.fixture(scope="module")
def story(embedded_triton: None, tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("story")
    (folder / "services.yaml").write_text(yaml.safe_dump(SERVICES, sort_keys=False))
    with no_server_left(folder):
        return Story(folder, run_in(folder, *WORDS))


def test_each_deployment_has_a_capacity_or_says_why_not(story: Story) -> None:
    assert story.outcome.code == 0, story.outcome.err
    found = {
        each.name: each for each in contenders(read_comparison(story.run), story.run.evaluations())
    }
    assert list(found) == ["fastapi", "hybrid", "mine", "broken"]
    states = {name: each.evaluation.state for name, each in found.items()}
    assert states == {
        "fastapi": State.OK,
        "hybrid": State.OK,
        "mine": State.OK,
        "broken": State.FAILED,
    }
    assert "no such form" in (found["broken"].evaluation.failure or "")
    for name in ("fastapi", "hybrid", "mine"):
        assert (found[name].evaluation.capacity or 0) > 20
        assert (found[name].deployed.cold_start or 0) > 0


def test_parts_of_the_latency_are_counted_where_they_pass(story: Story) -> None:
    evaluations = {e.deployment: e for e in story.run.evaluations()}
    for name in ("fastapi", "hybrid"):
        probe = evaluations[name].at_capacity()
        assert probe is not None
        assert probe.stages is not None
        assert set(probe.stages.seconds) == {
            "parsing",
            "tokenising",
            "queue",
            "inference",
            "serialisation",
        }
        assert (probe.server is not None) == (name == "hybrid")
        assert probe.host is not None
        assert (probe.host.cpu or 0) > 0
    mine = evaluations["mine"].at_capacity()
    assert mine is not None
    assert mine.stages is None


def test_models_are_swapped_and_no_request_is_lost(story: Story) -> None:
    swaps = {d.name: d.swap for d in read_comparison(story.run).deployments}
    for name, how in (("fastapi", "restart"), ("hybrid", "load")):
        swap = swaps[name]
        assert swap is not None
        assert swap.failure is None
        assert (swap.how, swap.lost) == (how, 0)
        assert swap.seconds is not None
    assert swaps["mine"] is None


def test_it_leaves_a_report_and_a_plan(story: Story, tmp_path: Path) -> None:
    assert story.run.report.is_file()
    result = story.outcome.result
    assert result["plan"]
    page = story.run.report.read_text(encoding="utf-8")
    assert "My own" in page
    again = run_in(story.folder, "report", str(story.run.folder))
    assert again.code == 0, again.err
    data = json.loads((story.run.folder / "requests.json").read_text())["data"]
    assert len(data[0]["input_ids"]) == 128


def test_the_sample_models_folder_is_left_as_it_is(story: Story) -> None:
    source = Path(__file__).parents[2] / "model_repository" / "text_classifier"
    assert not (source / "2").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--deployments", "fastapy"), "did you mean 'fastapi'"),
        (("--deployments", "none.yaml"), "cannot read none.yaml"),
        (("--tuned", "nowhere"), "not a run folder"),
        (("--load", "closed"), "needs an open loop"),
        (("--requests", "none.txt"), "cannot read"),
        (("--processing", "none.py"), "none.py"),
        (("--search-timeout", "soon"), "soon"),
    ],
)
def test_wrong_input_is_told_before_anything_is_started(
    refusal: Callable[..., str], words: tuple[str, ...], said: str
) -> None:
    assert said in refusal("compare", "text_classifier", "--sla-p99", "20ms", *words)
