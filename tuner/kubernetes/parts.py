"""What all pods share: names, resources, security, volumes."""

import math
import re
from dataclasses import dataclass
from typing import Any

from tuner.errors import UsageError
from tuner.text import shown

Manifest = dict[str, Any]
USER = 1000
"""Any user other than root will do; a cluster may set its own."""
_GIB = 1 << 30
_LONGEST_NAME = 50
"""Characters: 63 are allowed, and suffixes follow."""


def object_name(text: str) -> str:
    """As Kubernetes names objects: ``text_classifier`` is ``text-classifier``."""
    name = re.sub(r"[^a-z0-9-]+", "-", text.lower()).strip("-")[:_LONGEST_NAME].strip("-")
    if not name:
        raise UsageError(f"{shown(text)} leaves nothing of a Kubernetes name; use letters")
    return name


@dataclass(frozen=True)
class Resources:
    """Of a container: whole ``cpus``, ``memory`` and ``shared_memory`` (of /dev/shm, part of it) in
    bytes, and ``gpus``. Requests equal limits, so that the pod has the quality of service
    Guaranteed: a server that is throttled keeps no SLA.
    """

    cpus: int
    memory: int
    gpus: int = 0
    shared_memory: int = _GIB

    @classmethod
    def for_use(cls, cores: float, peak: int, gpus: int = 0) -> "Resources":
        """For a server that was seen to use so many cores, and so many bytes at most: with a fifth
        more cores and half more memory, in whole cores and GiB, since a pod that exceeds its memory
        is killed.
        """
        shared = _GIB
        memory = math.ceil((1.5 * peak + shared) / _GIB) * _GIB
        return cls(max(1, math.ceil(1.2 * cores)), memory, gpus, shared)

    def manifest(self) -> Manifest:
        amounts: Manifest = {"cpu": str(self.cpus), "memory": gibibytes(self.memory)}
        if self.gpus:
            amounts["nvidia.com/gpu"] = self.gpus
        return {"requests": dict(amounts), "limits": dict(amounts)}


def gibibytes(size: int) -> str:
    return f"{max(1, math.ceil(size / _GIB))}Gi"


def pod_security() -> Manifest:
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> Manifest:
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def scratch_volumes(shared_memory: int) -> tuple[list[Manifest], list[Manifest]]:
    """Volumes and their mounts: /tmp, and /dev/shm, through which Triton talks to its Python
    backends, and which has 64 MB otherwise.
    """
    memory = {"medium": "Memory", "sizeLimit": gibibytes(shared_memory)}
    volumes: list[Manifest] = [
        {"name": "tmp", "emptyDir": {}},
        {"name": "shm", "emptyDir": memory},
    ]
    mounts: list[Manifest] = [
        {"name": "tmp", "mountPath": "/tmp"},
        {"name": "shm", "mountPath": "/dev/shm"},
    ]
    return volumes, mounts


def claim_volume(name: str, claim: str, place: str, read_only: bool) -> tuple[Manifest, Manifest]:
    """A volume of a PersistentVolumeClaim and its mount."""
    volume = {"name": name, "persistentVolumeClaim": {"claimName": claim, "readOnly": read_only}}
    return volume, {"name": name, "mountPath": place, "readOnly": read_only}


def labels(name: str, component: str) -> Manifest:
    return {
        "app.kubernetes.io/name": name,
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/managed-by": "tuner",
    }


def metadata(name: str, component: str) -> Manifest:
    return {"name": name, "labels": labels(name, component)}
