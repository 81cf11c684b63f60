"""Manifests of runs for tests."""

from typing import Any

from tuner.records.manifest import (
    MANIFESTS,
    CompareManifest,
    GateManifest,
    MeasureManifest,
    SearchManifest,
)


def make_manifest(
    **changes: Any,
) -> SearchManifest | MeasureManifest | CompareManifest | GateManifest:
    """A search's, with fields of the manifest or of its experiment changed."""
    own = {"kind", "id", "command", "started", "headers", "environment", "space", "compared"}
    own |= {"against", "margin"}
    fields: dict[str, Any] = {
        "kind": "search",
        "space": {"name": "default", "parameters": {"max_batch_size": {"values": [1, 2, 4, 8]}}},
        "config_sha256": "0" * 64,
        "experiment": {
            "model": "model_repository/emulated_gpu",
            "sla": "p99<20ms",
            **{name: value for name, value in changes.items() if name not in own},
        },
    }
    return MANIFESTS.validate_python(
        fields | {name: value for name, value in changes.items() if name in own}
    )
