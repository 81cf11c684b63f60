"""The workflows of the guide on gates: their very steps, in a clone of a repository with a branch
whose model is slower. What installs packages, and what the service itself does, is left out.
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from tests.conftest import ROOT
from tests.e2e.conftest import environment, no_server_left, sleepy_model
from tests.e2e.test_gate import slow_down
from tests.model.test_revision import commit, git

pytestmark = [pytest.mark.triton, pytest.mark.usefixtures("embedded_triton")]
GUIDE = (ROOT / "docs/guides/gate.md").read_text()
INSTALL = "pip install 'triton-tuner[local]'"


def workflow(heading: str) -> Any:
    section = GUIDE.partition(f"## {heading}\n")[2]
    found = re.search(r"```yaml\n(.*?)```", section, re.DOTALL)
    assert found is not None
    return yaml.safe_load(found[1])


@pytest.fixture
def clone(repository: Path, tmp_path: Path) -> Path:
    """Of a repository whose branch ``slow`` is checked out, as a service does."""
    origin = tmp_path / "origin"
    origin.mkdir()
    made = sleepy_model(repository, origin, max_batch_size=1, base_ms=5)
    model = made.rename(made.with_name("my_model"))
    config = model / "config.pbtxt"
    config.write_text(config.read_text().replace('"emulated_gpu"', '"my_model"'))
    git(origin, "init", "-q", "-b", "main")
    (origin / ".gitignore").write_text("reports/\n__pycache__/\n")
    commit(origin)
    git(origin, "checkout", "-q", "-b", "slow")
    slow_down(model, 20)
    commit(origin)
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(origin), str(clone))
    return clone


def run_step(step: str, clone: Path, variables: dict[str, str]) -> "subprocess.CompletedProcess":
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-eo", "pipefail", "-c", step],
        cwd=clone,
        env=environment({**variables, "PATH": path}),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def test_the_workflow_for_github_fails_a_slower_model(clone: Path, tmp_path: Path) -> None:
    (job,) = workflow("GitHub Actions")["jobs"].values()
    install, gate = (step["run"] for step in job["steps"] if "run" in step)
    assert install == INSTALL
    summary = tmp_path / "summary.md"
    variables = {
        "GITHUB_ACTIONS": "true",
        "GITHUB_BASE_REF": "main",
        "GITHUB_STEP_SUMMARY": str(summary),
    }
    with no_server_left(tmp_path):
        done = run_step(gate, clone, variables)
    assert done.returncode == 1, (done.stdout, done.stderr)
    assert "::error title=tuner gate::Fail" in done.stdout + done.stderr
    assert "Fail" in summary.read_text()
    (upload,) = (step for step in job["steps"] if "upload-artifact" in step.get("uses", ""))
    for path in upload["with"]["path"].split():
        assert (clone / path).exists(), path


def test_the_workflow_for_gitlab_fails_a_slower_model(clone: Path, tmp_path: Path) -> None:
    job = workflow("GitLab")["gate"]
    install, *steps = job["script"]
    assert install == INSTALL
    ended = []
    with no_server_left(tmp_path):
        for step in steps:
            ended.append(run_step(step, clone, {"CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main"}))
    assert [each.returncode for each in ended] == [0, 1], ended
    report = clone / job["artifacts"]["reports"]["junit"]
    (case,) = ElementTree.parse(report).getroot()
    assert [each.tag for each in case] == ["failure"]
    assert job["allow_failure"]["exit_codes"] == 4
