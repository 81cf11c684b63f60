"""Whole runs on Triton in real containers."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker
import pytest
import yaml

from benchmarks.pipelines import EmulatedPipeline
from tests.contracts.test_docker import mine
from tests.e2e.conftest import Outcome, sleepy_model
from tests.e2e.test_several import FAST, SLOW
from tuner.model.config import from_json
from tuner.records.results import State, best
from tuner.records.run import Run
from tuner.servers.base import ServerSpec
from tuner.servers.control import Control
from tuner.servers.docker import ContainerSpec, DockerLauncher
from tuner.version import __version__

pytestmark = pytest.mark.docker
Tuner = Callable[..., Outcome]


def test_search_relaunches_containers_and_the_model_as_found_wins(
    tuner: Tuner, test_image: str, repository: Path, tmp_path: Path
) -> None:
    """The only other candidate cannot load, for a reason that only its own settings give."""
    model = sleepy_model(repository, tmp_path, max_batch_size=4, base_ms=20)
    (tmp_path / "space.yaml").write_text(
        "parameters:\n  parameters[base_us]: ['20000', 'nonsense']\n"
    )
    done = tuner(
        *(
            "search",
            str(model),
            "--sla",
            "p90<100ms",
            "--load",
            "constant",
            "--space",
            "space.yaml",
            "--confirm",
            "none",
        ),
        *("--launcher", "docker", "--image", test_image, "--gpus", "none", "--json"),
    )
    assert done.code == 0, done.err
    run = Run.open(tmp_path / done.result["run"])
    assert run.manifest().environment.launcher == "docker"
    evaluations = run.evaluations()
    assert [(e.phase, e.state) for e in evaluations] == [
        ("search", State.OK),
        ("search", State.FAILED),
    ]
    assert "base_us is 'nonsense'" in (evaluations[1].failure or "")
    winner = best(evaluations)
    assert winner is not None
    assert winner.baseline
    own = (model / "config.pbtxt").read_bytes()
    assert (run.winner / "emulated_gpu/config.pbtxt").read_bytes() == own
    spec = ServerSpec(run.winner, "emulated_gpu", tmp_path / "fresh.log")
    with (
        DockerLauncher(ContainerSpec(image=test_image)) as launcher,
        launcher.launch(spec) as server,
        Control(server) as control,
    ):
        control.load("emulated_gpu", None, 60)
        assert from_json(control.config("emulated_gpu")).max_batch_size == 4
    client = docker.from_env()
    try:
        assert mine(client, done.pid) == []
    finally:
        client.close()


def in_container(image: str, command: list[str], **settings: Any) -> str:
    """What a command writes as any user, on a read-only file system."""
    client = docker.from_env()
    try:
        output = client.containers.run(
            image,
            command,
            user="12345:0",
            read_only=True,
            tmpfs={"/tmp": ""},
            security_opt=["no-new-privileges"],
            remove=True,
            stderr=True,
            **settings,
        )
    finally:
        client.close()
    return str(output.decode())


def test_the_image_of_the_dockerfile_holds_tuner_and_triton(tuner_image: str) -> None:
    assert in_container(tuner_image, ["tuner", "--version"]) == f"tuner {__version__}\n"
    assert in_container(tuner_image, ["triton-tuner", "--version"]) == f"tuner {__version__}\n"
    found = in_container(tuner_image, ["tuner", "doctor"])
    assert re.search(r"^ok +tritonserver on the PATH: /", found, re.MULTILINE), found


def test_the_command_of_a_kubernetes_job_runs_in_the_image_as_any_user(
    tuner: Tuner, tuner_image: str, repository: Path, tmp_path: Path
) -> None:
    """As in the pod: what it may write, the experiment of the ConfigMap. The model's Python is the
    image's, not tuner's.
    """
    model = sleepy_model(repository, tmp_path, max_batch_size=4, base_ms=20)
    code = model / "1/model.py"
    own = "import sys\n\nassert sys.prefix == '/usr', sys.prefix\n"
    code.write_text(own + code.read_text())
    (tmp_path / "small.yaml").write_text("parameters: {max_batch_size: [2, 4]}")
    words = ("--sla", "p90<200ms", "--load", "constant", "--space", "small.yaml")
    made = tuner(
        *("job", str(model), *words, "--confirm", "none", "--gpu-count", "0"),
        *("--job-image", tuner_image, "--to", "k8s"),
    )
    assert made.code == 0, made.err
    config, _, job = yaml.safe_load_all((tmp_path / "k8s/search-job.yaml").read_text())
    (container,) = job["spec"]["template"]["spec"]["containers"]
    for folder in ("config", "runs"):
        (tmp_path / folder).mkdir()
    for name, text in config["data"].items():
        (tmp_path / "config" / name).write_text(text)
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o777)
    output = in_container(
        container["image"],
        container["args"],
        cap_drop=container["securityContext"]["capabilities"]["drop"],
        shm_size="1g",
        working_dir=container["workingDir"],
        environment={each["name"]: each["value"] for each in container["env"]},
        volumes={
            str(tmp_path / "config"): {"bind": "/etc/tuner", "mode": "ro"},
            str(model.parent): {"bind": "/models", "mode": "ro"},
            str(tmp_path / "runs"): {"bind": "/runs", "mode": "rw"},
        },
    )
    run = Run.open(tmp_path / "runs/search")
    assert best(run.evaluations()) is not None, output
    assert run.report.is_file()
    assert (run.winner / "emulated_gpu/config.pbtxt").is_file()


def test_several_models_and_a_pipeline_of_them_share_a_container(
    tuner: Tuner, test_image: str, tmp_path: Path
) -> None:
    """With the rate limiter, and a file beside the models that one of them reads."""
    models = tmp_path / "models"
    EmulatedPipeline("chain", (FAST, SLOW), "p99<300ms").repository(models)
    (models / "beside.txt").write_text("here")
    code = models / "fast" / "1" / "model.py"
    read = 'assert (Path(__file__).parents[2] / "beside.txt").read_text() == "here"'
    start = "        config = json.loads("
    assert start in code.read_text()
    code.write_text(code.read_text().replace(start, f"        {read}\n{start}", 1))
    where = ("--launcher", "docker", "--image", test_image, "--gpus", "none", "-q", "--json")
    sla = ("--sla", "fast:p90<500ms", "--sla", "slow:p90<500ms", "--mix", "fast=1,slow=1")
    settings = ("--set", "slow/max_batch_size=4", "--set", "rate_limit=1")
    done = tuner("measure", str(models), *sla, *settings, "--rate", "20", *where)
    assert done.was_measured, (done.err, done.out)
    done = tuner("measure", str(models / "chain"), "--sla", "p90<500ms", "--rate", "20", *where)
    assert done.was_measured, (done.err, done.out)


def test_the_onnx_model_is_served_unchanged(tuner: Tuner, test_image: str) -> None:
    done = tuner(
        *("measure", "text_classifier", "--sla", "p90<500ms", "--rate", "30"),
        *("--launcher", "docker", "--image", test_image, "--gpus", "none", "--json"),
    )
    assert done.code == 0, done.err
    assert done.result["winner"]["capacity_per_second"] == 30
