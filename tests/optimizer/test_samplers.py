"""The contract of samplers: each name that ``--sampler`` takes goes through the same tests."""

import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import cast

import optuna
import pytest
from optuna.samplers import BaseSampler
from optuna.testing.pytest_samplers import BasicSamplerTestCase, SingleOnlySamplerTestCase
from optuna.trial import TrialState

from tests.conftest import need
from tests.optimizer.test_simulation import GPU, SLA
from tests.optimizer.test_study import Bench, Formula, Killed, ignore, in_memory, number
from tests.simulated import windows
from tuner.deployments.subjects import Subject
from tuner.errors import UsageError
from tuner.goals.objective import Objective
from tuner.load.arrivals import Arrivals
from tuner.load.batches import BatchMix
from tuner.measurement.calibrate import CalibrationPlan
from tuner.model.config import fit_space, own_settings, parse_config, render
from tuner.model.space import (
    DYNAMIC_BATCHING,
    INSTANCE_COUNT,
    MAX_BATCH_SIZE,
    QUEUE_DELAY,
    Candidate,
)
from tuner.model.space_file import parse_space
from tuner.optimizer.samplers.choose import make_sampler
from tuner.optimizer.samplers.simulation import SimulationSampler
from tuner.optimizer.simulators import OneModel, Workload
from tuner.optimizer.stopping import Budget, Stop
from tuner.optimizer.study import Measurer, Study
from tuner.optimizer.suggestion import params, suggest
from tuner.records.results import Cost, Evaluation, State
from tuner.records.run import Run

MODEL = parse_config('name: "m" max_batch_size: 4', "config.pbtxt")
CONDITIONAL = fit_space(
    parse_space(
        "parameters: {dynamic_batching: [true, false], max_batch_size: [1, 2, 4, 8, 16, 32], "
        "max_queue_delay_microseconds: {range: [0, 4000], step: 500}, "
        "instance_count: {range: [1, 4]}}",
        "here",
    ),
    MODEL,
)
SMALL = fit_space(
    parse_space(
        "parameters: {dynamic_batching: [true, false], max_batch_size: [4, 8], "
        "instance_count: {range: [1, 2]}}",
        "here",
    ),
    MODEL,
)
OWN = own_settings(CONDITIONAL, MODEL)
WORKLOAD = Workload(SLA, Arrivals.POISSON, BatchMix())
PACKAGE = """
import optuna

class HomeMadeSampler(optuna.samplers.RandomSampler):
    "As packages of OptunaHub define them."

__all__ = ["HomeMadeSampler"]
"""

Make = Callable[..., BaseSampler]


class Servers(Bench):
    """As the bench, with servers that show what the simulation needs to know."""

    def __init__(self, run: Run, formula: Formula) -> None:
        super().__init__(formula)
        self._run = run

    def calibrate(self, plan: CalibrationPlan) -> list[tuple[Candidate, str]]:
        self._run.append_windows(windows(GPU, (2, 8, 32), (2, 4)))
        return []


class Shop(Servers):
    """What each candidate comes to at one rate; what failed comes to nothing that is known."""

    def _evaluation(self, subject: Subject, phase: str, formula: Formula) -> Evaluation:
        evaluation = super()._evaluation(subject, phase, formula)
        if evaluation.state is State.FAILED:
            return evaluation
        count = float(number(subject.candidate, INSTANCE_COUNT))
        cost = Cost(objective="instances", rate=9.0, value=count, low=count, high=count)
        return evaluation.model_copy(update={"cost": cost})


def good(candidate: Candidate) -> float:
    """Large batches on many instances are good, delays are not."""
    batch, delay = candidate.get(MAX_BATCH_SIZE), candidate.get(QUEUE_DELAY)
    size = batch if isinstance(batch, int) else 1
    loss = delay / 1e3 if isinstance(delay, int) else 0.0
    return 10.0 * size * number(candidate, INSTANCE_COUNT) - loss


def treacherous(candidate: Candidate) -> float | None:
    """Three instances fail, two miss the SLA."""
    match number(candidate, INSTANCE_COUNT):
        case 3:
            raise ValueError
        case 2:
            return None
    return good(candidate)


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    """A registry of OptunaHub with one package, on this machine."""
    need(find_spec("optunahub") is not None, "no optunahub; pip install 'triton-tuner[hub]'")
    package = tmp_path / "registry" / "samplers" / "home_made"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(PACKAGE)
    return package.parents[1]


