import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest

from tests.goals.test_constraints import probe
from tests.optimizer.test_study import ignore
from tests.simulated import batch_times, windows
from tuner.deployments.subjects import Subject
from tuner.errors import SimulationError
from tuner.goals.objective import Objective
from tuner.goals.sla import Sla, bound_ratio
from tuner.load.arrivals import Arrivals
from tuner.load.batches import BatchMix
from tuner.measurement.calibrate import CalibrationPlan
from tuner.model.config import fit_space, own_settings, parse_config, render
from tuner.model.space import INSTANCE_COUNT, MAX_BATCH_SIZE, Candidate, SearchSpace
from tuner.model.space_file import load_space, parse_space
from tuner.optimizer.forecast import Forecast
from tuner.optimizer.measurement import Measurement
from tuner.optimizer.prior import Pass, PriorSettings, SimulatedSpace
from tuner.optimizer.samplers.simulation import SimulationSampler
from tuner.optimizer.simulators import OneModel, Workload
from tuner.optimizer.stopping import Budget, Stop
from tuner.optimizer.study import Measurer, Study
from tuner.records.results import Cost, Evaluation, State, best
from tuner.records.run import Run
from tuner.resources import bundled
from tuner.simulator.predict import play, predict_capacity
from tuner.simulator.scheduling import LIMITS, Scheduling
from tuner.simulator.simulate import ServiceTimes
from tuner.stats.estimators import quantile

pytestmark = pytest.mark.slow

MODEL = parse_config(
    'name: "m" max_batch_size: 8 dynamic_batching {} instance_group [ { kind: KIND_CPU } ]', "m"
)
SPACE = fit_space(load_space(str(bundled("search_spaces") / "default.yaml")), MODEL)
OWN = own_settings(SPACE, MODEL)
SHORT = fit_space(
    parse_space(
        "parameters: {max_batch_size: [4, 8, 16, 32, 64], instance_count: {range: [1, 4]}, "
        "max_queue_delay_microseconds: [0, 2000]}",
        "here",
    ),
    MODEL,
)
SLA = Sla.parse("p99<40ms")
GPU = ServiceTimes(batch_times(0.004, 0.00035), exclusive=0.7)
FLAT = ServiceTimes(batch_times(0.012, 0.00002), exclusive=1.0)
STEEP = ServiceTimes(batch_times(0.0005, 0.002), exclusive=0.25)


def config_of(candidate: Candidate) -> Any:
    return render(MODEL, candidate)


def capacity(service: ServiceTimes, candidate: Candidate, requests: int = 5000) -> float:
    scheduling = Scheduling.of(config_of(candidate))
    return predict_capacity(scheduling, service, SLA, requests=requests, precision=0.01)


WORKLOAD = Workload(SLA, Arrivals.POISSON, BatchMix())


def sampler(space: SearchSpace = SPACE, workload: Workload = WORKLOAD) -> SimulationSampler:
    minimizes = workload.objective is not None
    return SimulationSampler(space, OneModel(workload, config_of, 0), minimizes=minimizes)


def simulated(space: SearchSpace = SPACE, workload: Workload = WORKLOAD) -> SimulatedSpace:
    minimizes = workload.objective is not None
    return SimulatedSpace(space, OneModel(workload, config_of, 0), 0, minimizes=minimizes)


def measurements(evaluations: list[Evaluation]) -> list[Measurement]:
    return [Measurement.of_evaluation(each, minimizes=False) for each in evaluations]


