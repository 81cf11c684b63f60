"""A run from its experiment to its report: what the commands ``search`` and ``measure`` do."""

import hashlib
import shutil
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from tuner.commands.export import export_winner
from tuner.commands.workplace import (
    described,
    fresh_folder,
    notes_on,
    open_resources,
    relative_path,
    run_metadata,
)
from tuner.deployments.triton import Inputs, TritonDeployment
from tuner.errors import RunError, SimulationError, StorageError, UsageError
from tuner.experiment import Experiment, parse_shape
from tuner.goals.constraints import parse_constraints
from tuner.goals.sla import Sla
from tuner.load import target
from tuner.load.arrivals import CLOSED, Arrivals
from tuner.load.batches import BatchMix
from tuner.load.generator import LoadEngine
from tuner.measure.draft import Subject
from tuner.measure.evaluate import Evaluator, Progress
from tuner.measure.evaluate_cost import CostEvaluator
from tuner.model.config import check_config, fit_space, own_settings, read_config, render
from tuner.model.space import Candidate, SearchSpace, Value, check_settings
from tuner.model.space_file import load_space
from tuner.records.results import Evaluation, Window, best
from tuner.records.run import Run
from tuner.report.page import write_report
from tuner.search.storage import hide_password, is_finished
from tuner.search.study import Budget, Study
from tuner.search.suggestion import first_ideas
from tuner.servers.address import attach
from tuner.servers.base import Endpoints, Launcher
from tuner.servers.gpu import Gpus
from tuner.simulator import is_available

if TYPE_CHECKING:
    from tuner.search.strategy import Strategy

_FEW = 3


class Audience(Progress, Protocol):
    """Who is told what happens; ``notes`` say what limits the worth of all that follows."""

    def begins(self, run: Run, about: str, resumed: int, notes: list[str]) -> None: ...

    def evaluated(self, evaluation: Evaluation) -> None: ...

    def search_ended(self, reason: str, confirms: bool) -> None: ...

    def noted(self, note: str) -> None:
        """What goes otherwise than planned."""


@dataclass(frozen=True)
class Plan:
    """An experiment with its model read and its space fitted to it."""

    experiment: Experiment
    config: Any
    space: SearchSpace
    own: dict[str, Value]
    endpoints: Endpoints | None = None
    """Of the server to attach to."""

    @classmethod
    def of(cls, experiment: Experiment) -> "Plan":
        if experiment.load_engine == "perf_analyzer" and experiment.shared_memory != "none":
            raise UsageError("--shared-memory goes with --load-engine tuner, not perf_analyzer")
        endpoints = _endpoints(experiment)
        config = read_config(experiment.model)
        space = fit_space(load_space(experiment.space), config)
        return cls(experiment, config, space, own_settings(space, config), endpoints)

    def identity(self, command: str) -> dict[str, Any]:
        """What must be the same for a run of that command to be resumed."""
        fields = {"kind": command, **self.experiment.identity()}
        fields["model"] = str(relative_path(self.experiment.model))
        if self.experiment.storage is not None:
            fields["storage"] = hide_password(self.experiment.storage)
        config = self.config.SerializeToString(deterministic=True)
        return {
            **fields,
            "space": self.space.model_dump(mode="json", exclude_none=True),
            "config_sha256": hashlib.sha256(config).hexdigest(),
        }


def _endpoints(experiment: Experiment) -> Endpoints | None:
    """Those to attach to, if so; UsageError where options do not go together."""
    security = experiment.security()
    if not experiment.attaches or experiment.url is None:
        return None
    endpoints = attach(experiment.url, experiment.grpc_url, security)
    if experiment.load_engine == "perf_analyzer" and (endpoints.tls or security.headers):
        raise UsageError(
            "TLS, --header and --token-env go with --load-engine tuner, not perf_analyzer: secrets "
            "on its command line could be seen by all users of this machine"
        )
    return endpoints


