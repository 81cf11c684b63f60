"""A comparison from its experiment to its report: FastAPI, Triton, or both."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from tuner.commands.session import Audience, Plan, search
from tuner.commands.simulate import Forecast, forecast
from tuner.commands.workplace import (
    described,
    fresh_folder,
    notes_on,
    open_resources,
    relative_path,
    run_metadata,
)
from tuner.cores import parse_cores
from tuner.deployments.deployment_set import DeploymentSet, candidate_of
from tuner.deployments.lineup import NAMES, Entry, Lineup
from tuner.deployments.own import OwnService, own_deployment
from tuner.deployments.payload import Payload
from tuner.deployments.swap import copy_model, measure_swap, swap_of
from tuner.deployments.triton import FixedInputs, TritonDeployment
from tuner.errors import CandidateError, RunError, UsageError
from tuner.experiment import parse_shape
from tuner.goals.sla import Sla
from tuner.load import target
from tuner.load.arrivals import CLOSED, Arrivals
from tuner.measure.draft import Subject
from tuner.measure.evaluate import ROUNDS
from tuner.measure.evaluate_deployments import DeploymentEvaluator
from tuner.model.config import to_text
from tuner.model.signature import Signature
from tuner.model.space import DYNAMIC_BATCHING, QUEUE_DELAY, Candidate, Value
from tuner.records.comparison import (
    FILE,
    KIND,
    Comparison,
    Delay,
    Deployed,
    Swap,
    write_comparison,
)
from tuner.records.results import Evaluation, State, best
from tuner.records.run import Run
from tuner.report.page import write_report
from tuner.scratch import scratch_folder
from tuner.search.storage import is_finished
from tuner.servers.gpu import Gpus
from tuner.simulator import is_available

_SEARCH = "search"
_REQUESTS = "requests.json"
_FINISHED = "finished"
_SWAP_SHARE, _LEAST_SWAP_RATE = 0.3, 5.0
_IDLE_RATE = 1.0
_DELAYS = (0.0, 0.001, 0.002, 0.005, 0.01)


@dataclass(frozen=True)
class Choice:
    """What is compared besides the experiment's own settings.

    ``names`` are those of ``lineup.NAMES``. The tuned configuration is the winner of the run
    ``tuned``; where that is None, a search of ``search_seconds`` finds it, unless they are None.
    """

    names: tuple[str, ...] = NAMES
    services: dict[str, OwnService] = field(default_factory=dict)
    tuned: Path | None = None
    search_seconds: float | None = 90.0
    target_rate: float | None = None
    processing: str | None = None
    requests: Path | None = None
    workers: int = 1
    gateway_workers: int = 1
    rounds: int = ROUNDS
    swaps: bool = True

    @property
    def needs_tuning(self) -> bool:
        return any(name in self.names for name in ("triton-tuned", "triton-unbatched", "hybrid"))

    def identity(self) -> dict[str, Any]:
        """What two comparisons must share to be the same."""
        services = {name: service.recorded() for name, service in self.services.items()}
        return {
            "deployments": [*self.names],
            "services": services,
            "tuned": None if self.tuned is None else str(self.tuned),
            "search_seconds": self.search_seconds,
            "processing": self.processing,
            "requests": None if self.requests is None else str(self.requests),
            "workers": self.workers,
            "gateway_workers": self.gateway_workers,
            "rounds": self.rounds,
        }


class Watcher(Audience, Protocol):
    """Who is told what happens in a comparison."""

    def swapping(self, title: str, rate: float) -> None: ...

    def swapped(self, swap: Swap) -> None: ...


def compare(plan: Plan, choice: Choice, output: Path, command: str, watcher: Watcher) -> Run:
    """Measure all deployments and say which one fits; whatever ends it, a report of what is known
    is left behind. The same command goes on with a search that was interrupted.
    """
    experiment = plan.experiment
    if experiment.load == CLOSED:
        raise UsageError("a comparison needs an open loop such as --load poisson, not closed")
    if experiment.batch != "1":
        raise UsageError("a comparison sends one item a request; leave --batch at 1")
    if choice.tuned is not None:
        winner_of(choice.tuned, experiment.model.name)
    payload = _payload(plan, choice)
    for service in choice.services.values():  # what is wrong with one is told before all else
        own_deployment(service, payload, Gpus("none"))
    run = _open(plan, choice, output)
    experiment = experiment.model_copy(update={"input_data": _keep_requests(run, payload)})
    plan = replace(plan, experiment=experiment)
    try:
        tuned, source = _tuned(plan, choice, run, watcher)
        with _Comparing(plan, choice, run, payload, tuned, source, command, watcher) as comparing:
            comparing.measure()
            comparing.swap()
        run.describe({**run.experiment(), _FINISHED: True})
    finally:
        if (run.folder / FILE).is_file():
            write_report(run)
        run.unlock()
    return run


def winner_of(folder: Path, model: str) -> Candidate | None:
    """The configuration that a search found; None where it was the model's own. RunError where it
    is no search of this model, or it found none.
    """
    run = Run.open(folder)
    found, searched = best(run.evaluations()), Path(str(run.experiment().get("model"))).name
    if searched != model:
        raise RunError(f"{folder} is a run of {searched}, and this is {model}")
    if found is None:
        raise RunError(f"{folder} found no configuration that keeps its promise")
    return None if found.baseline else found.candidate


def _payload(plan: Plan, choice: Choice) -> Payload:
    experiment = plan.experiment
    return Payload.of(
        experiment.model,
        Signature.of_config(plan.config),
        choice.processing,
        choice.requests,
        experiment.input_data,
        dict(map(parse_shape, experiment.shapes)),
        experiment.seed,
    )


def _open(plan: Plan, choice: Choice, output: Path) -> Run:
    """A new run, or one of the same comparison that did not come to its end."""
    wanted = {**plan.identity(KIND), **choice.identity()}
    for folder in sorted(output.glob("*/"), reverse=True):
        run = Run(folder)
        if not run.experiment_file.is_file():
            continue
        try:
            found = run.experiment()
        except RunError:
            continue
        same = {key: found.get(key) for key in wanted} == wanted
        if same and not found.get(_FINISHED) and run.lock():
            return run
    run = Run(fresh_folder(output, f"{plan.experiment.model.name}-compare"))
    Run.create(run.folder, wanted)
    run.lock()
    return run


def _keep_requests(run: Run, payload: Payload) -> Path:
    """The requests as a file that a search takes, so that all of it is about the same ones."""
    file = run.folder / _REQUESTS
    file.write_text(json.dumps({"data": payload.entries()}), encoding="utf-8")
    return file


def _tuned(
    plan: Plan, choice: Choice, run: Run, watcher: Watcher
) -> tuple[Candidate | None, Run | None]:
    """The configuration to use, None for the model's own; and the search that found it."""
    if choice.tuned is not None:
        return winner_of(choice.tuned, plan.experiment.model.name), Run(choice.tuned)
    if not choice.needs_tuning or choice.search_seconds is None:
        return None, None
    found = Run(run.folder / _SEARCH)
    changes = {"timeout": choice.search_seconds, "confirm": "none", "trials": None}
    experiment = plan.experiment.model_copy(update=changes)
    if not (found.experiment_file.is_file() and is_finished(found, None)):
        search(replace(plan, experiment=experiment), run.folder, _SEARCH, "", watcher)
    winner = best(found.evaluations())
    if winner is None:
        watcher.noted("the search found no configuration that keeps the promise")
    elif winner.baseline:
        watcher.noted("the search found nothing better than the model's own configuration")
    return (None if winner is None or winner.baseline else winner.candidate), found


