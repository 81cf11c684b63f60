"""One evaluation of a model on the embedded Triton."""

from pathlib import Path

from tuner.deployments.subjects import Subject, TritonCandidates
from tuner.deployments.triton import Inputs, TritonDeployment
from tuner.goals.constraints import parse_constraints
from tuner.goals.sla import Sla
from tuner.load.arrivals import Arrivals
from tuner.load.generator import LoadGenerator
from tuner.load.target import Transport
from tuner.measurement.evaluate import Evaluator
from tuner.measurement.session import Conditions, Progress
from tuner.model.config import read_config
from tuner.model.space import Candidate
from tuner.records.results import Evaluation, ProbeRecord
from tuner.records.run import Run
from tuner.servers.local import LocalLauncher


class Silent:
    """Progress that nobody is told of."""

    def launching(self, *_: object) -> None: ...

    def turning(self, *_: object) -> None: ...

    def leaving(self, *_: object) -> None: ...

    def verifying(self, *_: object) -> None: ...

    def probing(self, what: str, rate: float | None) -> None: ...

    def probed(self, record: ProbeRecord) -> None: ...

    def noted(self, note: str) -> None: ...


def measure(
    model: Path,
    generator: LoadGenerator,
    folder: Path,
    sla: str,
    candidate: Candidate,
    rate: float | None = None,
    protocol: Transport = Transport.HTTP,
    progress: Progress | None = None,
    constraints: str | None = None,
    proof: str = "sequential",
) -> Evaluation:
    """The verdict at a rate, or the capacity where there is none; records go under ``folder``."""
    run = Run.create(folder / "run")
    with LocalLauncher() as launcher:
        config = read_config(model)
        deployment = TritonDeployment(launcher, model, config, protocol, Inputs(), 60.0)
        evaluator = Evaluator(
            TritonCandidates(deployment),
            generator,
            Conditions(
                Sla.parse(sla),
                Arrivals.POISSON,
                parse_constraints(constraints) if constraints else (),
                proof,
            ),
            run,
            1,
            progress or Silent(),
        )
        return evaluator.measure(Subject(0, candidate), rate)
