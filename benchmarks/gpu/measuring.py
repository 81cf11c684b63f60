"""Measures configurations one by one, on a server that is kept where it can be.

Loading a model takes about as long as measuring it. So a configuration is loaded once for all Slas
that it is measured under, and a change of its instances alone is made in place.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from benchmarks.gpu.models import Workbench
from benchmarks.gpu.serve import PIN, STARTUP, WORKERS, Setting, figures, stub_environment
from tuner.commands.workplace import open_resources
from tuner.deployments.base import Running
from tuner.deployments.slot import ServerSlot
from tuner.deployments.subjects import Subject, TritonCandidates
from tuner.deployments.triton import Inputs, TritonDeployment
from tuner.experiment.model import Experiment
from tuner.goals.sla import Sla
from tuner.load.arrivals import Arrivals
from tuner.load.generator import LoadEngine
from tuner.load.target import Transport
from tuner.measurement.evaluate import Evaluator
from tuner.measurement.session import Conditions
from tuner.model.config import own_settings, read_config
from tuner.model.space import Candidate
from tuner.model.space_file import load_space
from tuner.records.results import ProbeRecord
from tuner.records.run import Run

DRY_RATE = 20.0
"""Requests/s that a dry run judges: it looks for no capacity."""


class Printed:
    """One line for each probe."""

    def launching(self, subject: Subject, *_: object) -> None:
        print(f"    {subject.candidate}", flush=True)

    def turning(self, *_: object) -> None: ...

    def probing(self, what: str, rate: float | None) -> None: ...

    def probed(self, record: ProbeRecord) -> None:
        print(f"      {record.purpose} at {record.rate or 0:.0f}/s: {record.outcome}", flush=True)


class KeptServer:
    """Deployments whose server outlives a measurement, for the next one of the same configuration.

    ``close`` stops the server in hand.
    """

    def __init__(self, deployment: TritonDeployment) -> None:
        candidates = TritonCandidates(deployment)
        self._slot = ServerSlot(candidates)
        self.gpu_count = candidates.gpu_count
        self.configs_of = candidates.configs_of
        self.can_change = candidates.can_change
        self.runs_side_by_side = candidates.runs_side_by_side
        self.close = self._slot.close
        self._last_is_fresh = True
        self._running: Running | None = None

    @property
    def is_fresh(self) -> bool:
        """Whether the last server was launched for its configuration."""
        return self._last_is_fresh

    @contextmanager
    def start(self, subject: Subject, log: Path, as_served: bool = True) -> Iterator[Running]:
        before = self._running
        with self._slot.server(subject, log, keep=True) as running:
            self._last_is_fresh, self._running = running is not before, running
            yield running


class Measurer:
    """Measures configurations of one model."""

    def __init__(
        self, bench: Workbench, model: str, kept: KeptServer, generator: LoadEngine
    ) -> None:
        self._bench = bench
        self._model = bench.repository / model
        config = read_config(self._model)
        self._own = own_settings(load_space("pytorch_gpu"), config)
        self._kept = kept
        self._generator = generator

    def measure(self, sla: str, setting: Setting) -> dict[str, Any]:
        """The capacity of a configuration within an Sla such as ``p99<20ms``, as a row."""
        candidate = Candidate.of({**self._own, **setting.changes()})
        run = Run.create(self._bench.folder / "runs" / uuid4().hex[:8])
        evaluator = Evaluator(
            self._kept,
            self._generator,
            Conditions(Sla.parse(sla), Arrivals.parse("poisson"), verification="none"),
            run,
            0,
            Printed(),
        )
        rate = DRY_RATE if self._bench.dry else None
        evaluation = evaluator.measure(Subject(0, candidate), rate)
        shutil.rmtree(run.probes, ignore_errors=True)
        row = figures(evaluation)
        if not self._kept.is_fresh:
            row.pop("launch_seconds", None)  # that of what was measured before
        return row


@contextmanager
def measurer(
    bench: Workbench, model: str, environment: dict[str, str] | None = None
) -> Iterator[Measurer]:
    """A measurer of this model; ``environment`` is the server's, besides what its stub needs."""
    told = {**stub_environment(), **(environment or {})}
    experiment = Experiment.model_validate(
        {
            "model": bench.repository / model,
            "sla": "p99<20ms",
            "launcher": "local",
            "workers": WORKERS,
            "pin": PIN,
            "env": told,
        }
    )
    with open_resources(experiment, None) as (launcher, generator, gpus, _):
        deployment = TritonDeployment(
            launcher,
            experiment.model,
            read_config(experiment.model),
            Transport.HTTP,
            Inputs(file=bench.texts if model == "bert_base" else None),
            STARTUP,
            gpus,
        )
        kept = KeptServer(deployment)
        try:
            yield Measurer(bench, model, kept, generator)
        finally:
            kept.close()
