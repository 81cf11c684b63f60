"""A comparison as ``tuner compare`` leaves it, from queues that are simple enough to compute."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tests.manifests import make_manifest
from tuner.records.comparison import Comparison, Delay, Deployed, Kind, Swap, write_comparison
from tuner.records.results import (
    Evaluation,
    GpuReading,
    HostReading,
    ProbeRecord,
    ServerTimes,
    Stages,
    State,
)
from tuner.records.run import Run

LIMIT = 0.020
MIB = 2**20
EXPERIMENT: dict[str, Any] = {
    "kind": "compare",
    "sla": "p99<20ms",
    "model": "model_repository/text_classifier",
    "command": "tuner compare model_repository/text_classifier --sla-p99 20ms --target-rate 5000",
    "load": "poisson",
    "seed": 7,
    "environment": {
        "tuner": "0.1.0",
        "server": "Triton 2.59.0",
        "python": "3.11.7",
        "processor": "16 × AMD EPYC 9354",
    },
    "compared": {
        "deployments": ["fastapi", "triton"],
        "fastapi_workers": 1,
        "gateway_workers": 1,
        "rounds": 3,
    },
}


@dataclass(frozen=True)
class Shape:
    """How a deployment behaves: ``floor`` is a lone request's latency in seconds, ``inference`` the
    part of it that is computation, ``most`` its highest throughput (requests/s).
    """

    name: str
    title: str
    kind: Kind
    floor: float
    inference: float
    most: float
    cores: float
    memory: int
    sends: Literal["text", "tensors", "own"] = "text"
    tuned: bool = False
    batching: bool = False
    delay: int | None = None
    cold: float = 2.0
    swap: tuple[float, int] = (2.0, 40)
    gpu: float = 0.3
    stages: dict[str, float] = field(default_factory=dict)


_TEXT_STAGES = {"parsing": 0.0004, "tokenising": 0.0003, "serialisation": 0.0002}
SHAPES = (
    Shape(
        "naive",
        "FastAPI as in the document",
        "naive",
        0.0062,
        0.0046,
        118.0,
        2.1,
        612 * MIB,
        cold=4.1,
        swap=(4.4, 231),
        gpu=0.07,
        stages=_TEXT_STAGES,
    ),
    Shape(
        "fastapi",
        "FastAPI",
        "fastapi",
        0.0058,
        0.0045,
        390.0,
        3.4,
        1260 * MIB,
        cold=3.2,
        swap=(3.6, 0),
        gpu=0.19,
        stages=_TEXT_STAGES,
    ),
    Shape(
        "triton",
        "Triton as found",
        "triton",
        0.0098,
        0.0042,
        610.0,
        3.1,
        820 * MIB,
        "tensors",
        batching=True,
        delay=5000,
        swap=(1.1, 0),
        gpu=0.48,
    ),
    Shape(
        "triton-unbatched",
        "Triton without batching",
        "triton",
        0.0049,
        0.0042,
        420.0,
        3.6,
        790 * MIB,
        "tensors",
        tuned=True,
        gpu=0.2,
    ),
    Shape(
        "triton-tuned",
        "Triton tuned",
        "triton",
        0.0053,
        0.0042,
        1480.0,
        3.7,
        840 * MIB,
        "tensors",
        tuned=True,
        batching=True,
        delay=500,
        swap=(0.9, 0),
        gpu=0.74,
    ),
    Shape(
        "hybrid",
        "FastAPI in front of Triton",
        "hybrid",
        0.0071,
        0.0042,
        1130.0,
        4.6,
        1480 * MIB,
        tuned=True,
        batching=True,
        delay=500,
        cold=5.9,
        swap=(1.0, 0),
        gpu=0.6,
        stages=_TEXT_STAGES,
    ),
)


def config_text(shape: Shape) -> str | None:
    if shape.kind not in ("triton", "hybrid"):
        return None
    batching = ""
    if shape.batching:
        batching = f"dynamic_batching {{\n  max_queue_delay_microseconds: {shape.delay}\n}}\n"
    return (
        'name: "text_classifier"\nplatform: "onnxruntime_onnx"\nmax_batch_size: 32\n'
        'input {\n  name: "input_ids"\n  data_type: TYPE_INT64\n  dims: 128\n}\n'
        'output {\n  name: "logits"\n  data_type: TYPE_FP32\n  dims: 2\n}\n'
        f"instance_group {{\n  count: 2\n  kind: KIND_CPU\n}}\n{batching}"
    )


def deployed(shape: Shape, trial: int, **changes: Any) -> Deployed:
    seconds, lost = shape.swap
    swap = Swap(
        how="a second version loaded beside the first",
        rate=60.0,
        seconds=seconds,
        requests=900,
        lost=lost,
        worst=0.4 * seconds,
        usual=shape.floor * 1.6,
    )
    values = {
        "name": shape.name,
        "title": shape.title,
        "kind": shape.kind,
        "what": f"{shape.title}, 2 processes of 2 threads each",
        "sends": shape.sends,
        "trial": trial,
        "tuned": shape.tuned,
        "batching": shape.batching,
        "config": config_text(shape),
        "cold_start": shape.cold,
        "swap": swap,
    }
    return Deployed.model_validate(values | changes)


def probe(
    shape: Shape, rate: float | None, purpose: str = "capacity", gpu: bool = False, **changes: Any
) -> ProbeRecord:
    """At ``rate`` requests/s, or one request at a time for None."""
    load = 0.0 if rate is None else rate / shape.most
    wait = 0.0011 * load / max(1 - load, 0.02)
    mean, n = shape.floor + wait, 4000
    p99 = shape.floor * 1.25 + 4.2 * wait
    served = 1 / mean if rate is None else min(rate, shape.most)
    late = int(n * min(1.0, 0.01 * (p99 / LIMIT) ** 3))
    stages = shape.stages | {"inference": shape.inference, "queue": 0.7 * wait}
    if shape.kind == "hybrid":
        stages |= {"inference": shape.inference + 0.0011 + 0.7 * wait, "queue": 0.0}
    latency = {"p50": mean * 0.95, "p90": mean * 1.1, "p99": p99, "p99.9": p99 * 1.3}
    values: dict[str, Any] = {
        "purpose": "unloaded" if rate is None else purpose,
        "load": "closed" if rate is None else "poisson",
        "rate": rate,
        "concurrency": 1 if rate is None else None,
        "seed": 7,
        "seconds": n / served,
        "n": n,
        "errors": 0,
        "violations": late,
        "latency": latency,
        "latency_interval": {name: (value * 0.97, value * 1.04) for name, value in latency.items()},
        "mean": mean,
        "client_wait": 0.00006,
        "throughput": served,
        "outcome": "met" if p99 < 0.9 * LIMIT else "violated" if p99 > LIMIT else "inconclusive",
        "remedy": None,
        "confidence": 0.99,
        "bound_ratio": p99 / LIMIT,
        "lateness_p99": 1e-4,
        "client_limited": False,
        "stages": Stages(requests=n, seconds=stages) if shape.stages else None,
        "server": _server(shape, wait, n),
        "host": HostReading(
            cpu=0.1 + shape.cores * served / shape.most,
            memory=int(shape.memory * (1 + 0.06 * load)),
            client_cores=0.4,
        ),
        "gpu": _gpu(shape, load) if gpu else None,
    }
    return ProbeRecord.model_validate(values | changes)


def _server(shape: Shape, wait: float, n: int) -> ServerTimes | None:
    if shape.kind not in ("triton", "hybrid"):
        return None
    return ServerTimes(
        requests=n,
        executions=n // 3,
        queue=0.7 * wait,
        compute_input=0.0001,
        compute_infer=shape.inference - 0.0002,
        compute_output=0.0001,
        batches={1: n // 6, 5: n // 6},
    )


def _gpu(shape: Shape, load: float) -> GpuReading:
    return GpuReading(utilisation=min(1.0, shape.gpu * (0.2 + load)), memory=9 * 10**8, power=71.0)


def evaluated(shape: Shape, trial: int, gpu: bool = False, **changes: Any) -> Evaluation:
    """With its capacity where the computed p99 reaches the limit."""
    wait = (LIMIT - 1.25 * shape.floor) / 4.2
    capacity = shape.most * wait / (wait + 0.0011)
    shares = (0.35, 0.5, 0.7, 0.85, 0.95, 1.0, 1.06)
    probes = [probe(shape, None, gpu=gpu)]
    probes += [probe(shape, round(capacity * share, 1), gpu=gpu) for share in shares]
    probes.append(probe(shape, round(0.93 * capacity, 1), "proof", gpu, outcome="met"))
    values: dict[str, Any] = {
        "trial": trial,
        "phase": "confirm",
        "baseline": False,
        "settings": {},
        "deployment": shape.name,
        "config": config_text(shape) or "",
        "state": State.OK,
        "capacity": capacity,
        "low": 0.96 * capacity,
        "high": 1.05 * capacity,
        "recommended": 0.94 * capacity,
        "steepness": 11.0,
        "by_round": ((0.99 * capacity, 0.01), (1.01 * capacity, 0.01), (capacity, 0.01)),
        "bound_ratio": 0.95,
        "started": f"2026-03-01T10:{trial:02d}:00+00:00",
        "seconds": 44.0,
        "launch_seconds": 3.0,
        "probes": tuple(probes),
    }
    return Evaluation.model_validate(values | changes)


def failed(shape: Shape, trial: int, failure: str = "the server died: out of memory") -> Evaluation:
    nothing = {"capacity": None, "low": None, "high": None, "recommended": None, "by_round": ()}
    return evaluated(
        shape, trial, state=State.FAILED, failure=failure, bound_ratio=None, probes=(), **nothing
    )


def missed(shape: Shape, trial: int) -> Evaluation:
    nothing = {"capacity": None, "low": None, "high": None, "recommended": None, "by_round": ()}
    slow = probe(shape, 20.0, outcome="violated", bound_ratio=1.7)
    return evaluated(
        shape, trial, state=State.INFEASIBLE, bound_ratio=1.7, probes=(slow,), **nothing
    )


DELAYS = tuple(
    Delay(delay=delay, capacity=capacity, p50=0.0048 + delay)
    for delay, capacity in (
        (0.0, 1180.0),
        (0.0005, 1210.0),
        (0.001, 1190.0),
        (0.002, 1130.0),
        (0.005, 930.0),
        (0.01, 510.0),
    )
)


def comparison(shapes: tuple[Shape, ...] = SHAPES, **changes: Any) -> Comparison:
    values = {
        "model": "text_classifier",
        "sla": "p99<20ms",
        "load": "poisson",
        "cores": 16,
        "encode_seconds": 0.00021,
        "tuned_run": "reports/text_classifier-20260301-100000",
        "target_rate": 5000.0,
        "deployments": tuple(deployed(shape, i) for i, shape in enumerate(shapes)),
        "delays": DELAYS,
    }
    return Comparison.model_validate(values | changes)


def realistic(gpu: bool = False) -> tuple[Comparison, list[Evaluation]]:
    found = comparison(gpu="NVIDIA L4" if gpu else None)
    return found, [evaluated(shape, i, gpu) for i, shape in enumerate(SHAPES)]


def write_run(
    folder: Path, found: Comparison, evaluations: list[Evaluation], **changes: Any
) -> Run:
    """The folder of a comparison and, if asked, another experiment."""
    run = Run.create(folder, make_manifest(**EXPERIMENT | changes))
    write_comparison(run, found)
    for evaluation in evaluations:
        run.append(evaluation)
    return run
