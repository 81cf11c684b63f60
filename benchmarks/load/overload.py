"""FastAPI and the gateway at twice what they can serve, for minutes, and after it.

The service takes no more requests at a time than it can answer within half of the SLA's limit
(Little's law), as docs/guides/serve.md advises. A round is five minutes of it.
"""

import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.load.bench import ROOT, Row, summary
from tuner.commands.audience import Silent
from tuner.deployments.payload import Payload
from tuner.deployments.service import RunningService, ServiceDeployment
from tuner.deployments.subjects import ConfiguredTriton, DeploymentSet, Subject
from tuner.deployments.triton import FixedInputs, RunningTriton, TritonDeployment
from tuner.goals.sla import Sla
from tuner.load.arrivals import Arrivals, schedule
from tuner.load.generator import LoadGenerator
from tuner.load.target import Target, body_target
from tuner.load.transport import Transport
from tuner.measurement.capacity import find_capacity
from tuner.measurement.draft import Draft
from tuner.measurement.evaluate import seeds_of
from tuner.measurement.session import Conditions, Sessions
from tuner.measurement.settings import EFFORTS, SEARCH_PROBE, START
from tuner.model.config import parse_config, read_config
from tuner.model.signature import Signature
from tuner.records.run import Run
from tuner.servers.local import LocalLauncher
from tuner.servers.service import ServiceSpec, tuner_command

SLA, LIMIT = "p99<50ms", 0.05
SERVICES = {"FastAPI, text_classifier": "text_classifier", "gateway, emulated_gpu": "emulated_gpu"}
OVER = 2.0
AFTERWARDS = 0.7
"""Of the capacity: what is sent while it recovers."""
_WINDOW, _PIECES, _PIECE = 0.5, 10, 30.0
_DRAIN = 5.0
_OF_LIMIT = 0.5
_RECOVERED = 0.9
"""Of the requests of a window: answered within the limit."""


@dataclass(frozen=True)
class Bench:
    """One service of a model, started with options of its own."""

    model: Path
    triton: TritonDeployment
    payload: Payload

    def deployment(self, is_gateway: bool, *options: str) -> ServiceDeployment:
        behind = ConfiguredTriton(self.triton, None) if is_gateway else None
        bodies = self.payload.json()

        def specify(triton: RunningTriton | None, log: Path) -> ServiceSpec:
            def command(port: int) -> tuple[str, ...]:
                where = ("--host", "127.0.0.1", "--port", str(port), *self._processing())
                if triton is None:
                    return tuner_command(
                        "serve", "fastapi", str(self.model), "--threads", "1", *where, *options
                    )
                address = str(triton.server.endpoints.grpc)
                return tuner_command(
                    "serve", "gateway", self.model.name, "--triton", address, *where, *options
                )

            return ServiceSpec(command, log)

        def aim(address: str) -> Target:
            return body_target(address, "/predict", bodies)

        config = parse_config("", "a service") if behind is None else behind.config
        return ServiceDeployment(config, specify, aim, behind=behind)

    def _processing(self) -> tuple[str, ...]:
        own = self.model / "processing.py"
        return ("--processing", str(own)) if own.is_file() else ()


def measure(rounds: int) -> tuple[dict[str, Row], list[str]]:
    rows = {}
    for label, name in SERVICES.items():
        with tempfile.TemporaryDirectory() as folder, LoadGenerator() as generator:
            model = Path(
                shutil.copytree(ROOT / "model_repository" / name, Path(folder) / "models" / name)
            )
            with LocalLauncher() as launcher:
                bench = _bench(model, launcher)
                rows[label] = _overloaded(
                    bench, "gateway" in label, Path(folder), generator, rounds
                )
        print(label, rows[label], flush=True)
    return rows, [
        f"capacity is within {SLA}. {OVER:g} times it is sent for {rounds * _PIECES * _PIECE:g} s, "
        f"in pieces of {_PIECE:g} s",
        "goodput is what is answered within the limit, over the capacity; p99 is of what was not "
        "rejected",
        f"recovery is from the end of the overload until the last window of {_WINDOW:g} s, with "
        f"{AFTERWARDS:g} of the capacity sent, in which more than {1 - _RECOVERED:.0%} of the "
        "requests were late or rejected",
        "memory is that of all processes of the service, first and last piece",
    ]


