"""What serves a winner: a Deployment, or KServe's InferenceService, and how it scales."""

from dataclasses import dataclass
from typing import Any

from tuner.errors import UsageError
from tuner.kubernetes.parts import (
    Manifest,
    Resources,
    claim_volume,
    container_security,
    labels,
    metadata,
    object_name,
    pod_security,
    scratch_volumes,
)
from tuner.text import shown

_MODELS = "/models"
_CLAIM = "pvc://"
_HTTP, _GRPC, _METRICS = 8000, 8001, 8002
_KSERVE_HTTP, _KSERVE_GRPC = 8080, 9000
_WINDOW = "1m"
_LOAD_SECONDS = 10
_LOAD_ATTEMPTS = 90
"""A quarter of an hour to load the models, as large ones take."""


@dataclass(frozen=True)
class Serving:
    """``rate`` is what one pod is recommended to serve (requests/s), of all ``models`` that are
    asked together. ``uri`` is where the winner's repository lies: ``pvc://CLAIM/PATH``, or an
    object store that Triton and KServe know.
    """

    name: str
    models: tuple[str, ...]
    image: str
    uri: str
    rate: float
    resources: Resources
    server_args: tuple[str, ...] = ()
    most_replicas: int = 10

    @property
    def object(self) -> str:
        return object_name(self.name)

    def manifests(self) -> dict[str, list[Manifest]]:
        """By file name. Of the two autoscalers, one is to be chosen: HorizontalPodAutoscaler needs
        an adapter for the metric, KEDA asks Prometheus itself.
        """
        return {
            "deployment.yaml": [self._deployment(), self._service()],
            "hpa.yaml": [self._hpa()],
            "keda.yaml": [self._scaled_object()],
            "inference-service.yaml": [self._inference_service()],
        }

    def _repository(self) -> tuple[str, list[Manifest], list[Manifest]]:
        """The repository as Triton's argument, and volumes and mounts for it."""
        if not self.uri.startswith(_CLAIM):
            return self.uri, [], []
        claim, _, path = self.uri.removeprefix(_CLAIM).partition("/")
        if not claim:
            raise UsageError(f"{shown(self.uri)} names no claim; write pvc://CLAIM/PATH")
        volume, mount = claim_volume("models", claim, _MODELS, read_only=True)
        return f"{_MODELS}/{path}".rstrip("/"), [volume], [mount]

    def _deployment(self) -> Manifest:
        repository, volumes, mounts = self._repository()
        scratch, scratch_mounts = scratch_volumes(self.resources.shared_memory)
        container: Manifest = {
            "name": "triton",
            "image": self.image,
            "args": ["tritonserver", f"--model-repository={repository}", *self.server_args],
            "ports": [
                {"name": "http", "containerPort": _HTTP},
                {"name": "grpc", "containerPort": _GRPC},
                {"name": "metrics", "containerPort": _METRICS},
            ],
            "resources": self.resources.manifest(),
            "securityContext": container_security(),
            "startupProbe": {
                **_ready("http"),
                "periodSeconds": _LOAD_SECONDS,
                "failureThreshold": _LOAD_ATTEMPTS,
            },
            "readinessProbe": {**_ready("http"), "periodSeconds": 5},
            "livenessProbe": {
                "httpGet": {"path": "/v2/health/live", "port": "http"},
                "periodSeconds": 10,
                "timeoutSeconds": 5,
                "failureThreshold": 6,
            },
            "volumeMounts": [*mounts, *scratch_mounts],
        }
        annotations = {
            "prometheus.io/scrape": "true",
            "prometheus.io/port": str(_METRICS),
            "prometheus.io/path": "/metrics",
        }
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata(self.object, "server"),
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": labels(self.object, "server")},
                "template": {
                    "metadata": {
                        "labels": labels(self.object, "server"),
                        "annotations": annotations,
                    },
                    "spec": {
                        "automountServiceAccountToken": False,
                        "securityContext": pod_security(),
                        "terminationGracePeriodSeconds": 60,
                        "containers": [container],
                        "volumes": [*volumes, *scratch],
                    },
                },
            },
        }

    def _service(self) -> Manifest:
        ports = (("http", _HTTP), ("grpc", _GRPC), ("metrics", _METRICS))
        return {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata(self.object, "server"),
            "spec": {
                "selector": labels(self.object, "server"),
                "ports": [{"name": n, "port": port, "targetPort": n} for n, port in ports],
            },
        }

    def _target(self) -> Manifest:
        return {"apiVersion": "apps/v1", "kind": "Deployment", "name": self.object}

    def _hpa(self) -> Manifest:
        """Needs an adapter that gives the metric per pod, such as prometheus-adapter with the rate
        of ``nv_inference_request_success`` summed over the models that are asked.
        """
        metric = {
            "type": "Pods",
            "pods": {
                "metric": {"name": "nv_inference_request_success_per_second"},
                "target": {"type": "AverageValue", "averageValue": _quantity(self.rate)},
            },
        }
        return {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": metadata(self.object, "autoscaler"),
            "spec": {
                "scaleTargetRef": self._target(),
                "minReplicas": 1,
                "maxReplicas": self.most_replicas,
                "metrics": [metric],
                "behavior": _behavior(),
            },
        }

    def _scaled_object(self) -> Manifest:
        models = "|".join(self.models)
        pods = f'pod=~"{self.object}-.*"'
        query = f'sum(rate(nv_inference_request_success{{model=~"{models}", {pods}}}[{_WINDOW}]))'
        trigger = {
            "type": "prometheus",
            "metadata": {
                "serverAddress": "http://prometheus.monitoring.svc:9090",
                "query": query,
                "threshold": f"{self.rate:g}",
            },
        }
        return {
            "apiVersion": "keda.sh/v1alpha1",
            "kind": "ScaledObject",
            "metadata": metadata(self.object, "autoscaler"),
            "spec": {
                "scaleTargetRef": {"name": self.object},
                "minReplicaCount": 1,
                "maxReplicaCount": self.most_replicas,
                "advanced": {"horizontalPodAutoscalerConfig": {"behavior": _behavior()}},
                "triggers": [trigger],
            },
        }

    def _inference_service(self) -> Manifest:
        """KServe's Triton runtime has 1 CPU and 2 GiB unless the service says otherwise."""
        arguments = [
            "tritonserver",
            "--model-store=/mnt/models",
            f"--http-port={_KSERVE_HTTP}",
            f"--grpc-port={_KSERVE_GRPC}",
            "--allow-grpc=true",
            "--allow-http=true",
            *self.server_args,
        ]
        model: dict[str, Any] = {
            "modelFormat": {"name": "triton"},
            "storageUri": self.uri,
            "image": self.image,
            "args": arguments[1:],
            "resources": self.resources.manifest(),
        }
        return {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {
                **metadata(self.object, "server"),
                "annotations": {"serving.kserve.io/deploymentMode": "RawDeployment"},
            },
            "spec": {
                "predictor": {
                    "minReplicas": 1,
                    "maxReplicas": self.most_replicas,
                    "model": model,
                }
            },
        }


def _ready(port: str) -> Manifest:
    return {"httpGet": {"path": "/v2/health/ready", "port": port}, "timeoutSeconds": 5}


def _behavior() -> Manifest:
    """Up at once, down slowly: a pod takes time to load, and too few of them keep no SLA."""
    return {
        "scaleUp": {"stabilizationWindowSeconds": 0},
        "scaleDown": {"stabilizationWindowSeconds": 300},
    }


def _quantity(value: float) -> str:
    """As Kubernetes writes numbers: thousandths where it is not whole."""
    return str(round(value)) if value >= 10 else f"{round(1000 * value)}m"
