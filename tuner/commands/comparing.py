"""The deployments of one comparison, measured and swapped on copies of the model's folder."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuner.commands.audience import Watcher
from tuner.commands.plan import Plan
from tuner.commands.selection import Selection
from tuner.commands.tuned import Tuned
from tuner.commands.workplace import (
    described,
    notes_on,
    open_resources,
    relative_path,
    run_metadata,
)
from tuner.deployments.lineup import Entry, Lineup
from tuner.deployments.payload import Payload
from tuner.deployments.subjects import DeploymentSet, Subject
from tuner.deployments.swap import measure_swap, swap_of
from tuner.deployments.triton import FixedInputs, TritonDeployment
from tuner.errors import CandidateError, UsageError
from tuner.measurement.evaluate import compare_deployments
from tuner.measurement.session import Conditions, Sessions
from tuner.model.config import to_text
from tuner.model.files import copy_model
from tuner.model.space import Candidate
from tuner.model.weights import link_or_copy
from tuner.records.comparison import UNBATCHED, Comparison, Deployed, Swap, write_comparison
from tuner.records.results import Evaluation, State
from tuner.records.run import Run
from tuner.scratch import scratch_folder


@dataclass(frozen=True)
class SwapLoad:
    share: float = 0.3
    """Of the capacity: the load while a model is replaced. The new version needs room beside the
    old one.
    """
    least_rate: float = 5.0
    """Requests/s: with fewer, an outage would be seen only by its edges."""


_SWAP = SwapLoad()


class Comparing:
    """Holds launcher, load processes and the copied model while it is entered."""

    def __init__(
        self,
        plan: Plan,
        selection: Selection,
        run: Run,
        payload: Payload,
        tuned: Tuned,
        command: str | None,
        watcher: Watcher,
    ) -> None:
        self._plan, self._selection, self._run, self._payload = plan, selection, run, payload
        self._tuned, self._command, self._watcher = tuned, command, watcher
        self._stack = ExitStack()

    def __enter__(self) -> "Comparing":
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
        resources = enter(open_resources(experiment, self._plan.endpoints))
        self._launcher, self._generator, self._gpus, kind = resources
        self._folder = Path(enter(scratch_folder("compare")))
        notes = notes_on(self._plan.endpoints, self._gpus)
        about = run_metadata(self._command, self._launcher, self._gpus, notes, experiment)
        run.describe(run.manifest().model_copy(update=about))
        self._entries = list(self._lineup(self._folder / "measured"))
        if not self._entries:
            raise UsageError("nothing is left to compare; name more --deployments")
        self._comparison = self._first()
        write_comparison(run, self._comparison)
        self._watcher.begins(run, described(kind, self._launcher, experiment), [], notes)

    def _lineup(self, folder: Path) -> Iterator[Entry]:
        experiment, selection = self._plan.experiment, self._selection
        folder.mkdir(exist_ok=True)
        model = folder / experiment.model.name
        copy_model(experiment.model, model, link_or_copy)
        triton = TritonDeployment(
            self._launcher,
            model,
            self._plan.config,
            experiment.protocol,
            FixedInputs(self._payload.pool),
            experiment.startup_timeout,
            self._gpus,
            others=experiment.load_models,
            opens="model",
        )
        cores = experiment.pin.cores
        return Lineup(
            model,
            triton,
            self._payload,
            self._gpus,
            self._tuned.candidate,
            self._tuned.source is not None,
            Candidate.of(self._plan.own),
            selection.fastapi_workers,
            selection.gateway_workers,
            selection.options.processing,
            experiment.startup_timeout,
            cores.serving if cores else frozenset(),
        ).entries(selection.names, selection.services)

    def _first(self) -> Comparison:
        """What is known before anything is measured."""
        experiment, source = self._plan.experiment, self._tuned.source
        environment = self._run.manifest().environment
        own = dict(self._plan.own)
        return Comparison(
            model=experiment.model.name,
            sla=str(experiment.sla),
            load=str(experiment.load),
            cores=environment.cores or 1,
            gpu=environment.gpu,
            encode_seconds=self._payload.encode_seconds,
            tuned_run=None if source is None else str(relative_path(source.folder)),
            target_rate=self._selection.options.target_rate,
            deployments=tuple(_deployed(e, number) for number, e in enumerate(self._entries)),
            simulated=self._tuned.simulated_capacities(own),
            delays=self._tuned.simulated_delays(own),
        )

    def measure(self) -> None:
        """Capacities in interleaved rounds, and the proof of the best."""
        experiment = self._plan.experiment
        members = {entry.name: entry.deployment for entry in self._entries}
        deployments = DeploymentSet(
            members, len(self._gpus.devices), self._launcher.starts_several()
        )
        conditions = Conditions(
            experiment.sla,
            experiment.load,
            verification=experiment.confirm,
            longest_test=experiment.probe_seconds,
        )
        subjects = [
            Subject(number, deployment=entry.name, reference=entry.name == UNBATCHED)
            for number, entry in enumerate(self._entries)
        ]
        rounds = compare_deployments(
            Sessions(deployments, self._generator, conditions, self._run, self._watcher),
            subjects,
            experiment.seed,
            self._selection.options.rounds,
        )
        evaluations: list[Evaluation] = []
        try:
            evaluations = rounds.play(deployments.runs_side_by_side([None] * len(subjects)))
        finally:
            evaluations = evaluations or rounds.so_far()
            for each in evaluations:
                self._run.append(each)
                self._watcher.evaluated(each)
            launched = [e for e in evaluations if not self._entries[e.trial].is_running]
            self._update({e.trial: {"cold_start": e.launch_seconds} for e in launched})

    def swap(self) -> None:
        """Each model replaced while it serves, where tuner knows how."""
        if not self._selection.options.swaps:
            return
        measured = {e.trial: e for e in self._run.evaluations()}
        for number, entry in enumerate(self._entries):
            evaluation = measured.get(number)
            swappable = entry.swaps == "restart" or self._launcher.starts_several()
            if entry.swaps is None or not swappable or evaluation is None:
                continue
            if evaluation.state is not State.FAILED:
                self._update({number: {"swap": self._swap(number, entry, evaluation)}})

    def _swap(self, number: int, entry: Entry, evaluation: Evaluation) -> Swap:
        rate = max(_SWAP.least_rate, _SWAP.share * (evaluation.capacity or 0.0))
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
            how, failure = again.swaps, str(error)
            swap = Swap(how=how, rate=rate, seconds=None, requests=0, lost=0, failure=failure)
        self._watcher.swapped(swap)
        return swap

    def _update(self, changes: dict[int, dict[str, Any]]) -> None:
        """Write what is now known of deployments, by their trials."""
        deployments = tuple(
            each.model_copy(update=changes.get(each.trial, {}))
            for each in self._comparison.deployments
        )
        self._comparison = self._comparison.model_copy(update={"deployments": deployments})
        write_comparison(self._run, self._comparison)


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
