"""A search from its experiment to its report."""

import contextlib
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tuner.commands.audience import Audience
from tuner.commands.completion import completed_plan
from tuner.commands.evaluators import make_evaluator
from tuner.commands.export import export_winner
from tuner.commands.options import SearchOptions
from tuner.commands.plan import Plan
from tuner.commands.preflight import check_gpus, check_plan
from tuner.commands.preparation import MEASURING, SIMULATING, TOGETHER, Preparation
from tuner.commands.results import SearchResult
from tuner.commands.runs import begin_run, fresh_folder, resumable_search
from tuner.commands.workplace import described, notes_on, open_resources, run_metadata
from tuner.deadline import Deadline
from tuner.errors import RunError, SimulationError, TunerError, UsageError
from tuner.experiment.model import Experiment
from tuner.interrupts import Interrupted
from tuner.load.arrivals import CLOSED
from tuner.measurement.evaluate import Evaluator
from tuner.model.config import render
from tuner.optimizer.samplers.choose import make_sampler
from tuner.optimizer.stopping import Budget
from tuner.optimizer.study import Study
from tuner.optimizer.suggestion import first_ideas
from tuner.records.manifest import SearchManifest
from tuner.records.results import Window, best
from tuner.records.run import Run
from tuner.servers.base import Launcher
from tuner.servers.gpu import Gpus
from tuner.simulator import is_available

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

    from tuner.optimizer.samplers.simulation import SimulationSampler
    from tuner.optimizer.simulators import Simulator, Workload

_FEW = 3
"""Candidates: to measure so many takes no longer than to calibrate for a simulation."""


def search(
    plan: Plan,
    options: SearchOptions,
    audience: Audience,
    command: str | None = None,
    began: float | None = None,
) -> SearchResult:
    """Run or resume a search. ``command`` is recorded; it ``began`` now, or before (monotonic
    clock).

    Whatever ends it (also Ctrl-C), a report and the best so far are written.
    """
    experiment, began = plan.experiment, time.monotonic() if began is None else began
    optunas, known = checked(plan)
    together = () if plan.repository is None else TOGETHER
    preparation = Preparation((*SIMULATING, *together) if experiment.simulates else MEASURING)
    with open_resources(experiment, plan.endpoints, preparation) as (
        launcher,
        generator,
        gpus,
        kind,
    ):
        check_gpus(plan, gpus, kind)
        plan = completed_plan(plan, launcher)
        simulation = _simulation(plan, gpus)
        experiment = plan.experiment
        notes = [*notes_on(plan.endpoints, gpus), *_notes_on_simulation(plan, simulation)]
        run = _open_run(plan, options, launcher, gpus, notes, command)
        run.clock.enter("start", began)
        seen = run.windows()
        run.append_windows([window for window in known if window not in seen])
        about = described(kind, launcher, experiment)
        audience.begins(run, about, run.evaluations(), notes)
        deadline = Deadline()
        evaluator = make_evaluator(plan, launcher, generator, gpus, run, audience, deadline)
        study = Study(
            run,
            plan.space,
            plan.own,
            evaluator,
            simulation or optunas,
            experiment.storage,
            experiment.study_name,
            calibrated=bool(known),
            minimizes=experiment.minimize is not None,
            moves=experiment.simulates,
            note=audience.noted,
            deadline=deadline,
            began=began,
        )
        finished = False
        try:
            try:
                run.clock.enter("trials")
                if not run.windows():  # else simulating comes first, and imports all of it itself
                    preparation.start()
                reason = _search_and_confirm(study, experiment, run, audience)
            except BaseException as error:
                with contextlib.suppress(TunerError, OSError):  # what came first is what counts
                    _leave_behind(run, evaluator, experiment.model)
                if isinstance(error, KeyboardInterrupt):
                    raise Interrupted(run.folder) from error
                raise
            _leave_behind(run, evaluator, experiment.model)
            study.finish(reason)
            finished = True
        finally:
            run.unlock(finished)
    return SearchResult(run, reason)


def _leave_behind(run: Run, evaluator: Evaluator, model: Path) -> None:
    """Stop the server in hand, and write what can be had from the records."""
    run.clock.enter("report")
    evaluator.close()
    run.append_times()
    conclude(run, model)
    run.append_times()


def _search_and_confirm(study: Study, experiment: Experiment, run: Run, audience: Audience) -> str:
    """Why the search ended."""
    confirms = experiment.confirm != "none"
    budget = Budget(experiment.trials, experiment.timeout, confirms, experiment.until)
    ended = study.search(budget, audience.evaluated)
    run.write_outcome(study.outcome(ended))
    audience.search_ended(ended.value, confirms and study.has_found())
    run.clock.enter("confirmation")
    if confirms:
        study.confirm(audience.evaluated)
    return ended.value


def _open_run(
    plan: Plan,
    options: SearchOptions,
    launcher: Launcher,
    gpus: Gpus,
    notes: list[str],
    command: str | None,
) -> Run:
    """The run to go on with or, where there is none, a new one; locked."""
    experiment, output = plan.experiment, options.output
    wanted = SearchManifest(**plan.recorded)
    run = resumable_search(output, options.run, wanted, experiment)
    if run is not None:
        run.make_folders()
        return run
    launcher.check()
    about = run_metadata(command, launcher, gpus, notes, experiment)
    name = options.run
    folder = output / name if name else fresh_folder(output, experiment.model.name)
    return begin_run(folder, wanted.model_copy(update=about))


