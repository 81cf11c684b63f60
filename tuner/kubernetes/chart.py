"""A Helm chart of the same manifests, with what differs from cluster to cluster as values."""

from dataclasses import replace

import yaml

from tuner.kubernetes.parts import Manifest, Resources
from tuner.kubernetes.serving import Serving
from tuner.version import __version__

_NAME, _IMAGE, _URI = "placeholder-name", "placeholder-image", "placeholder-uri"
_CLAIM, _PATH = "placeholder-claim", "placeholder-path"
_CPUS, _GIBIBYTES, _GPUS, _REPLICAS, _RATE = 70001, 70002, 70003, 70004, 70005
_PLACES = {
    _NAME: "{{ .Release.Name }}",
    _IMAGE: "{{ .Values.image }}",
    _URI: "{{ .Values.repository }}",
    _CLAIM: "{{ .Values.claim }}",
    _PATH: "{{ .Values.path }}",
    f"'{_CPUS}'": "{{ .Values.resources.cpus | quote }}",
    f"{_GIBIBYTES}Gi": "{{ .Values.resources.memory }}",
    f"nvidia.com/gpu: {_GPUS}": "nvidia.com/gpu: {{ .Values.resources.gpus }}",
    f"maxReplicas: {_REPLICAS}": "maxReplicas: {{ .Values.maxReplicas }}",
    f"maxReplicaCount: {_REPLICAS}": "maxReplicaCount: {{ .Values.maxReplicas }}",
    f"'{_RATE}'": "{{ .Values.ratePerPod | quote }}",
    "http://prometheus.monitoring.svc:9090": "{{ .Values.prometheus }}",
}
_CONDITIONS = {
    "deployment.yaml": "not .Values.kserve",
    "inference-service.yaml": ".Values.kserve",
    "hpa.yaml": 'and (not .Values.kserve) (eq .Values.autoscaler "hpa")',
    "keda.yaml": 'and (not .Values.kserve) (eq .Values.autoscaler "keda")',
}


def yaml_of(manifests: list[Manifest]) -> str:
    return yaml.safe_dump_all(manifests, sort_keys=False, width=1000)


def chart(serving: Serving) -> dict[str, str]:
    """The chart's files by their paths in it; its values are those of ``serving``."""
    gibibytes = serving.resources.memory >> 30
    values = {
        "image": serving.image,
        **_repository(serving),
        "ratePerPod": f"{serving.rate:g}",
        "maxReplicas": serving.most_replicas,
        "resources": {
            "cpus": serving.resources.cpus,
            "memory": f"{gibibytes}Gi",
            "gpus": serving.resources.gpus,
        },
        "autoscaler": "none",
        "prometheus": "http://prometheus.monitoring.svc:9090",
        "kserve": False,
    }
    about = {
        "apiVersion": "v2",
        "name": serving.object,
        "description": f"Triton with {serving.name}, as tuner tuned it",
        "type": "application",
        "version": "0.1.0",
        "appVersion": __version__,
    }
    placeholders = _with_placeholders(serving)
    files = {"Chart.yaml": yaml_of([about]), "values.yaml": _values(values)}
    for name, manifests in placeholders.manifests().items():
        text = yaml_of(manifests)
        for placeholder, value in _PLACES.items():
            text = text.replace(placeholder, value)
        files[f"templates/{name}"] = f"{{{{- if {_CONDITIONS[name]} }}}}\n{text}{{{{- end }}}}\n"
    return files


def _with_placeholders(serving: Serving) -> Serving:
    resources = Resources(
        _CPUS,
        _GIBIBYTES << 30,
        _GPUS if serving.resources.gpus else 0,
        serving.resources.shared_memory,
    )
    is_claim = "claim" in _repository(serving)
    return replace(
        serving,
        name=_NAME,
        image=_IMAGE,
        uri=f"pvc://{_CLAIM}/{_PATH}" if is_claim else _URI,
        rate=float(_RATE),
        resources=resources,
        most_replicas=_REPLICAS,
    )


def _repository(serving: Serving) -> dict[str, str]:
    """Where it lies, as values."""
    if not serving.uri.startswith("pvc://"):
        return {"repository": serving.uri}
    claim, _, path = serving.uri.removeprefix("pvc://").partition("/")
    return {"claim": claim, "path": path}


def _values(values: Manifest) -> str:
    comments = {
        "repository": "where the winner's model repository lies",
        "claim": "the claim with the winner's model repository, and its path there",
        "ratePerPod": "requests/s that tuner recommends for one pod: what the autoscaler aims at",
        "autoscaler": "none, hpa or keda",
        "prometheus": "KEDA asks it",
        "kserve": "an InferenceService in place of a Deployment",
    }
    lines = []
    for name, value in values.items():
        if name in comments:
            lines.append(f"# {comments[name]}")
        lines.append(yaml.safe_dump({name: value}, sort_keys=False).rstrip())
    return "\n".join(lines) + "\n"
