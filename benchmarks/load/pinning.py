"""Whether cores of their own for server and load generator make capacities repeat better, and what
they cost: two models in their own configuration, all cores shared and divided, interleaved, each on
a fresh server.
"""

import os
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from benchmarks.load.bench import ROOT, Row, summary
from tuner.commands.audience import Silent
from tuner.cores import Cores
from tuner.deployments.subjects import Subject, TritonCandidates
from tuner.deployments.triton import Inputs, TritonDeployment
from tuner.goals.sla import Sla
from tuner.load.arrivals import Arrivals
from tuner.load.generator import LoadGenerator
from tuner.load.target import Transport
from tuner.measurement.evaluate import Evaluator
from tuner.measurement.session import Conditions
from tuner.model.config import fit_space, own_settings, read_config
from tuner.model.space import Candidate
from tuner.model.space_file import load_space
from tuner.records.results import Evaluation
from tuner.records.run import Run
from tuner.servers.local import LocalLauncher

MODELS = {"emulated_gpu": "p99<40ms", "text_classifier": "p99<100ms"}


def divisions() -> dict[str, Cores | None]:
    """All cores shared; and all but one for the server and its stubs, one for the load process."""
    *serving, load = sorted(os.sched_getaffinity(0))
    server = frozenset(serving)
    return {"shared": None, "divided": Cores(server, server, frozenset({load}))}


def measure(rounds: int) -> tuple[dict[str, Row], list[str]]:
    found: dict[str, list[Evaluation]] = {}
    with tempfile.TemporaryDirectory() as name:
        for number in range(rounds):
            for model, sla in MODELS.items():
                for label, cores in divisions().items():
                    folder = Path(name) / f"{model}-{label}-{number}"
                    done = _capacity(folder, model, sla, cores, number)
                    if done.capacity:
                        found.setdefault(f"{model}, {label}", []).append(done)
    return {label: _row(each) for label, each in found.items()}, [
        f"{rounds} capacities of each model in its own configuration, over HTTP and interleaved, "
        "each on a fresh server with fresh arrivals: "
        + ", ".join(f"{model} at {sla}" for model, sla in MODELS.items()),
        "divided: the load process has the last core, the server and its stubs have the others",
    ]


def _capacity(folder: Path, model: str, sla: str, cores: Cores | None, seed: int) -> Evaluation:
    copied = Path(shutil.copytree(ROOT / "model_repository" / model, folder / model))
    with ExitStack() as stack:
        launcher = stack.enter_context(LocalLauncher(cores=cores))
        generator = stack.enter_context(LoadGenerator(cores=cores))
        config = read_config(copied)
        evaluator = Evaluator(
            TritonCandidates(TritonDeployment(launcher, copied, config, Transport.HTTP, Inputs())),
            generator,
            Conditions(Sla.parse(sla), Arrivals.POISSON),
            Run.create(folder / "run"),
            seed,
            Silent(),
        )
        stack.callback(evaluator.close)
        own = own_settings(fit_space(load_space("default"), config), config)
        return evaluator.search(Subject(0, Candidate.of(own), baseline=True), 0.0)


def _row(found: list[Evaluation]) -> Row:
    rates = np.array([e.capacity for e in found])
    cores = [p.host.cpu for e in found for p in e.probes if p.host and p.host.cpu]
    return {
        "capacity": summary(rates.tolist(), 0),
        "cv": round(100 * float(rates.std(ddof=1) / rates.mean()), 2),
        "interval": summary([100 * (e.high - e.low) / e.capacity for e in found]),
        "late_ms": summary([1e3 * max(p.lateness_p99 or 0.0 for p in e.probes) for e in found], 2),
        "client_limited": sum(p.client_limited for e in found for p in e.probes),
        "server_cores": summary(cores, 2),
        "seconds": summary([e.seconds for e in found]),
    }
