"""The bare model in a tight loop, one batch at a time, without a server."""

import statistics
import time
from typing import Any

import torch

from benchmarks.gpu.models import Workbench
from benchmarks.gpu.network import modules
from tuner.records.results import GpuReading
from tuner.servers.gpu import Gpus
from tuner.servers.gpu_watch import GpuWatch

REPEATS = 5


def flops_per_item(model: str, options: dict[str, str], length: int) -> float | None:
    """Multiplications and additions of one forward pass; of BERT's matrix products alone."""
    if model != "bert_base":
        return None
    hidden, inner = int(options["hidden"]), int(options["intermediate"])
    layer = 2 * length * (4 * hidden**2 + 2 * hidden * inner) + 4 * length**2 * hidden
    return float(int(options["layers"]) * layer)


def measure(bench: Workbench, model: str, how: str, sizes: list[int]) -> dict[str, Any]:
    """Throughput (items/s) by batch size: median of five, from host memory back to host memory."""
    options, dims, outputs = bench.options(model), bench.dims(model), bench.outputs(model)
    network, execution = modules(bench.repository / model / "1")
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    began = time.monotonic()
    runner = execution.Runner(
        network.build(options, outputs, None),
        lambda rows, generator: network.example(rows, dims, generator),
        max(sizes),
        device,
        how,
    )
    ready = time.monotonic() - began
    slot = runner.slot()
    inputs = network.example(max(sizes), dims, torch.Generator().manual_seed(1))
    for room, x in zip(slot.inputs, inputs, strict=True):
        room[:] = x.numpy()
    table: dict[int, float] = {}
    readings: dict[int, GpuReading | None] = {}
    with Gpus("all") as gpus:
        for size in sizes:
            with GpuWatch(gpus, frozenset()) as watch:
                table[size] = _throughput(runner, slot, size, bench.loop_seconds)
                readings[size] = watch.reading()
    best = max(table, key=lambda size: table[size])
    figures: dict[str, Any] = {
        "items_per_second": round(table[best], 1),
        "batch": best,
        "by_batch": {size: round(rate, 1) for size, rate in table.items()},
        "milliseconds_by_batch": {s: round(1e3 * s / rate, 3) for s, rate in table.items()},
        "seconds_to_prepare": round(ready, 1),
        "precision": str(runner.dtype).removeprefix("torch."),
    }
    flops = flops_per_item(model, options, dims[0][-1])
    if flops is not None:
        figures["tflops"] = round(table[best] * flops / 1e12, 2)
    if (reading := readings[best]) is not None:
        figures["gpu"] = reading.model_dump(mode="json")
    return figures


def _throughput(runner: Any, slot: Any, size: int, seconds: float) -> float:
    def loop(length: float) -> float:
        done, began = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - began) < length:
            runner.run(slot, size)
            done += size
        return done / elapsed

    loop(seconds / 4)
    return statistics.median(loop(seconds / REPEATS) for _ in range(REPEATS))
