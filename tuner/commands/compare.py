"""A comparison from its experiment to its report: FastAPI, Triton, or both."""

import json
from pathlib import Path

from tuner.commands.audience import Watcher
from tuner.commands.comparing import Comparing
from tuner.commands.options import CompareOptions, SearchOptions
from tuner.commands.plan import Plan
from tuner.commands.results import CompareResult
from tuner.commands.runs import begin_run, fresh_folder, resumable_comparison
from tuner.commands.search import search
from tuner.commands.selection import Selection
from tuner.commands.tuned import Tuned
from tuner.deployments.own import own_deployment
from tuner.deployments.payload import Payload
from tuner.errors import ModelConfigError, RunError, StorageError, UsageError
from tuner.interrupts import Interrupted
from tuner.load.arrivals import CLOSED
from tuner.load.batches import BatchMix
from tuner.model.signature import Signature
from tuner.model.space import Candidate
from tuner.optimizer.storage import is_finished
from tuner.records.comparison import FILE
from tuner.records.manifest import CompareManifest
from tuner.records.results import best
from tuner.records.run import Run, cannot_write, write_text
from tuner.report.page import write_report
from tuner.servers.gpu import Gpus

_SEARCH = "search"
_REQUESTS = "requests.json"


def compare(
    plan: Plan, options: CompareOptions, watcher: Watcher, command: str | None = None
) -> CompareResult:
    """Measure all deployments and say which one fits. Whatever ends it, a report of what is known
    is written; the same command resumes an interrupted search.
    """
    experiment, selection = plan.experiment, Selection.of(options)
    if plan.repository is not None:
        raise UsageError(
            "a comparison is of a single model, not of several or of a pipeline; 'tuner search' "
            "tunes those"
        )
    if experiment.load == CLOSED:
        raise UsageError("a comparison needs an open loop such as --load poisson, not closed")
    if experiment.batch != BatchMix():
        raise UsageError("a comparison sends one item a request; leave --batch at 1")
    if options.tuned is not None:
        winner_of(options.tuned, experiment.model.name)
    payload = _payload(plan, options)
    for service in selection.services.values():  # what is wrong with one is told before all else
        own_deployment(service, payload, Gpus("none"))
    run = _open_run(plan, selection)
    plan = plan.changed(input_data=_write_requests(run, payload))
    finished = False
    try:
        tuned = _tuned(plan, selection, run, watcher)
        with Comparing(plan, selection, run, payload, tuned, command, watcher) as comparing:
            comparing.measure()
            comparing.swap()
        run.describe(run.manifest().model_copy(update={"finished": True}))
        finished = True
    except KeyboardInterrupt as interrupt:
        raise Interrupted(run.folder) from interrupt
    finally:
        if (run.folder / FILE).is_file():
            write_report(run)
        run.unlock(finished)
    return CompareResult(run)


def winner_of(folder: Path, model: str) -> Candidate | None:
    """The configuration that a search found; None where it was the model's own. RunError where it
    is no search of this model, or it found none.
    """
    run = Run.open(folder)
    winner, searched = best(run.evaluations()), run.manifest().model_name
    if searched != model:
        raise RunError(f"{folder} is a run of {searched}, and this is {model}")
    if winner is None:
        raise RunError(f"{folder} found no configuration that meets its SLA")
    return None if winner.baseline else winner.candidate


def _payload(plan: Plan, options: CompareOptions) -> Payload:
    experiment = plan.experiment
    if not plan.config.input or not plan.config.output:
        raise ModelConfigError(
            f"{plan.config.name}: config.pbtxt says nothing of inputs or outputs, which the model "
            "completes when Triton loads it; FastAPI needs them: write them down"
        )
    return Payload.of(
        experiment.model,
        Signature.of_config(plan.config),
        options.processing,
        options.requests,
        experiment.input_data,
        dict(experiment.shapes),
        experiment.seed,
    )


def _open_run(plan: Plan, selection: Selection) -> Run:
    """A new run, or one of the same comparison that did not come to its end; locked."""
    output = selection.options.output
    wanted = CompareManifest(**plan.recorded, compared=selection.recorded)
    run = resumable_comparison(output, wanted)
    if run is None:
        folder = fresh_folder(output, f"{plan.experiment.model.name}-compare")
        run = begin_run(folder, wanted)
    return run


def _write_requests(run: Run, payload: Payload) -> Path:
    """The requests as a file that a search takes, so that all of it is about the same ones."""
    file = run.folder / _REQUESTS
    try:
        write_text(file, json.dumps({"data": payload.entries()}))
    except OSError as error:
        raise StorageError(cannot_write(file, error)) from error
    return file


def _tuned(plan: Plan, selection: Selection, run: Run, watcher: Watcher) -> Tuned:
    """The configuration to use, and the search that found it, which is made now if need be."""
    options, experiment = selection.options, plan.experiment
    if options.tuned is not None:
        candidate = winner_of(options.tuned, experiment.model.name)
        return Tuned(experiment, candidate, Run(options.tuned))
    if not selection.searches:
        return Tuned(experiment)
    source = Run(run.folder / _SEARCH)
    if not (source.experiment_file.is_file() and is_finished(source, None)):
        searched = plan.changed(timeout=options.search_timeout, confirm="none", trials=None)
        search(searched, SearchOptions(output=run.folder, run=_SEARCH), watcher)
    winner = best(source.evaluations())
    if winner is None:
        watcher.noted("the search found no configuration that meets the SLA")
    elif winner.baseline:
        watcher.noted("the search found nothing better than your current configuration")
    candidate = None if winner is None or winner.baseline else winner.candidate
    return Tuned(experiment, candidate, source)