class World:
    """Stands where the evaluator does: servers are simulated with a truth that the sampler has to
    learn from what they show while they are busy. ``twist`` is what no simulation knows.
    """

    def __init__(
        self, run: Run, truth: ServiceTimes, twist: Callable[[Candidate], float] = lambda _: 1.0
    ) -> None:
        self._run = run
        self._truth = truth
        self._twist = twist
        self.calibrated = 0
        self.expected: list[float] = []

    def calibrate(self, course: CalibrationPlan) -> list[tuple[Candidate, str]]:
        self.calibrated += 1
        self._run.append_windows(
            windows(self._truth, (2, 8, 32, 64), [n for n in course.counts if n])
        )
        return []

    def capacity(self, candidate: Candidate) -> float:
        return capacity(self._truth, candidate) * self._twist(candidate)

    def search(
        self, subject: Subject, to_beat: float, phase: str = "search", expected: float = 0.0
    ) -> Evaluation:
        self.expected.append(expected)
        rate = self.capacity(subject.candidate)
        state = State.OK if rate > to_beat else State.BEATEN
        if rate <= 0:
            raise ValueError
        return Evaluation(
            trial=subject.trial,
            phase="search",
            baseline=subject.baseline,
            settings=dict(subject.candidate.settings),
            config="",
            started="2025-01-01T00:00:00+00:00",
            seconds=1.0,
            state=state,
            capacity=rate if state is State.OK else None,
            low=0.95 * rate,
            high=1.05 * rate,
        )


def searched(
    folder: Path, world: World, run: Run, budget: Budget, space: SearchSpace = SPACE
) -> tuple[Study, Stop]:
    own = own_settings(space, MODEL)
    study = Study(run, space, own, _as_measurer(world), sampler(space))
    return study, study.search(budget, ignore)


def _as_measurer(world: World) -> Measurer:
    return world  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("truth", "space"),
    [(GPU, SPACE), (FLAT, SHORT), (STEEP, SHORT)],
    ids=["gpu", "flat", "steep"],
)
def test_a_few_measurements_find_one_of_the_best(
    truth: ServiceTimes, space: SearchSpace, tmp_path: Path
) -> None:
    run = Run.create(tmp_path / "run")
    world = World(run, truth)
    study, reason = searched(tmp_path, world, run, Budget(None, 1e6, confirms=False), space)
    best = max(e.capacity or 0.0 for e in study.evaluations)
    rough = {c: capacity(truth, c, 1000) for c in space.candidates() or {}}
    top = max(capacity(truth, c) for c in rough if rough[c] > 0.93 * max(rough.values()))
    assert reason is Stop.CONVERGED
    assert best >= 0.98 * top
    assert len(study.evaluations) <= 12


def test_it_learns_what_no_simulation_knows(tmp_path: Path) -> None:
    def twist(candidate: Candidate) -> float:
        return 0.5 if candidate.get(INSTANCE_COUNT) == 2 else 1.0

    run = Run.create(tmp_path / "run")
    world = World(run, GPU, twist)
    study, _ = searched(tmp_path, world, run, Budget(25, 1e6, confirms=False))
    first = study.evaluations[1].candidate
    assert first.get(INSTANCE_COUNT) == 2
    found = max(study.evaluations, key=lambda e: e.capacity or 0.0)
    assert found.candidate.get(INSTANCE_COUNT) != 2
    every = max(world.capacity(c) for c in SPACE.candidates() or {} if c.get(INSTANCE_COUNT) == 3)
    assert (found.capacity or 0.0) >= 0.95 * every