def _bench(model: Path, launcher: LocalLauncher) -> Bench:
    config = read_config(model)
    payload = Payload.of(model, Signature.of_config(config))
    inputs = FixedInputs(payload.pool)
    triton = TritonDeployment(launcher, model, config, Transport.GRPC, inputs, opens="model")
    return Bench(model, triton, payload)


def _overloaded(
    bench: Bench, is_gateway: bool, folder: Path, generator: LoadGenerator, rounds: int
) -> Row:
    capacity = _capacity(bench.deployment(is_gateway), folder, generator)
    at_once = max(1, round(_OF_LIMIT * LIMIT * capacity))
    bound = ("--max-in-flight", str(at_once)) if is_gateway else ("--queue", str(at_once - 1))
    bounded = bench.deployment(is_gateway, *bound)
    with bounded.start(folder / "overloaded.log") as running:
        generator.aim(running.target)
        generator.closed_loop(4, 2.0, _DRAIN)
        memory, goodputs, latencies = [_memory(running)], [], []
        for number in range(rounds * _PIECES):
            times = schedule(
                Arrivals.POISSON, OVER * capacity, _PIECE, np.random.default_rng(number)
            )
            samples = generator.open_loop(times, _DRAIN).samples
            ended = time.monotonic()
            good = samples.latency[samples.ok]
            goodputs.append(float((good <= LIMIT).sum()) / _PIECE / capacity)
            latencies.append(float(np.quantile(good, 0.99)) if len(good) else None)
            memory.append(_memory(running))
        recovery = _recovery(generator, AFTERWARDS * capacity, ended)
    return {
        "capacity": round(capacity),
        "at_once": at_once,
        "goodput": summary([100 * each for each in goodputs], 1),
        "p99_ms": summary([1e3 * each for each in latencies if each is not None], 1),
        "recovery": round(recovery, 1),
        "memory_before": memory[1],
        "memory_after": memory[-1],
    }


def _capacity(deployment: ServiceDeployment, folder: Path, generator: LoadGenerator) -> float:
    """Requests/s of a server that takes all it gets."""
    conditions = Conditions(Sla.parse(SLA), Arrivals.POISSON, verification="none")
    run = Run.create(folder / "run")
    several = DeploymentSet({"service": deployment})
    sessions = Sessions(several, generator, conditions, run, Silent(), keeps_servers=False)
    subject = Subject(0, deployment="service")
    draft = Draft(subject, "measure", "", seeds_of(0, subject, "measure", 0))
    with sessions.open(draft) as session:
        session.unloaded()
        session.warm_up()
        probe: Callable[[float], object] = lambda r: session.probe(r, SEARCH_PROBE)  # noqa: E731
        found = find_capacity(probe, START.of_saturation * session.saturation, EFFORTS.measure)
    sessions.close()
    if found.rate is None:
        raise SystemExit("it meets the SLA at no rate")
    return float(found.rate)


def _recovery(generator: LoadGenerator, rate: float, since: float) -> float:
    """Seconds from ``since`` until all is well; infinite where it never is within 20 s."""
    times = schedule(Arrivals.POISSON, rate, 20.0, np.random.default_rng(99))
    began = time.monotonic()
    samples = generator.open_loop(times, _DRAIN).samples
    bad = samples.intended[samples.latency > LIMIT]
    windows, counts = np.unique((bad // _WINDOW).astype(int), return_counts=True)
    sent = np.bincount((samples.intended // _WINDOW).astype(int))
    late = [w for w, n in zip(windows, counts, strict=True) if n > (1 - _RECOVERED) * sent[w]]
    if not late:
        return began - since
    last = (max(late) + 1) * _WINDOW
    return float("inf") if last >= 20.0 else began - since + last


def _memory(running: RunningService) -> float | None:
    usage = running.server.usage() if running.server is not None else None
    return None if usage is None or usage.memory is None else round(usage.memory / 2**20, 1)
