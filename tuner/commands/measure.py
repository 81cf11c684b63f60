"""One configuration: the current one, or with some settings changed."""

import time

from tuner.commands.audience import Audience
from tuner.commands.completion import completed_plan
from tuner.commands.evaluators import make_evaluator
from tuner.commands.options import MeasureOptions
from tuner.commands.plan import DISCOVER, Plan
from tuner.commands.preflight import check_gpus, check_plan
from tuner.commands.preparation import MEASURING, Preparation
from tuner.commands.results import MeasureResult
from tuner.commands.runs import begin_run, fresh_folder
from tuner.commands.workplace import described, notes_on, open_resources, run_metadata
from tuner.deployments.subjects import Subject
from tuner.errors import ModelConfigError, UsageError
from tuner.load.arrivals import CLOSED
from tuner.model.space import Candidate, check_settings
from tuner.records.manifest import MeasureManifest


def measure(
    plan: Plan,
    options: MeasureOptions,
    audience: Audience,
    command: str | None = None,
    began: float | None = None,
) -> MeasureResult:
    """Find the capacity of one configuration or, with ``options.rate``, judge that rate.

    What the experiment minimises is a search's, and does not count here. ``command`` is recorded;
    it ``began`` now, or before (monotonic clock).
    """
    began = time.monotonic() if began is None else began
    plan = plan.changed(minimize=None, rate=None)
    experiment = plan.experiment
    if options.rate is not None and experiment.load == CLOSED:
        raise UsageError("--rate goes with an open loop such as --load poisson, not with closed")
    if options.rate is not None and experiment.confirm == "none":
        raise UsageError("--rate asks for a verdict on a rate, and --confirm none for none")
    check_settings(options.changes)
    if experiment.bls_composing_models != (DISCOVER,):  # else it is not known yet what may change
        _changed(plan, options)
    check_plan(plan)
    preparation = Preparation(MEASURING)
    with open_resources(experiment, plan.endpoints, preparation) as (
        launcher,
        generator,
        gpus,
        kind,
    ):
        check_gpus(plan, gpus, kind)
        plan = completed_plan(plan, launcher)
        candidate = _changed(plan, options)
        notes = notes_on(plan.endpoints, gpus)
        launcher.check()
        manifest = MeasureManifest(
            **plan.recorded,
            **run_metadata(command, launcher, gpus, notes, experiment),
            changes=dict(options.changes),
            judged_rate=options.rate,
        )
        run = begin_run(fresh_folder(options.output, f"{experiment.model.name}-measure"), manifest)
        run.clock.enter("start", began)
        audience.begins(run, described(kind, launcher, experiment), [], notes)
        evaluator = make_evaluator(plan, launcher, generator, gpus, run, audience)
        subject = Subject(0, candidate, baseline=not options.changes)
        run.clock.enter("trials")
        preparation.start()
        evaluation = evaluator.measure(subject, options.rate)
        run.append(evaluation)
        run.clock.enter("report")
        audience.evaluated(evaluation)
        run.append_times()
        from tuner.report.page import write_report  # with all of Plotly: it is needed now

        write_report(run)
        run.append_times()
        run.unlock(finished=True)
    return MeasureResult(run, evaluation)


def _changed(plan: Plan, options: MeasureOptions) -> Candidate:
    """The model's own settings with the changes; ModelConfigError where Triton would refuse it."""
    candidate = Candidate.of({**plan.own, **options.changes})
    try:
        plan.render(candidate)
    except ModelConfigError as error:
        raise ModelConfigError(f"with --set: {error}") from error
    return candidate