def conclude(run: Run, model: Path) -> None:
    """Leave what can be had from the records: the winner's repository, and the report."""
    evaluations = run.evaluations()
    if not evaluations:
        return
    from tuner.report.page import write_report  # with all of Plotly: it is needed now

    write_report(run)
    if best(evaluations) is not None:
        export_winner(run, model, run.winner)
    elif (run.winner / "manifest.json").is_file():  # an earlier session's, refuted since
        shutil.rmtree(run.winner)


def checked(plan: Plan) -> "tuple[BaseSampler, list[Window]]":
    """Optuna's sampler, and the windows to start from; raises what can be known to be wrong before
    anything is started.
    """
    experiment = plan.experiment
    if experiment.rate is not None and experiment.minimize is None:
        raise UsageError("--rate goes with --minimize in a search; 'tuner measure' judges a rate")
    check_plan(plan)
    name = "tpe" if experiment.simulates else experiment.sampler
    return make_sampler(name, experiment.seed), _learned_before(plan)


def _learned_before(plan: Plan) -> list[Window]:
    """The windows of the run to start from; RunError where it knows nothing of this model."""
    if plan.experiment.warm_start is None:
        return []
    run = Run.open(plan.experiment.warm_start)
    windows, model = run.windows(), run.manifest().model_name
    own = plan.experiment.model.name
    if model != own:
        raise RunError(f"{run.folder} is a run of {model}, and this is {own}")
    if not any(window.runs_alone for window in windows):
        raise RunError(f"{run.folder} tells nothing of service times to start from")
    return windows


def _notes_on_simulation(plan: Plan, simulation: "SimulationSampler | None") -> list[str]:
    experiment, notes = plan.experiment, []
    pipelines = () if plan.repository is None else plan.repository.pipelines
    for pipeline in pipelines if experiment.simulates else ():
        if pipeline.called:
            notes.append(
                f"the order in which {pipeline.name} calls its models is not known: no simulation, "
                "so Optuna's TPE chooses candidates, which takes more of them"
            )
    if pipelines and experiment.simulates and experiment.minimize is not None:
        notes.append(
            "costs of several models are not simulated, so Optuna's TPE chooses candidates"
        )
    if experiment.simulates and not is_available():
        notes.append("numba is not installed: no simulation, so Optuna's TPE chooses candidates")
    if simulation is None and experiment.warm_start is not None:
        notes.append("this search simulates nothing, so --warm-start has no effect")
    return notes


def _simulation(plan: Plan, gpus: Gpus) -> "SimulationSampler | None":
    """The sampler that simulates; None where another is wanted, or it would be of no use."""
    experiment = plan.experiment
    if not experiment.simulates or experiment.load == CLOSED:
        return None
    if plan.config.response_cache.enable and (experiment.input_data or experiment.cache_hits):
        return None  # what is answered from the cache is not simulated
    if experiment.load_engine != "tuner":
        return None  # perf_analyzer takes seconds for what a calibration asks in moments
    if plan.space.count(limit=_FEW) is not None or not is_available():
        return None
    # Importing it takes its time, and not everyone needs it.
    from tuner.optimizer.samplers.simulation import SimulationSampler

    try:
        return SimulationSampler(
            plan.space,
            make_simulator(plan, make_workload(plan, gpus)),
            experiment.seed,
            first_ideas(plan.space, plan.own),
            minimizes=experiment.minimize is not None,
        )
    except SimulationError:
        return None


def make_workload(plan: Plan, gpus: Gpus) -> "Workload":
    """What is simulated: an open loop."""
    from tuner.optimizer.simulators import Workload

    experiment = plan.experiment
    assert experiment.load != CLOSED
    return Workload(
        experiment.sla,
        experiment.load,
        experiment.batch,
        max(1, len(gpus.devices)),
        _limits(experiment, gpus),
        experiment.minimize,
    )


def make_simulator(plan: Plan, workload: "Workload") -> "Simulator":
    """SimulationError where it is not known who calls whom."""
    from tuner.optimizer.simulators import OneModel, Together
    from tuner.simulator.network import Visit

    seed, repository = plan.experiment.seed, plan.repository
    if repository is None:
        return OneModel(workload, lambda candidate: render(plan.config, candidate), seed)
    models = repository.tuned
    visits: list[Visit] = []
    for application, pipeline in enumerate(repository.pipelines):
        if pipeline.called:
            raise SimulationError(f"{pipeline.name} calls models in an order that is not known")
        begin = len(visits)
        for step in pipeline.steps:
            after = tuple(begin + index for index in step.after)
            visits.append(Visit(models.index(step.model), after, application))
    return Together(workload, repository.render, models, tuple(visits), plan.mix, seed)


def _limits(experiment: Experiment, gpus: Gpus) -> dict[str, float]:
    """Bytes that a candidate may use: what constraints allow, and what the GPUs have."""
    sizes = [gpu.memory for gpu in gpus.devices if gpu.memory]
    limits: dict[str, float] = {"gpu_memory": min(sizes)} if sizes else {}
    for constraint in experiment.constraints:
        name = constraint.name
        if name in ("memory", "gpu_memory"):
            limits[name] = min(constraint.limit, limits.get(name, constraint.limit))
    return limits