def test_the_first_candidates_are_expected_where_they_are(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run")
    world = World(run, GPU)
    study, _ = searched(tmp_path, world, run, Budget(2, 1e6, confirms=False))
    for expected, evaluation in zip(world.expected, study.evaluations, strict=True):
        assert expected == pytest.approx(evaluation.estimate, rel=0.1)


def test_it_is_calibrated_once_also_over_a_break(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run")
    world = World(run, GPU)
    searched(tmp_path, world, run, Budget(1, 1e6, confirms=False))
    searched(tmp_path, world, run, Budget(2, 1e6, confirms=False))
    assert world.calibrated == 1


def test_without_windows_optuna_chooses_and_it_is_said(tmp_path: Path) -> None:
    class Mute(World):
        def calibrate(self, course: CalibrationPlan) -> list[tuple[Candidate, str]]:
            return []

    run = Run.create(tmp_path / "run")
    notes: list[str] = []
    world = _as_measurer(Mute(run, GPU))
    study = Study(run, SPACE, OWN, world, sampler(), note=notes.append)
    assert study.search(Budget(4, 1e6, confirms=False), ignore) is Stop.TRIALS
    assert len(study.evaluations) == 4
    assert "Optuna's sampler chooses" in notes[0]


def test_what_ran_out_of_memory_in_the_calibration_is_not_tried_again(tmp_path: Path) -> None:
    class Small(World):
        def calibrate(self, course: CalibrationPlan) -> list[tuple[Candidate, str]]:
            super().calibrate(course)
            first = course.candidates[0]
            assert first.get(MAX_BATCH_SIZE) == 64
            return [(first, "CUDA out of memory. Tried to allocate 2 GiB")]

    run = Run.create(tmp_path / "run")
    notes: list[str] = []
    world = _as_measurer(Small(run, STEEP))
    own = own_settings(SHORT, MODEL)
    study = Study(run, SHORT, own, world, sampler(SHORT), note=notes.append)
    reason = study.search(Budget(None, 1e6, confirms=False, until=1e-9), ignore)
    assert reason in (Stop.NONE_LEFT, Stop.CONVERGED)
    tried = {each.candidate.get(MAX_BATCH_SIZE) for each in study.evaluations}
    assert 64 not in tried
    assert len(tried) > 1
    assert "calibration failed" in notes[0]


def test_of_what_keeps_the_promise_at_no_rate_nothing_is_expected() -> None:
    """It is probed like one of which nothing is known, and not at a thousandth of the best."""
    workload = replace(WORKLOAD, sla=Sla.parse("p99<1ms"))
    forecast = Forecast(simulated(SPACE, workload).simulate(windows(GPU, (2, 8, 32, 64), (2, 3))))
    assert {forecast.expected(candidate) for candidate in forecast.candidates} == {0.0}
    assert forecast.feasibility() == 0.0


def test_a_scheduler_that_is_not_simulated_is_said_to_be_so() -> None:
    model = parse_config('name: "m" max_batch_size: 8 sequence_batching {}', "m")
    with pytest.raises(SimulationError, match="sequence_batching"):
        SimulationSampler(SPACE, OneModel(WORKLOAD, lambda _: model, 0))


def test_the_chance_to_have_missed_a_better_one_falls_with_what_is_measured(
    tmp_path: Path,
) -> None:
    run = Run.create(tmp_path / "run")
    study, _ = searched(tmp_path, World(run, GPU), run, Budget(None, 1e6, confirms=False))
    forecast = Forecast(simulated().simulate(run.windows()))
    known = measurements(study.evaluations)
    chances = [forecast.given(known[:upto]).missed(0.05) or 0.0 for upto in (2, len(known))]
    assert 0 <= chances[1] < chances[0] <= 1


def test_the_course_begins_with_the_largest_batches_and_knows_smaller_ones() -> None:
    course = CalibrationPlan.of(SPACE, OWN)
    sizes = [c.get(MAX_BATCH_SIZE) for c in course.candidates]
    assert sizes == [64, 32, 16]
    assert course.counts == (2, 4)
    assert all(c.get(INSTANCE_COUNT) == 1 for c in course.candidates)


def test_expectations_are_finite(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run")
    run.append_windows(windows(STEEP, (2, 64), (4,)))
    chooser = sampler()
    assert chooser.forecast(in_memory()) is None
    chooser.calibrate(run.windows())
    forecast = chooser.forecast(in_memory())
    assert forecast is not None
    assert all(math.isfinite(forecast.expected(c)) for c in forecast.candidates)


def in_memory() -> optuna.Study:
    return optuna.create_study(direction="maximize")


def gained_by_instances(chooser: SimulationSampler) -> float:
    """The capacity that is expected of four instances over that of one, in batches of 64."""
    forecast = chooser.forecast(in_memory())
    assert forecast is not None
    one, four = (
        max(
            forecast.expected(c)
            for c in forecast.candidates
            if (c.get(INSTANCE_COUNT), c.get(MAX_BATCH_SIZE)) == (count, 64)
        )
        for count in (1, 4)
    )
    return four / one


def test_what_later_servers_show_is_simulated_as_well() -> None:
    turns, shares = replace(GPU, exclusive=1.0), replace(GPU, exclusive=0.4)
    first, later = (windows(each, (2, 64), (2, 4)) for each in (turns, shares))
    chooser = sampler(SHORT)
    chooser.calibrate(first)
    before = gained_by_instances(chooser)
    chooser.calibrate([*first, later[-1]])
    assert gained_by_instances(chooser) == before
    chooser.calibrate([*first, *later])
    assert gained_by_instances(chooser) > 1.3 * before


def test_a_simulation_that_sees_no_way_is_not_believed_over_what_was_measured(
    tmp_path: Path,
) -> None:
    far = replace(GPU, network=0.1)
    forecast = Forecast(simulated(SHORT).simulate(windows(far, (2, 64), (4,))))
    assert forecast.feasibility() == 0.0
    world = World(Run.create(tmp_path / "run"), GPU)
    measured = world.search(Subject(0, Candidate.of(own_settings(SHORT, MODEL)), True), 0.0)
    forecast = forecast.given(measurements([measured]))
    for candidate in forecast.candidates:
        assert forecast.expected(candidate) == pytest.approx(measured.capacity, rel=0.2)


def test_of_a_vast_space_a_sample_and_the_model_itself_are_known() -> None:
    space = fit_space(
        parse_space(
            "parameters: {max_batch_size: {range: [1, 512]}, instance_count: {range: [1, 64]}, "
            "max_queue_delay_microseconds: {range: [0, 9999]}, dynamic_batching: [true]}",
            "here",
        ),
        MODEL,
    )
    own = own_settings(space, MODEL)
    known = SimulatedSpace(space, OneModel(WORKLOAD, config_of, 0), 0, [{**own}])
    assert 1000 < len(known.points) <= 1501
    assert Candidate.of(own) in known.points


def test_candidates_that_would_not_fit_are_not_proposed(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run")
    run.append_windows(windows(GPU, (2, 64), (2, 4)))
    seen = [w.model_copy(update={"memory": 100 * w.instances}) for w in run.windows()]
    workload = replace(WORKLOAD, limits={"memory": 150.0})
    proposal = Forecast(simulated(SPACE, workload).simulate(seen)).propose()
    assert proposal is not None
    assert proposal.candidate.get(INSTANCE_COUNT) == 1


RATE = 800.0


class Shop(World):
    """As ``FixedRatePolicy``: what each candidate costs at one rate, with the truth's service."""

    def __init__(self, run: Run, truth: ServiceTimes, objective: Objective) -> None:
        super().__init__(run, truth)
        self.objective = objective
        self.kept: list[bool] = []

    def price(self, candidate: Candidate) -> tuple[float, float]:
        """The value, and the margin of the promise."""
        scheduling = Scheduling.of(config_of(candidate))
        samples = play(RATE, 20_000, scheduling, self._truth).samples
        latency = {"p99": quantile(samples.latency, 0.99)}
        record = probe().model_copy(update={"latency": latency})
        value = self.objective.value(record, scheduling.instances)
        return value or 0.0, bound_ratio(samples, SLA) or 0.0

    def search(
        self, subject: Subject, to_beat: float, phase: str = "search", expected: float = 0.0
    ) -> Evaluation:
        value, over = self.price(subject.candidate)
        self.kept.append(over <= 1)
        cost = Cost(
            objective=str(self.objective),
            rate=RATE,
            value=value,
            low=0.98 * value,
            high=1.02 * value,
        )
        return Evaluation(
            trial=subject.trial,
            phase="search",
            baseline=subject.baseline,
            settings=dict(subject.candidate.settings),
            config="",
            started="2025-01-01T00:00:00+00:00",
            seconds=1.0,
            state=State.OK if over <= 1 else State.INFEASIBLE,
            capacity=RATE if over <= 1 else None,
            bound_ratio=over,
            cost=cost,
        )


@pytest.mark.parametrize("text", ["p99", "instances", "p99/10ms + instances", "energy + cpu"])
def test_the_least_cost_is_found_among_those_that_keep_the_promise(
    text: str, tmp_path: Path
) -> None:
    known = text != "energy + cpu"
    objective = Objective.parse(text if known else "energy/1J + cpu/1", RATE)
    run = Run.create(tmp_path / "run")
    shop = Shop(run, GPU, objective)
    chooser = sampler(SHORT, replace(WORKLOAD, objective=objective))
    own = own_settings(SHORT, MODEL)
    study = Study(run, SHORT, own, _as_measurer(shop), chooser, minimizes=True)
    reason = study.search(Budget(None if known else 12, 1e6, confirms=False), ignore)
    found = best(study.evaluations)
    assert found is not None
    assert found.cost is not None
    if not known:  # nothing of it is simulated: all are alike but for what was measured
        assert reason in (Stop.TRIALS, Stop.CONVERGED)
        return
    assert reason is Stop.CONVERGED
    assert len(study.evaluations) <= 10
    prices = [shop.price(c) for c in SHORT.candidates() or {}]
    least = min(value for value, over in prices if over <= 1)
    assert found.cost.value <= 1.05 * least
    values = [t.value for t in study._study.get_trials(deepcopy=False) if t.value is not None]
    assert min(values) == pytest.approx(found.cost.value)


def test_where_nothing_keeps_the_promise_it_gives_up(tmp_path: Path) -> None:
    objective = Objective.parse("instances", RATE)
    run = Run.create(tmp_path / "run")
    slow = ServiceTimes(batch_times(0.05, 0.002), exclusive=1.0)
    chooser = sampler(SHORT, replace(WORKLOAD, objective=objective))
    shop = _as_measurer(Shop(run, slow, objective))
    study = Study(run, SHORT, own_settings(SHORT, MODEL), shop, chooser, minimizes=True)
    assert study.search(Budget(None, 1e6, confirms=False), ignore) is Stop.HOPELESS
    assert len(study.evaluations) <= 5


def test_settings_that_are_not_simulated_keep_candidates_apart() -> None:
    space = parse_space(
        "parameters: {max_batch_size: [32, 64], 'parameters[threads]': [1, 2]}", "here"
    )
    prior = simulated(fit_space(space, MODEL)).simulate(windows(GPU, (2, 8, 32, 64), (2, 3)))
    assert len(set(prior.classes.tolist())) >= 2
    for candidate, number in zip(prior.points, prior.classes, strict=True):
        others = [c for c, n in zip(prior.points, prior.classes, strict=True) if n == number]
        assert {c.get("parameters[threads]") for c in others} == {
            candidate.get("parameters[threads]")
        }


class TestVastSpaces:
    """What nobody can search through is sampled, in bounded time and memory."""

    VAST = (
        "parameters: {max_batch_size: {range: [1, 2147483647]}, "
        "instance_count: {range: [1, 1024]}, max_queue_delay_microseconds: {range: [0, 10000000]}}"
    )

    def test_only_as_many_are_simulated_as_there_is_time_for(self) -> None:
        settings = PriorSettings()
        space = fit_space(parse_space(self.VAST, "here"), MODEL)
        made = SimulatedSpace(space, OneModel(WORKLOAD, config_of, 0), 0, also=[dict(OWN)])
        schedulings = [Scheduling.of(config_of(candidate)) for candidate in made.points]
        steps = settings.passes[0].requests * sum(each.instances for each in schedulings)
        assert 20 < len(made.points) <= settings.sampled + 1
        assert steps <= 1.01 * settings.most_steps
        assert Candidate.of(OWN) in made.points
        assert max(each.max_batch for each in schedulings) == LIMITS.items

    def test_a_candidate_is_proposed_of_them(self) -> None:
        space = fit_space(parse_space(self.VAST, "here"), MODEL)
        learned = windows(GPU, (2, 8, 32, 64), (2, 3))
        few = PriorSettings(most_steps=1_000_000, passes=(Pass(500, 0.05, 100),))
        simulator = OneModel(WORKLOAD, config_of, 0)
        prior = SimulatedSpace(space, simulator, 0, settings=few).simulate(learned)
        proposal = Forecast(prior).propose()
        assert proposal is not None
        assert proposal.candidate in prior.points

    def test_a_space_that_is_small_is_simulated_whole(self) -> None:
        assert len(simulated(SPACE).points) == SPACE.count()

    def test_requests_of_more_items_than_are_simulated_are_not(self) -> None:
        workload = replace(WORKLOAD, mix=BatchMix.parse("100000"))
        with pytest.raises(SimulationError, match="requests of 100,000 items cannot be simulated"):
            simulated(SPACE, workload)
