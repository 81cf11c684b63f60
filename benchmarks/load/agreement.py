"""tuner's closed loop against perf_analyzer's on the same server."""

from contextlib import ExitStack

from benchmarks.load.bench import Row, server, summary, use_perf_analyzer
from tuner.load.generator import LoadEngine, LoadGenerator
from tuner.load.perf_analyzer import PerfAnalyzer
from tuner.load.target import Protocol
from tuner.stats import quantile

SECONDS, CONCURRENCY = 3.0, 8
MODELS = ("emulated_gpu", "text_classifier")


def measure(rounds: int) -> tuple[dict[str, Row], list[str]]:
    version = use_perf_analyzer()
    rows: dict[str, Row] = {}
    for model in MODELS:
        with ExitStack() as stack:
            running = stack.enter_context(server(model, cheap=False))[Protocol.HTTP]
            engines: dict[str, LoadEngine] = {
                "tuner": stack.enter_context(LoadGenerator()),
                "perf_analyzer": stack.enter_context(PerfAnalyzer()),
            }
            found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in engines}
            for engine in engines.values():
                engine.aim(running.target)
                engine.closed_loop(CONCURRENCY, 0.6, 5.0)
            for number in range(rounds):
                turn = list(engines) if number % 2 else list(reversed(engines))
                for name in turn:
                    found[name].append(_once(engines[name]))
        for name, values in found.items():
            rate, p50, p99 = (list(each) for each in zip(*values, strict=True))
            rows[f"{model}, {name}"] = {
                "throughput": summary(rate),
                "p50_ms": summary(p50, 2),
                "p99_ms": summary(p99, 2),
            }
        ours, theirs = rows[f"{model}, tuner"], rows[f"{model}, perf_analyzer"]
        rows[f"{model}, tuner / perf_analyzer"] = {
            key: {"median": round(ours[key]["median"] / theirs[key]["median"], 3)} for key in ours
        }
    return rows, [
        f"perf_analyzer {version}, --async, HTTP, {CONCURRENCY} requests at a time, {rounds} "
        f"rounds of {SECONDS:g} s in turn, the same pool of inputs; both read from raw records "
        "in the same way, throughput after the first 0.3 s"
    ]


def _once(engine: LoadEngine) -> tuple[float, float, float]:
    """Throughput (requests/s), p50 and p99 (ms) of one round, less its beginning and its end."""
    samples = engine.closed_loop(CONCURRENCY, SECONDS, 5.0).samples
    end = float(samples.intended[-1]) - 0.1
    part = samples.between(0.3, end)
    p50, p99 = quantile(part.latency, 0.5), quantile(part.latency, 0.99)
    assert p50 is not None
    assert p99 is not None
    return len(part) / (end - 0.3), 1e3 * p50, 1e3 * p99