@pytest.fixture(params=["simulation", "tpe", "gp", "random", "hub"])
def make(request: pytest.FixtureRequest) -> Make:
    """Makes the sampler of that name, for a seed and a space."""
    name: str = request.param
    if name == "hub":
        name = f"hub:{request.getfixturevalue('registry')}/samplers/home_made"

    def sampler(seed: int = 0, workload: Workload = WORKLOAD, space: object = None) -> BaseSampler:
        if name == "simulation":
            chosen = CONDITIONAL if space is None else space
            simulator = OneModel(workload, lambda c: render(MODEL, c), seed)
            minimizes = workload.objective is not None
            return SimulationSampler(chosen, simulator, seed, minimizes=minimizes)
        return make_sampler(name, seed)

    return sampler


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "run", {})


def started(run: Run, sampler: BaseSampler, bench: Bench, storage: str | None = None) -> Study:
    return Study(run, CONDITIONAL, OWN, cast(Measurer, bench), sampler, storage)


def test_what_it_asks_for_is_a_candidate_of_a_conditional_space(make: Make, run: Run) -> None:
    bench = Servers(run, good)
    budget = Budget(9, 1e6, until=1e-9)
    assert started(run, make(), bench, in_memory()).search(budget, ignore) is Stop.TRIALS
    asked = [subject.candidate for subject in bench.searched]
    assert len(set(asked)) == 9
    assert set(asked) <= set(CONDITIONAL.candidates() or {})
    assert {candidate.get(DYNAMIC_BATCHING) for candidate in asked} == {True, False}


def test_failures_and_misses_do_not_stop_it(make: Make, run: Run) -> None:
    study = started(run, make(), Servers(run, treacherous), in_memory())
    assert study.search(Budget(10, 1e6, until=1e-9), ignore) is Stop.TRIALS
    assert any(each.state is not State.OK for each in study.evaluations)
    assert max(each.capacity or 0.0 for each in study.evaluations) > good(Candidate.of(OWN))


def test_failures_do_not_stop_it_where_a_cost_is_minimised(make: Make, run: Run) -> None:
    workload = Workload(
        SLA, Arrivals.POISSON, BatchMix(), objective=Objective.parse("instances", 9.0)
    )
    bench = cast(Measurer, Shop(run, treacherous))
    study = Study(run, CONDITIONAL, OWN, bench, make(0, workload), in_memory(), minimizes=True)
    assert study.search(Budget(9, 1e6, until=1e-9), ignore) in (Stop.TRIALS, Stop.CONVERGED)
    assert study.has_found()


@pytest.mark.usefixtures("unsynced")
def test_a_search_that_was_cut_goes_on(make: Make, run: Run) -> None:
    count = 0

    def until_killed(candidate: Candidate) -> float:
        nonlocal count
        count += 1
        if count == 8:
            raise Killed
        return good(candidate)

    bench = Servers(run, until_killed)
    with pytest.raises(Killed):
        started(run, make(), bench).search(Budget(9, 1e6, until=1e-9), ignore)
    cut = bench.searched[-1]
    bench = Servers(run, good)
    study = started(run, make(), bench)
    assert study.search(Budget(9, 1e6, until=1e-9), ignore) is Stop.TRIALS
    assert bench.searched[0] == cut
    assert len({each.candidate for each in study.evaluations}) == 9


def test_it_ends_on_an_exhausted_space(make: Make, run: Run) -> None:
    sampler = make(0, WORKLOAD, SMALL)
    bench = cast(Measurer, Servers(run, good))
    study = Study(run, SMALL, own_settings(SMALL, MODEL), bench, sampler, in_memory())
    assert study.search(Budget(None, 1e6, until=1e-12), ignore) in (Stop.EXHAUSTED, Stop.CONVERGED)
    measured = {each.candidate for each in study.evaluations}
    if isinstance(sampler, SimulationSampler):  # which ends once nothing is to be gained
        assert 3 <= len(measured) <= (SMALL.count() or 0)
    else:
        assert len(measured) == SMALL.count()