def search(
    plan: Plan, output: Path, name: str | None, command: str, audience: Audience
) -> tuple[Run, str]:
    """Run or resume a search; the run's folder, and why the search ended.

    Whatever ends it (also Ctrl-C), a report and the best so far are left behind.
    """
    experiment = plan.experiment
    if experiment.rate is not None and experiment.minimize is None:
        raise UsageError("--rate goes with --minimize in a search; 'tuner measure' judges a rate")
    experiment.objective()
    confirms = experiment.confirm != "none"
    known = _learned_before(plan)
    with open_resources(experiment, plan.endpoints) as (launcher, generator, gpus, kind):
        identity = plan.identity("search")
        run, resumed = _open_run(output, name, identity, experiment)
        notes = notes_on(plan.endpoints, gpus)
        if experiment.sampler == "simulation" and not is_available():
            notes.append("numba is not installed: nothing is simulated, Optuna's TPE chooses")
        strategy = _strategy(plan, gpus)
        if strategy is None and experiment.warm_start is not None:
            notes.append("nothing is simulated in this search, so --warm-start changes nothing")
        if not resumed:
            about = run_metadata(command, launcher, gpus, notes, experiment)
            Run.create(run.folder, {**identity, **about})
            if not run.lock():
                raise StorageError(f"another tuner is at work on {run.folder}")
        seen = run.windows()
        run.append_windows([window for window in known if window not in seen])
        audience.begins(
            run,
            described(kind, launcher, experiment),
            len(run.evaluations()),
            notes,
        )
        evaluator = _evaluator(plan, launcher, generator, gpus, run, audience)
        study = Study(
            run,
            plan.space,
            plan.own,
            evaluator,
            experiment.seed,
            experiment.storage,
            strategy,
            experiment.sampler,
            calibrated=bool(known),
            minimizes=experiment.minimize is not None,
            note=audience.noted,
        )
        budget = Budget(experiment.trials, experiment.timeout, confirms, experiment.until)
        try:
            ended = study.search(budget, audience.evaluated)
            reason = ended.value
            run.write_outcome(study.outcome(ended))
            audience.search_ended(reason, confirms and study.has_found())
            if confirms:
                study.confirm(audience.evaluated)
            study.finish(reason)
        finally:
            evaluator.close()
            conclude(run, experiment.model)
            run.unlock()
    return run, reason


def _limits(experiment: Experiment, gpus: Gpus) -> dict[str, float]:
    """Bytes that a candidate may use: what constraints allow, and what the GPUs have."""
    sizes = [gpu.memory for gpu in gpus.devices]
    known = [size for size in sizes if size]
    found: dict[str, float] = {"gpu_memory": min(known)} if known else {}
    for text in experiment.constraints:
        for each in parse_constraints(text):
            if each.name in ("memory", "gpu_memory"):
                found[each.name] = min(each.limit, found.get(each.name, each.limit))
    return found


def _learned_before(plan: Plan) -> list[Window]:
    """The windows of the run to start from; RunError where it knows nothing of this model."""
    if plan.experiment.warm_start is None:
        return []
    run = Run.open(plan.experiment.warm_start)
    learned, model = run.windows(), Path(str(run.experiment().get("model"))).name
    if model != plan.config.name:
        raise RunError(f"{run.folder} is a run of {model}, and this is {plan.config.name}")
    if not any(window.runs_alone for window in learned):
        raise RunError(f"{run.folder} tells nothing of service times to start from")
    return learned


def _strategy(plan: Plan, gpus: Gpus) -> "Strategy | None":
    """The one that simulates; None where another sampler is wanted, or it would be of no use."""
    experiment = plan.experiment
    if experiment.sampler != "simulation" or experiment.load == CLOSED:
        return None
    if experiment.load_engine != "tuner":
        return None  # perf_analyzer takes seconds for what a calibration asks in moments
    if plan.space.count(limit=_FEW) is not None:
        return None  # to measure all of them takes no longer than to calibrate
    if not is_available():
        return None
    from tuner.search.strategy import (  # it takes its time, and not everyone needs it
        Strategy,
        Workload,
    )

    workload = Workload(
        Sla.parse(experiment.sla),
        Arrivals.parse(experiment.load),
        BatchMix.parse(experiment.batch),
        max(1, len(gpus.devices)),
        _limits(experiment, gpus),
        experiment.objective(),
    )
    try:
        return Strategy(
            plan.space,
            workload,
            lambda c: render(plan.config, c),
            experiment.seed,
            first_ideas(plan.space, plan.own),
        )
    except SimulationError:
        return None


