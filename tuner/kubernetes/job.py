"""A Job that runs a search with Triton as its child process: no Docker socket, one GPU, no root."""

from collections.abc import Mapping
from dataclasses import dataclass

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

MODELS, RUNS, CONFIG = "/models", "/runs", "/etc/tuner"
"""Where the container has the claims, and the experiment."""
_RUNS_SIZE = "10Gi"
_SEVER = (1, 2)
"""Exit codes after which another attempt would end alike: no candidate meets the SLA, wrong usage.
"""


@dataclass(frozen=True)
class SearchJob:
    """``files`` are ``tuner.yaml`` and what it names, as the container has them in ``CONFIG``.
    ``models`` is the claim with the model repository, ``runs`` the one that keeps the run: a pod
    that starts anew goes on with it.
    """

    name: str
    image: str
    files: Mapping[str, str]
    resources: Resources
    models: str
    runs: str
    deadline: float
    """Seconds, of all attempts."""
    attempts: int = 3

    def manifests(self) -> dict[str, list[Manifest]]:
        """By file name."""
        return {"search-job.yaml": [self._config(), self._claim(), self._job()]}

    @property
    def object(self) -> str:
        return f"{object_name(self.name)}-search"

    def _config(self) -> Manifest:
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": metadata(self.object, "search"),
            "data": dict(self.files),
        }

    def _claim(self) -> Manifest:
        return {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": metadata(self.runs, "search"),
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": _RUNS_SIZE}},
            },
        }

    def _job(self) -> Manifest:
        scratch, mounts = scratch_volumes(self.resources.shared_memory)
        model_volume, model_mount = claim_volume("models", self.models, MODELS, read_only=True)
        run_volume, run_mount = claim_volume("runs", self.runs, RUNS, read_only=False)
        config_mount = {"name": "config", "mountPath": CONFIG, "readOnly": True}
        container: Manifest = {
            "name": "tuner",
            "image": self.image,
            "args": [
                *("tuner", "search", "--config", f"{CONFIG}/tuner.yaml", "--launcher", "local"),
                *("--output", RUNS, "--run", "search", "--quiet"),
            ],
            "workingDir": RUNS,
            "env": [{"name": "HOME", "value": "/tmp"}],
            "resources": self.resources.manifest(),
            "securityContext": container_security(),
            "volumeMounts": [config_mount, model_mount, run_mount, *mounts],
        }
        config_volume = {"name": "config", "configMap": {"name": self.object}}
        fails_for_good = {
            "action": "FailJob",
            "onExitCodes": {"containerName": "tuner", "operator": "In", "values": list(_SEVER)},
        }
        return {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": metadata(self.object, "search"),
            "spec": {
                "backoffLimit": self.attempts,
                "activeDeadlineSeconds": round(self.deadline),
                "podFailurePolicy": {"rules": [fails_for_good]},
                "template": {
                    "metadata": {"labels": labels(self.object, "search")},
                    "spec": {
                        "restartPolicy": "Never",
                        "automountServiceAccountToken": False,
                        "securityContext": pod_security(),
                        "terminationGracePeriodSeconds": 60,
                        "containers": [container],
                        "volumes": [config_volume, model_volume, run_volume, *scratch],
                    },
                },
            },
        }