def test_the_same_seed_asks_for_the_same(make: Make, tmp_path: Path) -> None:
    asked = []
    for seed in (5, 5):
        run = Run.create(tmp_path / f"run{len(asked)}", {})
        bench = Servers(run, treacherous)
        started(run, make(seed), bench, in_memory()).search(Budget(9, 1e6, until=1e-9), ignore)
        asked.append([subject.candidate for subject in bench.searched])
    assert asked[0] == asked[1]


def test_any_study_of_optuna_can_use_it(make: Make) -> None:
    sampler = make()
    if isinstance(sampler, SimulationSampler):
        sampler.calibrate(windows(GPU, (2, 8, 32), (2, 4)))
    asked: list[Candidate] = []

    def objective(trial: optuna.Trial) -> float:
        asked.append(suggest(trial, CONDITIONAL))
        if number(asked[-1], INSTANCE_COUNT) == 3:
            raise optuna.TrialPruned
        if number(asked[-1], INSTANCE_COUNT) == 2:
            raise ValueError
        return good(asked[-1])

    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(objective, n_trials=10, catch=ValueError)
    assert set(asked) <= set(CONDITIONAL.candidates() or {})
    assert study.best_value == max(t.value for t in study.trials if t.value is not None)


class TestSimulationSampler:
    """What it promises besides, in a plain study of Optuna."""

    @pytest.fixture
    def sampler(self) -> SimulationSampler:
        made = SimulationSampler(CONDITIONAL, OneModel(WORKLOAD, lambda c: render(MODEL, c), 0))
        made.calibrate(windows(GPU, (2, 8, 32), (2, 4)))
        return made

    @pytest.fixture
    def study(self, sampler: SimulationSampler) -> optuna.Study:
        return optuna.create_study(direction="maximize", sampler=sampler)

    def test_it_asks_for_what_it_forecasts_most_of(
        self, sampler: SimulationSampler, study: optuna.Study
    ) -> None:
        forecast = sampler.forecast(study)
        assert forecast is not None
        proposal = forecast.propose()
        assert proposal is not None
        trial = study.ask()
        assert suggest(trial, CONDITIONAL) == proposal.candidate
        assert trial.params == params(CONDITIONAL, proposal.point)

    def test_what_runs_or_waits_is_not_proposed_again(self, study: optuna.Study) -> None:
        trials = [study.ask() for _ in range(6)]
        assert len({suggest(trial, CONDITIONAL) for trial in trials}) == 6

    def test_what_failed_or_was_pruned_is_not_proposed_again(self, study: optuna.Study) -> None:
        first, second = study.ask(), study.ask()
        candidates = {suggest(trial, CONDITIONAL) for trial in (first, second)}
        study.tell(first, state=TrialState.FAIL)
        study.tell(second, state=TrialState.PRUNED)
        assert suggest(study.ask(), CONDITIONAL) not in candidates

    def test_what_ran_out_of_memory_counts_against_all_that_need_more(
        self, study: optuna.Study
    ) -> None:
        for _ in range(3):
            trial = study.ask()
            failed = suggest(trial, CONDITIONAL)
            trial.set_user_attr("failure", "CUDA out of memory")
            study.tell(trial, state=TrialState.FAIL)
        following = suggest(study.ask(), CONDITIONAL)
        assert number(following, INSTANCE_COUNT) < number(failed, INSTANCE_COUNT) or number(
            following, MAX_BATCH_SIZE
        ) < number(failed, MAX_BATCH_SIZE)

    def test_an_interval_says_how_far_to_trust_a_value(
        self, sampler: SimulationSampler, study: optuna.Study
    ) -> None:
        expected = []
        for share in (0.01, 0.5):
            study = optuna.create_study(direction="maximize", sampler=sampler)
            trial = study.ask()
            candidate = suggest(trial, CONDITIONAL)
            trial.set_user_attr("low", 10.0 * (1 - share))
            trial.set_user_attr("high", 10.0 * (1 + share))
            study.tell(trial, 10.0)
            forecast = sampler.forecast(study)
            assert forecast is not None
            expected.append(forecast.expected(candidate))
        assert 10.0 <= expected[0] < expected[1]

    def test_values_that_a_trial_was_enqueued_with_stay(self, study: optuna.Study) -> None:
        study.enqueue_trial({INSTANCE_COUNT: 2, MAX_BATCH_SIZE: 8})
        candidate = suggest(study.ask(), CONDITIONAL)
        assert (candidate.get(INSTANCE_COUNT), candidate.get(MAX_BATCH_SIZE)) == (2, 8)

    def test_what_it_knows_nothing_of_is_left_to_the_fallback(self, study: optuna.Study) -> None:
        trial = study.ask()
        assert 0.0 <= trial.suggest_float("of nobody's", 0.0, 1.0) <= 1.0
        assert trial.suggest_int(INSTANCE_COUNT, 100, 200) >= 100  # beyond what it proposes
        study.tell(trial, 1.0)

    def test_once_nothing_is_left_the_fallback_samples(self) -> None:
        sampler = SimulationSampler(SMALL, OneModel(WORKLOAD, lambda c: render(MODEL, c), 0))
        sampler.calibrate(windows(GPU, (2, 8, 32), (2, 4)))
        study = optuna.create_study(direction="maximize", sampler=sampler)
        size = SMALL.count() or 0
        asked: list[Candidate] = []
        for _ in range(size + 2):
            trial = study.ask()
            asked.append(suggest(trial, SMALL))
            study.tell(trial, good(asked[-1]))
        assert set(asked[:size]) == set(asked)
        assert len(set(asked)) == size

    def test_a_study_of_the_other_direction_is_refused(self, sampler: SimulationSampler) -> None:
        study = optuna.create_study(direction="minimize", sampler=sampler)
        with pytest.raises(UsageError, match="direction='maximize'"):
            study.ask()