def measure(
    plan: Plan,
    changes: dict[str, Value],
    rate: float | None,
    output: Path,
    command: str,
    audience: Audience,
) -> tuple[Run, Evaluation]:
    """Measure one configuration: the model as found, or with some settings changed."""
    experiment = plan.experiment.model_copy(update={"minimize": None, "rate": None})
    plan = replace(plan, experiment=experiment)  # those are a search's
    if rate is not None and experiment.load == "closed":
        raise UsageError("--rate goes with an open loop such as --load poisson, not with closed")
    if rate is not None and experiment.confirm == "none":
        raise UsageError("--rate asks for a verdict on a rate, and --confirm none for none")
    check_settings(changes)
    candidate = Candidate.of({**plan.own, **changes})
    check_config(render(plan.config, candidate), "with --set")
    with open_resources(experiment, plan.endpoints) as (launcher, generator, gpus, kind):
        run = Run(fresh_folder(output, f"{experiment.model.name}-measure"))
        notes = notes_on(plan.endpoints, gpus)
        about = run_metadata(command, launcher, gpus, notes, experiment)
        Run.create(run.folder, {**plan.identity("measure"), **about})
        audience.begins(run, described(kind, launcher, experiment), 0, notes)
        evaluator = _evaluator(plan, launcher, generator, gpus, run, audience)
        evaluation = evaluator.measure(Subject(0, candidate, baseline=not changes), rate)
        run.append(evaluation)
        audience.evaluated(evaluation)
        write_report(run)
    return run, evaluation


def conclude(run: Run, model: Path) -> None:
    """Leave what can be had from the records: the winner's repository, and the report."""
    evaluations = run.evaluations()
    if not evaluations:
        return
    write_report(run)
    if best(evaluations) is not None:
        export_winner(run, model, run.winner)
    elif (run.winner / "manifest.json").is_file():  # an earlier session's, refuted since
        shutil.rmtree(run.winner)


def _evaluator(
    plan: Plan,
    launcher: Launcher,
    generator: LoadEngine,
    gpus: Gpus,
    run: Run,
    audience: Audience,
) -> Evaluator:
    experiment = plan.experiment
    inputs = Inputs(
        experiment.seed,
        dict(map(parse_shape, experiment.shapes)),
        experiment.input_data,
        BatchMix.parse(experiment.batch),
    )
    deployment = TritonDeployment(
        launcher,
        experiment.model,
        plan.config,
        target.Transport(experiment.protocol),
        inputs,
        experiment.startup_timeout,
        gpus,
        experiment.shared_memory == "system",
    )
    load: Arrivals | Literal["closed"] = (
        "closed" if experiment.load == CLOSED else Arrivals.parse(experiment.load)
    )
    objective = experiment.objective()
    make = Evaluator if objective is None else partial(CostEvaluator, objective)
    return make(
        deployment,
        generator,
        Sla.parse(experiment.sla),
        load,
        run,
        experiment.seed,
        audience,
        experiment.confirm,
        tuple(each for text in experiment.constraints for each in parse_constraints(text)),
        experiment.relaunch,
    )


def _open_run(
    output: Path, name: str | None, identity: dict[str, Any], experiment: Experiment
) -> tuple[Run, bool]:
    """The run to go on with, and True; or a new one, and False.

    A run is resumed if it was made by the same experiment and did not come to its end.
    """
    folders = [output / name] if name else sorted(output.glob("*/"), reverse=True)
    for folder in folders:
        run = Run(folder)
        if not run.experiment_file.is_file():
            continue
        try:
            found = run.experiment()
        except RunError:
            if name:
                raise
            continue  # a damaged neighbour is no reason not to search
        same = {key: found.get(key) for key in identity} == identity
        if same and not run.lock():
            if name:
                raise StorageError(f"another tuner is at work on {folder}")
            continue
        if same and not is_finished(run, experiment.storage):
            _require_headers(run, found, experiment)
            return run, True
        run.unlock(finished=True)
        if name:
            raise StorageError(
                f"{folder} holds another run, or one that is finished; choose another --run name"
            )
    if name:
        return Run(output / name), False
    return Run(fresh_folder(output, experiment.model.name)), False


def _require_headers(run: Run, found: dict[str, Any], experiment: Experiment) -> None:
    """RunError where the run to go on with was let in by headers that are missing now."""
    given = {name.lower() for name in experiment.security().names}
    missing = [name for name in found.get("headers", ()) if str(name).lower() not in given]
    if missing:
        option = f"--header '{missing[0]}: ...'"
        if found.get("token_env"):
            option += f" or --token-env {found['token_env']}"
        run.unlock()
        raise RunError(
            f"{run.folder} sent the header {missing[0]} and would be resumed; values are not "
            f"recorded, so give it again with {option}, or choose another --run name"
        )
