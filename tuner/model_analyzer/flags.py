"""Flags that Model Analyzer hands on to perf_analyzer and to Triton, as fields of an experiment."""

from collections.abc import Mapping
from typing import Any

from tuner.model_analyzer.notes import Notes
from tuner.model_analyzer.values import mapping

_MODES = {"local": "local", "docker": "docker", "remote": "attached"}
_NEEDLESS = {
    **dict.fromkeys(
        (
            *("measurement-interval", "measurement-mode", "measurement-request-count"),
            *("stability-percentage", "max-trials", "latency-threshold", "binary-search"),
            *("percentile", "concurrency-range", "request-rate-range", "warmup-request-count"),
            *("num-of-sequences", "max-threads", "async", "sync", "verbose", "extra-verbose"),
            *("string-length", "string-data", "collect-metrics", "metrics-interval"),
        ),
        "tuner plans its probes itself, and ends them once they tell enough",
    ),
    **dict.fromkeys(
        ("service-kind", "model-name", "model-repository", "url", "protocol", "batch-size"),
        "Model Analyzer sets it",
    ),
}
_AUTHORITIES = ("ssl-grpc-root-certifications-file", "ssl-https-ca-certificates-file")
_ENDPOINTS = (
    ("triton_http_endpoint", "url", "localhost:8000"),
    ("triton_grpc_endpoint", "grpc_url", "localhost:8001"),
)
_SIZES = {"b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def load_fields(flags: Mapping[str, Any], notes: Notes) -> dict[str, Any]:
    """Of ``perf_analyzer_flags``."""
    fields: dict[str, Any] = {}
    for name, value in flags.items():
        place = f"perf_analyzer_flags.{name}"
        if name == "shape":
            fields["shapes"] = value if isinstance(value, list) else [value]
        elif name == "input-data" and value not in ("random", "zero"):
            fields["input_data"] = value[0] if isinstance(value, list) and value else value
        elif name == "request-distribution":
            fields["load"] = str(value)
        elif name == "shared-memory":
            fields["shared_memory"] = str(value)
        elif name in _AUTHORITIES:
            fields["tls_ca"] = str(value)
        elif name == "input-data":
            notes.needless(place, "random inputs are the default")
            continue
        elif name in _NEEDLESS:
            notes.needless(place, _NEEDLESS[name])
            continue
        else:
            notes.missing(place, "tuner has no such option")
            continue
        last = next(reversed(fields))
        notes.taken(place, f"{last}: {fields[last]}")
    return fields


def server_fields(settings: Mapping[str, Any], notes: Notes, place: str = "") -> dict[str, Any]:
    """Where servers run, and with which flags; of all models, or those of one at ``place``."""
    fields: dict[str, Any] = {}

    def take(name: str, field: str, value: Any) -> None:
        fields[field] = value
        notes.taken(f"{place}.{name}" if place else name, f"{field}: {value}")

    mode = settings.get("triton_launch_mode")
    if isinstance(mode, str) and mode in _MODES:
        take("triton_launch_mode", "launcher", _MODES[mode])
    elif mode is not None:
        notes.missing("triton_launch_mode", f"{mode}: tuner launches docker, local or attached")
    for name, field, usual in _ENDPOINTS:
        if mode == "remote":
            take(name, field, settings.get(name, usual))
        elif name in settings:
            notes.needless(name, "it goes with the launch mode remote")
    if "triton_docker_image" in settings:
        take("triton_docker_image", "image", settings["triton_docker_image"])
    if "triton_docker_shm_size" in settings:
        take("triton_docker_shm_size", "shm_size", _size(settings["triton_docker_shm_size"]))
    gpus = settings.get("gpus")
    if gpus is not None:
        take("gpus", "gpus", ",".join(map(str, gpus)) if isinstance(gpus, list) else str(gpus))
    flags = mapping(settings.get("triton_server_flags"), "triton_server_flags")
    if flags:
        take("triton_server_flags", "server_args", [_flag(*each) for each in flags.items()])
    variables = mapping(settings.get("triton_server_environment"), "triton_server_environment")
    if variables:
        values = [f"{name}={value}" for name, value in variables.items()]
        take("triton_server_environment", "env", values)
    return fields


def _flag(name: str, value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"--{name.replace('_', '-')}={text}"


def _size(raw: Any) -> Any:
    """Docker's ``1g`` in bytes."""
    text = str(raw).strip().lower().removesuffix("b")
    unit = text[-1:] if text[-1:] in _SIZES else "b"
    number = text.removesuffix(unit)
    return int(number) * _SIZES[unit] if number.isdecimal() else raw
