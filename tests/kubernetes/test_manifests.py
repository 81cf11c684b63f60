"""Manifests that a cluster takes: against the published schemas, and against what they are for."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from typer.testing import CliRunner

from tests.conftest import ROOT
from tuner.cli.app import app
from tuner.errors import UsageError
from tuner.experiment.resolve import resolve
from tuner.kubernetes.chart import chart
from tuner.kubernetes.parts import Resources, object_name
from tuner.kubernetes.serving import Serving

VERSIONS = ("1.29", "1.31", "1.35")
OWN_SCHEMAS = ("ScaledObject", "InferenceService")
"""Kinds of KEDA's and KServe's, which the published schemas do not have."""
GIB = 1 << 30


def serving(**changes: Any) -> Serving:
    fields: dict[str, Any] = {
        "name": "text_classifier",
        "models": ("text_classifier",),
        "image": "nvcr.io/nvidia/tritonserver:25.01-py3",
        "uri": "pvc://models/winner",
        "rate": 412.6,
        "resources": Resources(4, 6 * GIB, 1),
    }
    return Serving(**{**fields, **changes})


def documents(folder: Path) -> list[dict[str, Any]]:
    texts = (path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.yaml")))
    return [each for text in texts for each in yaml.safe_load_all(text)]


def of_kind(manifests: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (found,) = (each for each in manifests if each["kind"] == kind)
    return found


def validate(manifests: list[dict[str, Any]]) -> None:
    for version in VERSIONS:
        for manifest in manifests:
            if manifest["kind"] not in OWN_SCHEMAS:
                kubernetes_validate.validate(manifest, version, strict=True)


def containers(manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from manifest["spec"]["template"]["spec"]["containers"]


def check_pod(manifest: dict[str, Any]) -> None:
    """No root, no host, no Docker; requests equal limits."""
    pod = manifest["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    assert not any("hostPath" in volume for volume in pod["volumes"])
    assert {"hostNetwork", "hostPID", "hostIPC"}.isdisjoint(pod)
    for container in containers(manifest):
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["resources"]["requests"] == container["resources"]["limits"]
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}


@pytest.fixture
def job(tmp_path: Path) -> list[dict[str, Any]]:
    space = tmp_path / "own.yaml"
    space.write_text("parameters: {max_batch_size: [1, 2]}")
    words = ("--sla", "p99<20ms", "--space", str(space), "--gpu-count", "2")
    where = ("--job-image", "registry/tuner:1", "--to", str(tmp_path / "k8s"))
    done = CliRunner().invoke(app, ["job", "emulated_gpu", *words, *where])
    assert done.exit_code == 0, done.output
    return documents(tmp_path / "k8s")


def test_the_job_is_valid_and_needs_no_privileges(job: list[dict[str, Any]]) -> None:
    validate(job)
    made = of_kind(job, "Job")
    check_pod(made)
    (container,) = containers(made)
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 2


def test_the_job_goes_on_where_it_stopped_and_gives_up_where_it_makes_no_sense(
    job: list[dict[str, Any]],
) -> None:
    made = of_kind(job, "Job")
    (container,) = containers(made)
    words = container["args"]
    assert words[words.index("--run") + 1] == "search"
    assert made["spec"]["backoffLimit"] > 0
    (rule,) = made["spec"]["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"]["values"] == [1, 2]
    assert made["spec"]["template"]["spec"]["restartPolicy"] == "Never"


def test_the_experiment_travels_with_the_job(job: list[dict[str, Any]], tmp_path: Path) -> None:
    files = of_kind(job, "ConfigMap")["data"]
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (container,) = containers(of_kind(job, "Job"))
    assert "/etc/tuner/tuner.yaml" in container["args"]
    made = resolve({"model": "emulated_gpu"}, tmp_path / "tuner.yaml")
    assert made.sla.text == "p99<20ms"
    assert made.space == "/etc/tuner/space.yaml"
    assert yaml.safe_load(files["tuner.yaml"])["model"] == "/models/emulated_gpu"
    assert yaml.safe_load(files["space.yaml"]) == {"parameters": {"max_batch_size": [1, 2]}}


def test_an_attached_server_is_no_job(tmp_path: Path) -> None:
    words = ("--sla-p99", "20ms", "--url", "localhost:8000")
    done = CliRunner().invoke(
        app, ["job", "emulated_gpu", *words, "--job-image", "i", "--to", str(tmp_path / "k")]
    )
    assert done.exit_code == 2
    assert "the Job starts Triton itself" in done.stderr
    assert not (tmp_path / "k").exists()


def test_the_deployment_is_valid_and_needs_no_privileges() -> None:
    manifests = [each for made in serving().manifests().values() for each in made]
    validate(manifests)
    made = of_kind(manifests, "Deployment")
    check_pod(made)
    (container,) = containers(made)
    assert "--model-repository=/models/winner" in container["args"]
    selected = made["spec"]["selector"]["matchLabels"]
    assert made["spec"]["template"]["metadata"]["labels"] == selected
    assert of_kind(manifests, "Service")["spec"]["selector"] == selected


def test_both_autoscalers_aim_at_the_recommended_rate_of_a_pod() -> None:
    manifests = [each for made in serving().manifests().values() for each in made]
    (metric,) = of_kind(manifests, "HorizontalPodAutoscaler")["spec"]["metrics"]
    assert metric["pods"]["target"]["averageValue"] == "413"
    (trigger,) = of_kind(manifests, "ScaledObject")["spec"]["triggers"]
    assert float(trigger["metadata"]["threshold"]) == 412.6
    assert 'model=~"text_classifier"' in trigger["metadata"]["query"]


def test_a_slow_models_rate_is_not_rounded_to_nothing() -> None:
    manifests = [each for made in serving(rate=0.25).manifests().values() for each in made]
    (metric,) = of_kind(manifests, "HorizontalPodAutoscaler")["spec"]["metrics"]
    assert metric["pods"]["target"]["averageValue"] == "250m"


def test_an_object_store_is_tritons_own_argument() -> None:
    (made, _) = serving(uri="s3://bucket/winner").manifests()["deployment.yaml"]
    (container,) = containers(made)
    assert "--model-repository=s3://bucket/winner" in container["args"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {"tmp", "shm"}


def test_a_claim_without_a_name_is_refused() -> None:
    with pytest.raises(UsageError, match="names no claim"):
        serving(uri="pvc:///winner").manifests()


def test_pods_get_what_was_used_and_some_more() -> None:
    resources = Resources.for_use(1.9, 2 * GIB)
    assert resources.cpus == 3
    assert resources.memory == 4 * GIB
    assert Resources.for_use(0.01, 0).cpus == 1


@pytest.mark.parametrize(
    ("text", "name"), [("text_classifier", "text-classifier"), ("A b", "a-b"), ("x" * 80, "x" * 50)]
)
def test_names_are_those_of_kubernetes(text: str, name: str) -> None:
    assert object_name(text) == name


def test_a_name_without_letters_is_refused() -> None:
    with pytest.raises(UsageError):
        object_name("___")


def rendered(text: str, values: dict[str, Any]) -> str:
    """What Helm makes of the few forms that the chart uses."""

    def value(match: re.Match[str]) -> str:
        found: Any = values
        for key in match[1].split("."):
            found = found[key]
        return f'"{found}"' if match[2] else str(found)

    body = "\n".join(line for line in text.splitlines() if not line.startswith("{{-"))
    body = body.replace("{{ .Release.Name }}", "text-classifier")
    body = re.sub(r"\{\{ \.Values\.([\w.]+)( \| quote)? \}\}", value, body)
    assert "{{" not in body
    return body


@pytest.mark.parametrize("uri", ["pvc://models/deep/winner", "gs://bucket/winner"])
@pytest.mark.parametrize("gpus", [0, 1])
def test_the_chart_renders_to_the_plain_manifests(uri: str, gpus: int) -> None:
    made = serving(uri=uri, rate=412.0, resources=Resources(4, 6 * GIB, gpus))
    files = chart(made)
    values = yaml.safe_load(files["values.yaml"])
    for name, manifests in made.manifests().items():
        text = files[f"templates/{name}"]
        assert text.startswith("{{- if ")
        assert text.rstrip().endswith("{{- end }}")
        assert list(yaml.safe_load_all(rendered(text, values))) == manifests


def test_an_export_has_manifests_of_the_winner(tmp_path: Path) -> None:
    words = ["--to", str(tmp_path / "w"), "--model", str(ROOT / "model_repository/text_classifier")]
    where = ["--kubernetes", str(tmp_path / "k"), "--uri", "pvc://models/winner"]
    run = str(ROOT / "reports/sample")
    done = CliRunner().invoke(app, ["export", run, *words, *where, "--memory", "3GiB"])
    assert done.exit_code == 0, done.output
    manifests = documents(tmp_path / "k")
    validate(manifests)
    (container,) = containers(of_kind(manifests, "Deployment"))
    assert container["resources"]["limits"]["memory"] == "3Gi"
    assert (tmp_path / "k/chart/Chart.yaml").is_file()
    again = CliRunner().invoke(app, ["export", run, *words, *where])
    assert again.exit_code == 2
    assert "exists; choose another folder" in again.stderr


def test_manifests_need_to_know_where_the_repository_lies(tmp_path: Path) -> None:
    run = str(ROOT / "reports/sample")
    words = ["--to", str(tmp_path / "w"), "--kubernetes", str(tmp_path / "k")]
    done = CliRunner().invoke(app, ["export", run, *words])
    assert done.exit_code == 2
    assert "--kubernetes needs --uri" in done.stderr
    assert not (tmp_path / "w").exists()
