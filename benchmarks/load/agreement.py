"""tuner's closed loop against perf_analyzer's on the same server."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from statistics import median

import psutil

from benchmarks.load.bench import Row, server, summary, use_perf_analyzer
from tuner.deployments.triton import RunningTriton
from tuner.load.generator import LoadEngine, LoadGenerator
from tuner.load.perf_analyzer import PerfAnalyzer
from tuner.load.target import Transport
from tuner.stats.estimators import quantile

SECONDS, CONCURRENCIES = 5.0, (8, 16)
MODELS = ("emulated_gpu", "text_classifier")
KEYS = ("throughput", "p50_ms", "p99_ms", "batch")


def measure(rounds: int) -> tuple[dict[str, Row], list[str]]:
    version = use_perf_analyzer()
    rows: dict[str, Row] = {}
    for model in MODELS:
        with ExitStack() as stack:
            running = stack.enter_context(server(model, cheap=False))[Transport.HTTP]
            stack.enter_context(_cores_apart())
            engines: dict[str, LoadEngine] = {
                "tuner": stack.enter_context(LoadGenerator()),
                "perf_analyzer": stack.enter_context(PerfAnalyzer()),
            }
            for engine in engines.values():
                engine.aim(running.target)
                engine.closed_loop(CONCURRENCIES[0], 0.6, 5.0)
            for concurrency in CONCURRENCIES:
                found = _by_turns(engines, running, concurrency, rounds)
                rows |= _rows(f"{model}, {concurrency} at a time", found)
    return rows, [
        f"perf_analyzer {version}, --async, HTTP, {rounds} rounds of {SECONDS:g} s in turn, the "
        "same pool of inputs; both read from raw records in the same way, throughput after the "
        "first 0.3 s; ratios are medians over the rounds",
        "the server has the first core and the client the second: on shared cores, what a client "
        "costs is missing to the server, and the cheaper client sees the faster server",
        "where the mean batch differs, so does what the server did: in a closed loop, how fast "
        "replies turn into new requests decides how many of them meet in a batch",
    ]


Found = dict[str, list[tuple[float, ...]]]


def _by_turns(
    engines: dict[str, LoadEngine], running: RunningTriton, concurrency: int, rounds: int
) -> Found:
    found: Found = {name: [] for name in engines}
    for number in range(rounds):
        for name in list(engines) if number % 2 else list(reversed(engines)):
            found[name].append(_once(engines[name], running, concurrency))
    return found


def _rows(label: str, found: Found) -> dict[str, Row]:
    rows: dict[str, Row] = {}
    for name, values in found.items():
        columns = zip(KEYS, zip(*values, strict=True), strict=True)
        rows[f"{label}: {name}"] = {key: summary(list(each), 2) for key, each in columns}
    pairs = zip(found["tuner"], found["perf_analyzer"], strict=True)
    ratios = zip(*([a / b for a, b in zip(*pair, strict=True)] for pair in pairs), strict=True)
    rows[f"{label}: tuner / perf_analyzer"] = {
        key: {"median": round(median(each), 3)} for key, each in zip(KEYS, ratios, strict=True)
    }
    return rows


@contextmanager
def _cores_apart() -> Iterator[None]:
    """The server that this process has started on one half of the cores, all that is started from
    here on on the other.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise RuntimeError("this takes two cores")
    half = len(cores) // 2
    for process in psutil.Process().children(recursive=True):
        for thread in process.threads():
            os.sched_setaffinity(thread.id, cores[:half])
    os.sched_setaffinity(0, cores[half:])
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def _once(engine: LoadEngine, running: RunningTriton, concurrency: int) -> tuple[float, ...]:
    """Throughput (requests/s), p50 and p99 (ms) of one round, less its beginning and its end; and
    the mean batch of all of it.
    """
    before = running.statistics()
    samples = engine.closed_loop(concurrency, SECONDS, 5.0).samples
    end = float(samples.intended[-1]) - 0.1
    part = samples.between(0.3, end)
    p50, p99 = quantile(part.latency, 0.5), quantile(part.latency, 0.99)
    assert p50 is not None
    assert p99 is not None
    times = running.times_since(before)
    assert times is not None
    return len(part) / (end - 0.3), 1e3 * p50, 1e3 * p99, times.mean_batch or 1.0
