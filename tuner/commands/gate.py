"""A gate: whether a change makes a model serve less within its SLA."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tuner.analysis.gate import Judgement
from tuner.commands.against import Against, stored
from tuner.commands.audience import Audience
from tuner.commands.completion import completed_plan
from tuner.commands.evaluators import conditions_of, make_deployment
from tuner.commands.options import GateOptions
from tuner.commands.plan import Plan
from tuner.commands.preflight import check_gpus, check_plan
from tuner.commands.preparation import MEASURING, Preparation
from tuner.commands.results import GateResult
from tuner.commands.runs import begin_run, fresh_folder
from tuner.commands.workplace import described, notes_on, open_resources, run_metadata
from tuner.deadline import Deadline
from tuner.deployments.subjects import Subject, TritonServers, Versions
from tuner.errors import UsageError
from tuner.interrupts import Interrupted
from tuner.load.arrivals import CLOSED
from tuner.load.generator import LoadEngine
from tuner.measurement.gating import against_stored, gate_rounds, judge_rate, of_two_versions
from tuner.measurement.session import Sessions
from tuner.measurement.settings import GATE
from tuner.model.repository import is_repository
from tuner.model.revision import RevisionMissing, check_out
from tuner.model.space import Candidate
from tuner.records.gate import NEW, OLD, Cause, GateRecord, Verdict, write_gate
from tuner.records.manifest import Environment, GateManifest
from tuner.records.results import Evaluation
from tuner.records.run import Run
from tuner.scratch import scratch_folder
from tuner.servers.base import Launcher
from tuner.servers.gpu import Gpus


def gate(
    plan: Plan,
    options: GateOptions,
    audience: Audience,
    command: str | None = None,
    began: float | None = None,
) -> GateResult:
    """Measure what the verdict needs, and no more. ``command`` is recorded; it ``began`` now, or
    before (monotonic clock).
    """
    began = time.monotonic() if began is None else began
    plan = plan.changed(minimize=None, rate=None, timeout=options.timeout)
    if plan.experiment.load == CLOSED:
        raise UsageError("a gate needs an open loop such as --load poisson, not closed")
    against = Against.parse(options.against, plan.experiment.model)
    is_pair = against.kind in ("revision", "folder")
    if is_pair and plan.endpoints is not None:
        raise UsageError(
            "two versions are compared on servers of tuner's own, without --url; on a running "
            "server, judge a rate: --against 800/s"
        )
    if against.folder is not None and against.kind == "run":
        stored(against.folder, plan.experiment.model.name)
    check_plan(plan)
    with _older(plan, against) as older:
        return _Gating(plan, options, audience, against, older).play(command, began)


@dataclass(frozen=True)
class _Older:
    """The plan of the old version, None if there is none; ``missing`` says why."""

    plan: Plan | None = None
    unkept: tuple[str, ...] = ()
    missing: str | None = None


@contextmanager
def _older(plan: Plan, against: Against) -> Iterator[_Older]:
    """The old version where it is to be measured, checked out for as long as the context."""
    if against.kind == "folder":
        assert against.folder is not None
        yield _Older(_plan_of(plan, against.folder))
        return
    if against.commit is None:
        yield _Older()
        return
    with scratch_folder("gate") as scratch:
        try:
            model, unkept = check_out(plan.experiment.model, against.commit, Path(scratch))
        except RevisionMissing as error:
            yield _Older(missing=str(error))
            return
        yield _Older(_plan_of(plan, model), tuple(unkept))


def _plan_of(plan: Plan, model: Path) -> Plan:
    """The same experiment with another version of the model; UsageError if it is none."""
    if is_repository(model) != is_repository(plan.experiment.model):
        raise UsageError(f"{model} and {plan.experiment.model} are not versions of the same model")
    return Plan.of(plan.experiment.model_copy(update={"model": model}), tunes=False)


@dataclass
class _Gating:
    """One gate; ``notes`` limit the worth of its verdict."""

    plan: Plan
    options: GateOptions
    audience: Audience
    against: Against
    older: _Older
    notes: list[str] = field(default_factory=list)

    def play(self, command: str | None, began: float) -> GateResult:
        experiment, preparation = self.plan.experiment, Preparation(MEASURING)
        resources = open_resources(experiment, self.plan.endpoints, preparation)
        with resources as (launcher, generator, gpus, kind):
            check_gpus(self.plan, gpus, kind)
            launcher.check()
            self.plan = completed_plan(self.plan, launcher)
            notes = notes_on(self.plan.endpoints, gpus)
            about = run_metadata(command, launcher, gpus, notes, experiment)
            manifest = GateManifest(
                **self.plan.recorded,
                **about,
                against=self.against.text,
                margin=self.options.margin,
            )
            folder = fresh_folder(self.options.output, f"{experiment.model.name}-gate")
            run = begin_run(folder, manifest)
            run.clock.enter("start", began)
            self.audience.begins(run, described(kind, launcher, experiment), [], notes)
            run.clock.enter("trials")
            preparation.start()
            deadline = Deadline()
            deadline.set(self.options.timeout - (time.monotonic() - began))
            try:
                record = self._judged(run, launcher, generator, gpus, deadline)
            except KeyboardInterrupt as interrupt:
                judgement = Judgement(Verdict.INCONCLUSIVE, Cause.INTERRUPTED)
                self._conclude(run, self._record(judgement, rate=self.against.rate))
                raise Interrupted(run.folder) from interrupt
            self._conclude(run, record)
        return GateResult(run, record)

    def _conclude(self, run: Run, record: GateRecord) -> None:
        write_gate(run, record)
        run.clock.enter("report")
        from tuner.report.page import write_report  # with all of Plotly: it is needed now

        write_report(run)
        run.append_times()
        run.unlock(finished=True)
        if self.options.write:
            from tuner.report.gate_formats import write_formats

            pairs = (entry.partition("=") for entry in self.options.write)
            write_formats(run, {name: Path(file) for name, _, file in pairs})

    def _judged(
        self,
        run: Run,
        launcher: Launcher,
        generator: LoadEngine,
        gpus: Gpus,
        deadline: Deadline,
    ) -> GateRecord:
        def sessions(members: dict[str, TritonServers]) -> Sessions:
            conditions = conditions_of(self.plan.experiment)
            if self.against.rate is None:  # the rounds are all there is to tell
                conditions = replace(conditions, verification="none")
            return Sessions(
                Versions(members),
                generator,
                conditions,
                run,
                self.audience,
                keeps_servers=False,
                deadline=deadline,
            )

        new = make_deployment(self.plan, launcher, gpus, deadline)
        seed, margin = self.plan.experiment.seed, self.options.margin
        if self.older.missing is not None:
            self.notes.append(self.older.missing)
            return self._record(Judgement(Verdict.INCONCLUSIVE, Cause.NO_BASELINE))
        if self.against.rate is not None:
            made = sessions({NEW: new})
            evaluation, judgement = judge_rate(made, self._subject(1), seed, self.against.rate)
            self._keep(run, [evaluation])
            return self._record(judgement, rate=self.against.rate)
        if self.older.plan is not None:
            plan = completed_plan(self.older.plan, launcher)
            old = make_deployment(plan, launcher, gpus, deadline)
            race = of_two_versions(margin, GATE.within(self.options.timeout))
            subjects = [self._subject(0, plan), self._subject(1)]
            rounds = gate_rounds(sessions({OLD: old, NEW: new}), subjects, seed, race)
            evaluations = self._played(run, rounds)
            judgement = race.judgement(evaluations)
            return self._record(judgement, rounds=race.rounds)
        assert self.against.folder is not None
        before, known = stored(self.against.folder, self.plan.experiment.model.name)
        differs = _differences(before.manifest().environment, run.manifest().environment)
        if differs:
            self.notes.append(f"{before.folder} was measured elsewhere: {', '.join(differs)}")
            judgement = Judgement(Verdict.INCONCLUSIVE, Cause.OTHER_MACHINE)
            return self._record(judgement, baseline=known.capacity)
        race = against_stored(known, margin, GATE.within(self.options.timeout, versions=1))
        rounds = gate_rounds(sessions({NEW: new}), [self._subject(1)], seed, race)
        judgement = race.judgement(self._played(run, rounds))
        return self._record(judgement, rounds=race.rounds, baseline=known.capacity)

    def _played(self, run: Run, rounds: Any) -> list[Evaluation]:
        evaluations: list[Evaluation] = []
        try:
            evaluations = rounds.play(side_by_side=False)
        finally:
            evaluations = evaluations or rounds.so_far()
            self._keep(run, evaluations)
        return evaluations

    def _keep(self, run: Run, evaluations: list[Evaluation]) -> None:
        for each in evaluations:
            run.append(each)
            self.audience.evaluated(each)

    def _subject(self, trial: int, plan: Plan | None = None) -> Subject:
        """0 is the old version, 1 the new one."""
        candidate = Candidate.of((plan or self.plan).own)
        return Subject(trial, candidate, baseline=trial == 0, deployment=(OLD, NEW)[trial])

    def _record(self, judgement: Judgement, **fields: Any) -> GateRecord:
        ratio, experiment = judgement.ratio, self.plan.experiment
        return GateRecord(
            model=experiment.model.name,
            sla=experiment.sla.text,
            kind=self.against.kind,
            against=self.against.text,
            commit=self.against.commit,
            margin=self.options.margin,
            verdict=judgement.verdict,
            cause=judgement.cause,
            ratio=ratio.value if ratio else None,
            low=ratio.low if ratio else None,
            high=ratio.high if ratio else None,
            unkept=self.older.unkept,
            notes=tuple(self.notes),
            **fields,
        )


def _differences(one: Environment, other: Environment) -> list[str]:
    """``processor (EPYC 7B13, here Xeon 8481C)``, and the like."""
    here = other.machine()
    pairs = ((name, value, here[name]) for name, value in one.machine().items())
    return [f"{n.replace('_', ' ')} ({a or '-'}, here {b or '-'})" for n, a, b in pairs if a != b]