class TestAsOptunaTests(BasicSamplerTestCase, SingleOnlySamplerTestCase):
    """Optuna's own suite, with parameters of which the sampler knows nothing."""

    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        workload = Workload(
            SLA, Arrivals.POISSON, BatchMix(), objective=Objective.parse("instances", 9.0)
        )

        def calibrated() -> BaseSampler:
            simulator = OneModel(workload, lambda c: render(MODEL, c), 0)
            made = SimulationSampler(SMALL, simulator, minimizes=True)
            made.calibrate(windows(GPU, (2, 8, 32), (2, 4)))
            return made

        return calibrated


class TestNames:
    def test_a_package_of_the_registry_is_found_by_its_name(
        self, registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """From OptunaHub's cache, as after a download."""
        cache = tmp_path / "cache/github.com/optuna/optunahub-registry/main"
        cache.mkdir(parents=True)
        registry.rename(cache / "package")
        monkeypatch.setenv("OPTUNAHUB_CACHE_HOME", str(tmp_path / "cache"))
        assert type(make_sampler("hub:samplers/home_made", 0)).__name__ == "HomeMadeSampler"

    @pytest.mark.parametrize(
        ("source", "message"),
        [
            ("", "exactly one sampler; it has none"),
            ("raise RuntimeError('no such luck')", "could not be loaded: no such luck"),
            (PACKAGE.replace('"As', 'def __init__(self, given): "As'), "cannot be used: .*given"),
        ],
    )
    def test_a_package_that_is_of_no_use_is_named(
        self, registry: Path, source: str, message: str
    ) -> None:
        package = registry / "samplers/home_made"
        (package / "__init__.py").write_text(source)
        with pytest.raises(UsageError, match=message):
            make_sampler(f"hub:{package}", 0)

    @pytest.mark.parametrize(
        ("name", "package", "extra"),
        [("gp", "torch", "torch"), ("hub:samplers/auto_sampler", "optunahub", "hub")],
    )
    def test_a_package_that_is_missing_is_named(
        self, name: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, package, None)  # as where it is not installed
        with pytest.raises(UsageError, match=rf"{package}: pip install 'triton-tuner\[{extra}\]'"):
            make_sampler(name, 0)

    def test_a_name_that_is_none_is_refused(self) -> None:
        with pytest.raises(UsageError, match="no sampler is named 'magic'"):
            make_sampler("magic", 0)