class _Comparing:
    """The deployments of one comparison, on a copy of the model's folder."""

    def __init__(
        self,
        plan: Plan,
        choice: Choice,
        run: Run,
        payload: Payload,
        tuned: Candidate | None,
        source: Run | None,
        command: str,
        watcher: Watcher,
    ) -> None:
        self._plan, self._choice, self._run, self._payload = plan, choice, run, payload
        self._candidate, self._source, self._command = tuned, source, command
        self._watcher = watcher
        self._stack = ExitStack()

    def __enter__(self) -> "_Comparing":
        try:
            self._enter()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _enter(self) -> None:
        experiment, run = self._plan.experiment, self._run
        enter = self._stack.enter_context
        found = enter(open_resources(experiment, self._plan.endpoints))
        self._launcher, self._generator, self._gpus, kind = found
        self._folder = Path(enter(scratch_folder("compare")))
        notes = notes_on(self._plan.endpoints, self._gpus)
        about = run_metadata(self._command, self._launcher, self._gpus, notes, experiment)
        run.describe({**run.experiment(), **about})
        self._entries = list(self._lineup(self._folder / "measured"))
        if not self._entries:
            raise UsageError("nothing is left to compare; name more --deployments")
        self._comparison = self._first()
        write_comparison(run, self._comparison)
        self._watcher.begins(run, described(kind, self._launcher, experiment), 0, notes)

    def _lineup(self, folder: Path) -> Iterator[Entry]:
        experiment, choice = self._plan.experiment, self._choice
        folder.mkdir(exist_ok=True)
        model = copy_model(experiment.model, folder)
        triton = TritonDeployment(
            self._launcher,
            model,
            self._plan.config,
            target.Transport(experiment.protocol),
            FixedInputs(self._payload.pool),
            experiment.startup_timeout,
            self._gpus,
        )
        return Lineup(
            model,
            triton,
            self._payload,
            self._gpus,
            self._candidate,
            self._source is not None,
            Candidate.of(self._plan.own),
            choice.workers,
            choice.gateway_workers,
            choice.processing,
            experiment.startup_timeout,
            cores.serving if (cores := parse_cores(experiment.pin)) else frozenset(),
        ).entries(choice.names, choice.services)

    def _first(self) -> Comparison:
        experiment = self._plan.experiment
        about = self._run.experiment()["environment"]
        return Comparison(
            model=experiment.model.name,
            sla=str(Sla.parse(experiment.sla)),
            load=experiment.load,
            cores=int(about["cores"]),
            gpu=about.get("gpu"),
            encode_seconds=self._payload.encode_seconds,
            tuned_run=None if self._source is None else str(relative_path(self._source.folder)),
            target_rate=self._choice.target_rate,
            deployments=tuple(_deployed(e, number) for number, e in enumerate(self._entries)),
            simulated=self._simulated(),
            delays=self._delays(),
        )

    def measure(self) -> None:
        """Capacities in interleaved rounds, and the proof of the best."""
        experiment = self._plan.experiment
        side_by_side = self._launcher.starts_several()
        members = {entry.name: entry.deployment for entry in self._entries}
        evaluator = DeploymentEvaluator(
            DeploymentSet(members, len(self._gpus.devices), side_by_side),
            self._generator,
            Sla.parse(experiment.sla),
            Arrivals.parse(experiment.load),
            self._run,
            experiment.seed,
            self._watcher,
            experiment.confirm,
            rounds=self._choice.rounds,
        )
        subjects = [Subject(n, candidate_of(e.name)) for n, e in enumerate(self._entries)]
        found: list[Evaluation] = []
        try:
            found = evaluator.measure_all(subjects)
        finally:
            evaluator.close()
            for each in found or evaluator.so_far():
                self._run.append(each)
                self._watcher.evaluated(each)
            own = [e for e in found if not self._entries[e.trial].is_running]
            self._keep({e.trial: e.launch_seconds for e in own}, {})

    def swap(self) -> None:
        """Each model replaced while it serves, where tuner knows how."""
        if not self._choice.swaps:
            return
        measured = {e.trial: e for e in self._run.evaluations()}
        for number, entry in enumerate(self._entries):
            evaluation = measured.get(number)
            swappable = entry.swaps == "restart" or self._launcher.starts_several()
            if entry.swaps is None or not swappable or evaluation is None:
                continue
            if evaluation.state is not State.FAILED:
                self._keep({}, {number: self._swap(number, entry, evaluation)})

    def _swap(self, number: int, entry: Entry, evaluation: Evaluation) -> Swap:
        rate = max(_LEAST_SWAP_RATE, _SWAP_SHARE * (evaluation.capacity or 0.0))
        self._watcher.swapping(entry.title, rate)
        folder = self._folder / f"swapped-{number}"
        again = next(e for e in self._lineup(folder) if e.name == entry.name)
        model = folder / self._plan.experiment.model.name
        assert again.swaps is not None
        config = None if again.as_found else again.deployment.config
        try:
            with again.deployment.start(self._run.logs / f"{number:04d}-swap.log") as running:
                change = swap_of(again.swaps, running, model, config)
                seed = self._plan.experiment.seed
                swap = measure_swap(running, self._generator, rate, again.swaps, change, seed)
        except CandidateError as error:
            how, why = again.swaps, str(error)
            swap = Swap(how=how, rate=rate, seconds=None, requests=0, lost=0, failure=why)
        self._watcher.swapped(swap)
        return swap

    def _keep(self, cold: dict[int, float | None], swaps: dict[int, Swap]) -> None:
        def updated(each: Deployed) -> Deployed:
            changes: dict[str, Any] = {}
            if each.trial in cold:
                changes["cold_start"] = cold[each.trial]
            if each.trial in swaps:
                changes["swap"] = swaps[each.trial]
            return each.model_copy(update=changes)

        deployments = tuple(map(updated, self._comparison.deployments))
        self._comparison = self._comparison.model_copy(update={"deployments": deployments})
        write_comparison(self._run, self._comparison)

    def _simulated(self) -> dict[str, float]:
        """Capacities of Triton's deployments, as far as a search has learned what they rest on."""
        own = dict(self._plan.own)
        tuned = dict(self._candidate.settings) if self._candidate else own
        unbatched = {**tuned, DYNAMIC_BATCHING: False}
        found = {}
        for name, settings in (
            ("triton", own),
            ("triton-tuned", tuned),
            ("triton-unbatched", unbatched),
        ):
            played = self._forecast(settings)
            if played is not None and played.capacity:
                found[name] = played.capacity
        return found

    def _delays(self) -> tuple[Delay, ...]:
        """The tuned configuration with other queue delays."""
        settings = dict(self._candidate.settings) if self._candidate else dict(self._plan.own)
        found = []
        for delay in _DELAYS:
            changed = {**settings, DYNAMIC_BATCHING: True, QUEUE_DELAY: round(delay * 1e6)}
            played = self._forecast(changed)
            if played is None:
                return ()
            p50 = played.latency["p50"]
            found.append(Delay(delay=delay, capacity=played.capacity or None, p50=p50))
        return tuple(found)

    def _forecast(self, settings: dict[str, Value]) -> Forecast | None:
        """What a configuration would do, mostly idle; None where that cannot be simulated."""
        experiment = self._plan.experiment
        if self._source is None or not is_available():
            return None
        try:
            return forecast(self._source, settings, _IDLE_RATE, experiment.sla, experiment.load)
        except UsageError:
            return None


def _deployed(entry: Entry, trial: int) -> Deployed:
    triton = entry.kind in ("triton", "hybrid")
    return Deployed(
        name=entry.name,
        title=entry.title,
        kind=entry.kind,
        what=entry.what,
        sends=entry.sends,
        trial=trial,
        tuned=entry.tuned,
        batching=entry.batching,
        config=to_text(entry.deployment.config) if triton else None,
    )
