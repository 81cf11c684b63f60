from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import optuna
import pytest
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from tests.conftest import ROOT
from tests.goals.test_constraints import probe
from tuner.deployments.subjects import Subject
from tuner.errors import SpaceError, StorageError, UsageError
from tuner.model.config import fit_space, own_settings, parse_config
from tuner.model.parameter import Value
from tuner.model.space import (
    DYNAMIC_BATCHING,
    INSTANCE_COUNT,
    MAX_BATCH_SIZE,
    QUEUE_DELAY,
    Candidate,
    SearchSpace,
)
from tuner.model.space_file import parse_space
from tuner.optimizer.samplers.choose import make_sampler
from tuner.optimizer.stopping import Budget, Stop
from tuner.optimizer.storage import check_storage, hide_password, is_finished
from tuner.optimizer.study import Measurer, Study
from tuner.records.results import Cost, Evaluation, State, baseline, best
from tuner.records.run import Run
from tuner.resources import bundled

AT_ONCE = Budget(trials=6, seconds=1e6)
SPACE = "parameters: {max_batch_size: [1, 2, 4, 8, 16], instance_count: {range: [1, 4]}}"
SMALL = "parameters: {max_batch_size: [1, 2], instance_count: {range: [1, 2]}}"
MODEL = 'name: "m" max_batch_size: 4'
Formula = Callable[[Candidate], float | None]


class Killed(BaseException):
    """As Ctrl-C or a kill: nothing of the search may catch it."""


_LOWEST_RATE = 5.0
"""Requests/s that what is infeasible was tried at."""


class Bench:
    """Stands where the evaluator does: the capacity is a formula of the candidate.

    None means infeasible with a margin of 2; raising ValueError means that the server failed.
    """

    def __init__(self, formula: Formula, seconds: float = 1.0) -> None:
        self.formula = formula
        self.confirmed_capacity: Formula = formula
        self.searched: list[Subject] = []
        self.confirmed: list[Subject] = []
        self.again: list[Subject] = []
        self.to_beat: list[float] = []
        self._seconds = seconds

    def search(
        self, subject: Subject, to_beat: float, phase: str = "search", expected: float = 0.0
    ) -> Evaluation:
        if phase == "again":
            self.again.append(subject)
        else:
            self.searched.append(subject)
            self.to_beat.append(to_beat)
        return self._evaluation(subject, phase, self.formula)

    def confirm(self, finalists: list[tuple[Subject, float]], look: int = 0) -> list[Evaluation]:
        self.confirmed += [subject for subject, _ in finalists]
        found = [self._evaluation(s, "confirm", self.confirmed_capacity) for s, _ in finalists]
        return [each.model_copy(update={"look": look}) for each in found]

    def _evaluation(self, subject: Subject, phase: str, formula: Formula) -> Evaluation:
        values: dict[str, Any] = {"state": State.FAILED, "failure": "no such luck"}
        try:
            capacity = formula(subject.candidate)
            values = {
                "state": State.INFEASIBLE if capacity is None else State.OK,
                "capacity": capacity,
                "bound_ratio": 2.0 if capacity is None else 0.5,
                "probes": (probe().model_copy(update={"rate": _LOWEST_RATE}),)
                if capacity is None
                else (),
            }
        except ValueError:
            pass
        return Evaluation(
            trial=subject.trial,
            phase=phase,  # type: ignore[arg-type]
            baseline=subject.baseline,
            settings=dict(subject.candidate.settings),
            config="",
            started="2025-01-01T00:00:00+00:00",
            seconds=self._seconds,
            **values,
        )


def number(candidate: Candidate, path: str) -> int:
    value = candidate.get(path)
    assert isinstance(value, int)
    return value


def product(candidate: Candidate) -> float:
    """The more the better: different for (nearly) every candidate."""
    return 10.0 * number(candidate, MAX_BATCH_SIZE) + number(candidate, INSTANCE_COUNT)


def apart(candidate: Candidate) -> float:
    """As product, but no two are near each other."""
    return float(1.3 ** product(candidate))


def nothing(candidate: Candidate) -> None:
    return None


def failing(candidate: Candidate) -> float:
    raise ValueError


def ignore(evaluation: Evaluation) -> None:
    pass


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "run")


def in_memory() -> str:
    """For searches whose file nobody reads, ten times as fast; Optuna takes it as it does a URL."""
    return cast(str, InMemoryStorage())


def make(
    run: Run,
    bench: Bench,
    space: str = SPACE,
    model: str = MODEL,
    storage: str | None = None,
    study_name: str | None = None,
) -> Study:
    config = parse_config(model, "config.pbtxt")
    fitted: SearchSpace = fit_space(parse_space(space, "space.yaml"), config)
    own = own_settings(fitted, config)
    sampler = make_sampler("tpe", 0)
    return Study(run, fitted, own, cast(Measurer, bench), sampler, storage, study_name)


def trials(run: Run, storage: str | None = None) -> list[optuna.trial.FrozenTrial]:
    url = storage or f"sqlite:///{run.study_file}"
    return optuna.load_study(study_name=run.folder.name, storage=url).trials


@pytest.mark.usefixtures("unsynced")
class TestSearch:
    def test_the_baseline_is_trial_0_and_the_best_so_far_is_to_beat(self, run: Run) -> None:
        bench = Bench(product)
        study = make(run, bench, storage=in_memory())
        heard: list[Evaluation] = []
        assert study.search(AT_ONCE, heard.append) is Stop.TRIALS
        assert [subject.baseline for subject in bench.searched] == [True] + 5 * [False]
        first = bench.searched[0]
        assert first.trial == 0
        assert dict(first.candidate.settings) == {MAX_BATCH_SIZE: 4, INSTANCE_COUNT: 1}
        assert first.changes == Candidate()
        assert heard == study.evaluations == run.evaluations()
        assert baseline(heard) == heard[0]
        capacities = [product(subject.candidate) for subject in bench.searched]
        assert bench.to_beat == [max(capacities[:n], default=0.0) for n in range(6)]

    def test_no_candidate_is_measured_twice_and_a_small_space_ends(self, run: Run) -> None:
        bench = Bench(product)
        study = make(run, bench, SMALL, 'name: "m" max_batch_size: 2')
        assert study.search(Budget(None, 1e6), ignore) is Stop.EXHAUSTED
        measured = [subject.candidate for subject in bench.searched]
        assert len(set(measured)) == len(measured) == 4
        assert all(trial.state is TrialState.COMPLETE for trial in trials(run))

    def test_what_is_off_is_not_varied(self, run: Run) -> None:
        space = (
            "parameters: {dynamic_batching: [true, false], max_queue_delay_microseconds: [0, 500]}"
        )
        bench = Bench(lambda candidate: 1.0)
        study = make(run, bench, space, MODEL + " dynamic_batching {}")
        assert study.search(Budget(None, 1e6), ignore) is Stop.EXHAUSTED
        settings = [dict(subject.candidate.settings) for subject in bench.searched]
        assert sorted(settings, key=str) == sorted(
            [
                {DYNAMIC_BATCHING: True, QUEUE_DELAY: 0},
                {DYNAMIC_BATCHING: True, QUEUE_DELAY: 500},
                {DYNAMIC_BATCHING: False},
            ],
            key=str,
        )

    def test_the_best_of_a_space_is_found_before_all_of_it_is_measured(self, run: Run) -> None:
        study = make(run, Bench(product), storage=in_memory())
        study.search(Budget(12, 1e6), ignore)
        winner = best(study.evaluations)
        assert winner is not None
        assert winner.settings[MAX_BATCH_SIZE] == 16

    def test_however_short_the_time_the_baseline_is_measured(self, run: Run) -> None:
        study = make(run, Bench(product, seconds=10.0), storage=in_memory())
        assert study.search(Budget(None, 0.001), ignore) is Stop.TIMEOUT
        assert [each.baseline for each in study.evaluations] == [True]

    def test_a_promise_that_nothing_comes_near_ends_it(self, run: Run) -> None:
        study = make(run, Bench(nothing), storage=in_memory())
        assert study.search(Budget(None, 1e6), ignore) is Stop.HOPELESS
        assert len(study.evaluations) == 5
        assert best(study.evaluations) is None

    def test_a_failed_candidate_does_not_stop_it_and_is_not_measured_again(self, run: Run) -> None:
        def mostly(candidate: Candidate) -> float:
            if number(candidate, INSTANCE_COUNT) == 2:
                raise ValueError
            return product(candidate)

        bench = Bench(mostly)
        study = make(run, bench, SMALL, 'name: "m" max_batch_size: 2', in_memory())
        assert study.search(Budget(None, 1e6), ignore) is Stop.EXHAUSTED
        states = [each.state for each in study.evaluations]
        assert states.count(State.FAILED) == 2
        assert len(states) == 4

    def test_the_storage_holds_values_constraints_and_failures(self, run: Run) -> None:
        def mixed(candidate: Candidate) -> float | None:
            match number(candidate, INSTANCE_COUNT):
                case 1:
                    return product(candidate)
                case 2:
                    return None
                case _:
                    raise ValueError

        study = make(run, Bench(mixed))
        study.search(Budget(9, 1e6), ignore)
        by_number = {trial.number: trial for trial in trials(run)}
        for each in study.evaluations:
            trial = by_number[each.trial]
            assert trial.value == (each.capacity or 0.0)
            assert trial.user_attrs["candidate"] == each.label
            constraint = trial.constraints["sla"]
            match each.state:
                case State.OK:
                    assert constraint <= 0
                case State.INFEASIBLE:
                    assert constraint == pytest.approx(1.0)
                case State.FAILED:
                    assert constraint > 100
                    assert trial.user_attrs["failure"] == "no such luck"
        assert {e.state for e in study.evaluations} == set(State) - {State.BEATEN}


@pytest.mark.usefixtures("unsynced")
class TestResume:
    def test_it_goes_on_with_the_same_records(self, run: Run) -> None:
        first = Bench(product)
        make(run, first).search(Budget(3, 1e6), ignore)
        second = Bench(product)
        study = make(run, second)
        assert len(study.evaluations) == 3
        assert study.search(AT_ONCE, ignore) is Stop.TRIALS
        measured = [subject.candidate for subject in first.searched + second.searched]
        assert len(second.searched) == 3
        assert len(set(measured)) == 6
        assert [each.candidate for each in run.evaluations()] == measured
        assert not any(subject.baseline for subject in second.searched)

    @pytest.mark.parametrize(("seconds", "stop"), [(45.0, Stop.TIMEOUT), (90.0, Stop.TRIALS)])
    def test_time_spent_before_and_time_to_confirm_count(
        self, run: Run, seconds: float, stop: Stop
    ) -> None:
        make(run, Bench(product, seconds=10.0)).search(Budget(3, 1e6), ignore)
        bench = Bench(product)  # 30 s are spent, and a part is set aside to confirm
        assert make(run, bench).search(Budget(4, seconds), ignore) is stop
        assert len(bench.searched) == (stop is Stop.TRIALS)

    def test_without_a_confirmation_no_time_is_set_aside_for_it(self, run: Run) -> None:
        make(run, Bench(product, seconds=10.0)).search(Budget(3, 1e6), ignore)
        bench = Bench(product)
        budget = Budget(4, 45.0, confirms=False)
        assert make(run, bench).search(budget, ignore) is Stop.TRIALS

    def test_failed_candidates_are_not_measured_again(self, run: Run) -> None:
        space, model = SMALL, 'name: "m" max_batch_size: 2'
        make(run, Bench(failing), space, model).search(Budget(3, 1e6), ignore)
        bench = Bench(product)
        assert make(run, bench, space, model).search(Budget(None, 1e6), ignore) is Stop.EXHAUSTED
        assert len(bench.searched) == 1

    def test_a_killed_trial_goes_on_under_its_number(self, run: Run) -> None:
        self.kill_at(run, 3)
        cut = [trial for trial in trials(run) if trial.state is TrialState.RUNNING]
        make(run, Bench(product)).search(Budget(3, 1e6), ignore)
        after = trials(run)
        assert {trial.state for trial in after} == {TrialState.COMPLETE}
        assert [trial.params for trial in after if trial.number == cut[0].number] == [cut[0].params]

    def test_a_record_that_the_storage_missed_is_not_measured_again(self, run: Run) -> None:
        def killed(evaluation: Evaluation) -> None:
            raise Killed

        study = make(run, Bench(product))
        with pytest.raises(Killed):
            study.search(AT_ONCE, killed)  # kept, but not yet told
        bench = Bench(product)
        make(run, bench).search(Budget(4, 1e6), ignore)
        assert len(bench.searched) == 3
        assert len({each.candidate for each in run.evaluations()}) == 4

    def test_another_runs_study_in_a_shared_storage_is_left_alone(
        self, run: Run, tmp_path: Path
    ) -> None:
        storage = f"sqlite:///{tmp_path}/shared.db"
        make(run, Bench(product), storage=storage).search(Budget(3, 1e6), lambda _: None)
        known = trials(run, storage)
        other = Run.create(tmp_path / "elsewhere" / run.folder.name)
        with pytest.raises(StorageError, match="already has a study"):
            make(other, Bench(product), storage=storage)
        assert [each.params for each in trials(run, storage)] == [each.params for each in known]

    def test_without_its_storage_it_goes_on_from_the_records(self, run: Run) -> None:
        make(run, Bench(product)).search(Budget(3, 1e6), ignore)
        run.study_file.unlink()
        bench = Bench(product)
        assert make(run, bench).search(AT_ONCE, ignore) is Stop.TRIALS
        assert len(bench.searched) == 3
        found = run.evaluations()
        assert len({each.candidate for each in found}) == 6
        assert len({each.trial for each in found}) == 6, "two candidates go by one number"

    def test_a_trial_without_a_record_is_measured_again(self, run: Run) -> None:
        make(run, Bench(product)).search(Budget(3, 1e6), ignore)
        first, second, _ = run.evaluations_file.read_bytes().splitlines(keepends=True)
        run.evaluations_file.write_bytes(first + second)
        bench = Bench(product)
        study = make(run, bench)
        assert study.search(Budget(None, 1e6), ignore) is Stop.EXHAUSTED
        assert len({each.candidate for each in run.evaluations()}) == 20
        assert len(bench.searched) == 18

    def test_a_kill_during_the_baseline_does_not_lose_it(self, run: Run) -> None:
        model = MODEL + " instance_group { count: 3 }"
        self.kill_at(run, 1, model)
        study = make(run, Bench(product), model=model)
        study.search(Budget(2, 1e6), ignore)
        assert baseline(study.evaluations) is not None

    def kill_at(self, run: Run, measurement: int, model: str = MODEL) -> None:
        count = 0

        def until_killed(candidate: Candidate) -> float:
            nonlocal count
            count += 1
            if count == measurement:
                raise Killed
            return product(candidate)

        with pytest.raises(Killed):
            make(run, Bench(until_killed), model=model).search(AT_ONCE, ignore)

    def test_a_finished_search_says_so(self, run: Run) -> None:
        assert not is_finished(run, None)
        study = make(run, Bench(product))
        study.search(Budget(1, 1e6), ignore)
        assert study.stopped is None
        assert not is_finished(run, None)
        study.finish(Stop.TRIALS)
        assert is_finished(run, None)
        assert make(run, Bench(product)).stopped == "the maximum number of trials was reached"

    def test_a_finished_run_stays_finished_under_another_name(self, run: Run) -> None:
        study = make(run, Bench(product))
        study.search(Budget(1, 1e6), ignore)
        study.finish("trials")
        moved = Run(run.folder.rename(run.folder.with_name("elsewhere")))
        assert is_finished(moved, None)

    def test_the_sample_run_is_no_search_to_go_on_with(self) -> None:
        """Else the first search in a fresh clone would resume it."""
        assert is_finished(Run(ROOT / "reports" / "sample"), None)


@pytest.mark.usefixtures("unsynced")
class TestConfirm:
    def search(self, run: Run, confirmed: Formula = product, most: int = 4) -> tuple[Study, Bench]:
        bench = Bench(product)
        study = make(run, bench, storage=in_memory())
        study.search(Budget(most, 1e6), ignore)
        bench.confirmed_capacity = confirmed
        return study, bench

    def test_the_finalist_and_the_baseline_are_measured_again(self, run: Run) -> None:
        study, bench = self.search(run)
        heard: list[Evaluation] = []
        study.confirm(heard.append)
        top = max(bench.searched, key=lambda subject: product(subject.candidate))
        assert bench.confirmed == [top, bench.searched[0]]
        assert [each.phase for each in heard] == ["confirm", "confirm"]
        assert run.evaluations()[-2:] == heard
        winner = best(study.evaluations)
        assert winner is not None
        assert winner.phase == "confirm"
        assert winner.candidate == top.candidate

    def test_a_runner_up_that_came_near_is_confirmed_too(self, run: Run) -> None:
        def flat(candidate: Candidate) -> float:
            return 100 + product(candidate) / 100

        bench = Bench(flat)
        study = make(run, bench, storage=in_memory())
        study.search(Budget(5, 1e6), ignore)
        ranked = sorted(bench.searched, key=lambda s: flat(s.candidate), reverse=True)
        bench.confirmed_capacity = lambda c: 1.0 if c == ranked[0].candidate else flat(c)
        study.confirm(ignore)
        assert ranked[0] in bench.confirmed[:2]
        assert len(bench.confirmed) <= 3
        assert any(subject.baseline for subject in bench.confirmed)
        winner = best(study.evaluations)
        assert winner is not None
        assert winner.candidate != ranked[0].candidate

    def refuted(self, run: Run, factor: float) -> tuple[Study, Bench, list[Subject]]:
        """A search whose best candidate is confirmed at so much of what it was measured at; and the
        candidates by rank.
        """
        bench = Bench(apart)
        study = make(run, bench, storage=in_memory())
        study.search(Budget(8, 1e6), ignore)
        ranked = sorted(bench.searched, key=lambda s: apart(s.candidate), reverse=True)
        top = ranked[0].candidate
        bench.confirmed_capacity = lambda c: apart(c) * (factor if c == top else 1.0)
        study.confirm(ignore)
        return study, bench, ranked

    def test_where_the_best_is_refuted_the_next_is_confirmed_beside_it(self, run: Run) -> None:
        study, bench, ranked = self.refuted(run, 1e-9)
        own = bench.searched[0]
        assert bench.confirmed == [ranked[0], own, ranked[1], ranked[0], own]
        winner, compared = best(study.evaluations), baseline(study.evaluations)
        assert winner is not None
        assert compared is not None
        assert winner.candidate == ranked[1].candidate
        assert winner.look == compared.look == 1

    def test_what_is_refuted_a_little_stays_the_winner(self, run: Run) -> None:
        study, bench, ranked = self.refuted(run, 0.99)
        winner = best(study.evaluations)
        assert winner is not None
        assert winner.candidate == ranked[0].candidate
        assert bench.confirmed.count(bench.searched[0]) == 1

    def test_the_one_after_the_next_is_not_confirmed(self, run: Run) -> None:
        bench = Bench(apart)
        study = make(run, bench, storage=in_memory())
        study.search(Budget(6, 1e6), ignore)
        bench.confirmed_capacity = nothing
        study.confirm(ignore)
        ranked = sorted(bench.searched, key=lambda s: apart(s.candidate), reverse=True)
        assert [subject for subject in bench.confirmed if not subject.baseline] == ranked[:2]
        assert best(study.evaluations) is None
        study.confirm(ignore)
        assert max(each.look for each in study.evaluations) == 1

    def test_also_where_all_keep_the_promise_only_one_more_is_confirmed(self, run: Run) -> None:
        bench = Bench(apart)
        study = make(run, bench, storage=in_memory())
        study.search(Budget(6, 1e6), ignore)
        bench.confirmed_capacity = lambda candidate: apart(candidate) / 1e3
        study.confirm(ignore)
        ranked = sorted(bench.searched, key=lambda s: apart(s.candidate), reverse=True)
        assert {s.candidate for s in bench.confirmed if not s.baseline} == {
            s.candidate for s in ranked[:2]
        }
        assert max(each.look for each in study.evaluations) == 1

    def test_in_a_long_search_the_baseline_is_measured_again(self, run: Run) -> None:
        bench = Bench(product, seconds=100.0)
        heard: list[Evaluation] = []
        make(run, bench, storage=in_memory()).search(Budget(8, 1e6), heard.append)
        assert len(bench.searched) == 8
        assert 1 <= len(bench.again) <= 3
        assert all(subject.baseline for subject in bench.again)
        assert [e.phase for e in heard].count("again") == len(bench.again)

    def test_what_was_confirmed_before_a_kill_is_not_confirmed_again(self, run: Run) -> None:
        study = make(run, Bench(product))
        study.search(Budget(4, 1e6), ignore)
        study.confirm(ignore)
        bench = Bench(product)
        make(run, bench).confirm(ignore)
        assert bench.confirmed == []

    def test_without_a_capacity_there_is_nothing_to_confirm(self, run: Run) -> None:
        bench = Bench(nothing)
        study = make(run, bench, storage=in_memory())
        study.search(AT_ONCE, ignore)
        study.confirm(ignore)
        assert bench.confirmed == []


class Till(Bench):
    """Each candidate comes to its number of instances; ``formula`` says which keep the promise."""

    def _evaluation(self, subject: Subject, phase: str, formula: Formula) -> Evaluation:
        found = super()._evaluation(subject, phase, formula)
        count = float(number(subject.candidate, INSTANCE_COUNT))
        cost = Cost(objective="instances", rate=9.0, value=count, low=count, high=count)
        return found.model_copy(update={"cost": cost})


@pytest.mark.usefixtures("unsynced")
class TestLeastCost:
    def study(self, run: Run, bench: Bench, space: str = SPACE, model: str = MODEL) -> Study:
        config = parse_config(model, "config.pbtxt")
        fitted = fit_space(parse_space(space, "space.yaml"), config)
        own = own_settings(fitted, config)
        sampler = make_sampler("tpe", 0)
        return Study(run, fitted, own, cast(Measurer, bench), sampler, in_memory(), minimizes=True)

    def test_where_the_best_is_refuted_the_next_best_is_confirmed(self, run: Run) -> None:
        def enough(least: int) -> Formula:
            return lambda c: 9.0 if number(c, INSTANCE_COUNT) >= least else None

        bench = Till(enough(2))
        study = self.study(run, bench)
        study.search(Budget(20, 1e6), ignore)
        bench.confirmed_capacity = enough(3)
        study.confirm(ignore)
        winner = best(study.evaluations)
        assert winner is not None
        assert winner.phase == "confirm"
        assert number(winner.candidate, INSTANCE_COUNT) == 3
        assert sum(subject.baseline for subject in bench.confirmed) <= 1
        again = len(bench.confirmed)
        study.confirm(ignore)
        assert len(bench.confirmed) == again

    def test_a_baseline_that_keeps_the_promise_does_not_end_it(self, run: Run) -> None:
        bench = Till(lambda c: 9.0)
        model = MODEL + " instance_group { count: 4 }"
        study = self.study(run, bench, model=model)
        study.search(Budget(40, 1e6), ignore)
        assert {number(s.candidate, INSTANCE_COUNT) for s in bench.searched} >= {1, 2, 3, 4}
        bench.confirmed_capacity = lambda c: 9.0 if number(c, INSTANCE_COUNT) >= 3 else None
        study.confirm(ignore)
        winner = best(study.evaluations)
        assert winner is not None
        assert (winner.phase, number(winner.candidate, INSTANCE_COUNT)) == ("confirm", 3)
        assert 4 not in [
            number(s.candidate, INSTANCE_COUNT) for s in bench.confirmed if not s.baseline
        ]

    def test_it_ends_where_all_are_refuted(self, run: Run) -> None:
        bench = Till(lambda c: 9.0)
        study = self.study(run, bench, SMALL)
        study.search(Budget(20, 1e6), ignore)
        bench.confirmed_capacity = nothing
        study.confirm(ignore)
        assert best(study.evaluations) is None
        confirmed = [subject.candidate for subject in bench.confirmed]
        assert len(confirmed) == len(set(confirmed)) == len(bench.searched)

    def test_five_that_miss_one_rate_do_not_end_it(self, run: Run) -> None:
        tried: list[Candidate] = []

        def late(candidate: Candidate) -> float | None:
            tried.append(candidate)
            return 9.0 if len(tried) > 8 else None

        study = self.study(run, Till(late))
        assert study.search(Budget(12, 1e6), ignore) is Stop.TRIALS
        assert best(study.evaluations) is not None

    def test_the_study_minimises(self, run: Run) -> None:
        study = self.study(run, Till(lambda c: 9.0))
        study.search(Budget(8, 1e6), ignore)
        assert study._study.direction.name == "MINIMIZE"
        least = min(number(e.candidate, INSTANCE_COUNT) for e in study.evaluations)
        assert study._study.best_value == least


class TestStorage:
    def test_another_url_holds_the_study(self, run: Run, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path}/other.db"
        assert not is_finished(run, url)
        assert optuna.get_all_study_names(storage=url) == []
        study = make(run, Bench(product), storage=url)
        study.search(Budget(2, 1e6), ignore)
        assert not run.study_file.exists()
        assert {t.user_attrs["candidate"] for t in trials(run, url) if t.value is not None} == {
            each.label for each in study.evaluations
        }
        study.finish(Stop.TRIALS)
        assert is_finished(run, url)

    @pytest.mark.parametrize("url", ["nonsense", "oracle+nothing://host/db"])
    def test_a_url_that_is_none_is_named(self, run: Run, url: str) -> None:
        with pytest.raises(
            StorageError, match=f"the storage {url.split('+')[0]}.* failed"
        ) as error:
            make(run, Bench(product), storage=url)
        assert "sqlite:///FILE, postgresql://" in str(error.value)
        assert "disk space" not in str(error.value)

    def test_a_database_that_is_broken_is_named(self, run: Run) -> None:
        run.study_file.write_text("this is not a database" * 100)
        with pytest.raises(StorageError, match=r"study\.db failed"):
            make(run, Bench(product))

    def test_a_password_is_not_shown(self) -> None:
        shown = hide_password("mysql+pymysql://me:secret@host/db")
        assert "secret" not in shown
        assert "host/db" in shown


@pytest.mark.usefixtures("unsynced")
class TestSpaces:
    """Spaces that a model's own settings do not lie in as they are written."""

    def explore(self, run: Run, space: str, model: str, most: int = 8) -> list[dict[str, Value]]:
        bench = Bench(lambda candidate: 1.0)
        make(run, bench, space, model).search(Budget(most, 1e6), ignore)
        return [dict(subject.candidate.settings) for subject in bench.searched]

    def test_a_preset_without_small_delays_for_a_model_without_batching(self, run: Run) -> None:
        preset = bundled("search_spaces") / "throughput_first.yaml"
        assert len(self.explore(run, preset.read_text(), MODEL, 3)) == 3

    def test_a_range_without_zero_for_a_model_without_batching(self, run: Run) -> None:
        space = (
            "parameters: {dynamic_batching: [true, false], "
            "max_queue_delay_microseconds: {range: [100, 500]}}"
        )
        assert len(self.explore(run, space, MODEL, 3)) == 3

    def test_a_model_between_the_steps_of_a_range(self, run: Run) -> None:
        space = "parameters: {instance_count: {range: [1, 5], step: 2}}"
        found = self.explore(run, space, MODEL + " instance_group { count: 2 }")
        assert sorted(cast(int, each[INSTANCE_COUNT]) for each in found) == [1, 2, 3, 5]

    def test_a_range_that_its_step_does_not_divide(self, run: Run) -> None:
        found = self.explore(run, "parameters: {instance_count: {range: [1, 4], step: 2}}", MODEL)
        assert sorted(cast(int, each[INSTANCE_COUNT]) for each in found) == [1, 3]

    def test_a_step_that_leaves_whole_numbers_is_refused(self, run: Run) -> None:
        with pytest.raises(SpaceError, match="step"):
            self.explore(run, "parameters: {instance_count: {range: [1, 3], step: 0.5}}", MODEL)


class Eliminating(Bench):
    """Every second candidate is eliminated: somewhere between 10 and 40 requests/s."""

    def search(self, subject: Subject, to_beat: float, *words: Any, **named: Any) -> Evaluation:
        evaluation = super().search(subject, to_beat, *words, **named)
        if subject.trial % 2 == 0:
            return evaluation
        change = {"state": State.BEATEN, "capacity": None, "low": 10.0, "high": 40.0}
        return evaluation.model_copy(update=change)


@pytest.mark.parametrize("sampler", ["tpe", "gp", "random"])
def test_what_was_eliminated_is_pruned_for_optuna(tmp_path: Path, sampler: str) -> None:
    if sampler == "gp":
        pytest.importorskip("torch")
    run, bench = Run.create(tmp_path / "run"), Eliminating(product)
    space = fit_space(parse_space(SPACE, "space"), parse_config(MODEL, "config"))
    own = own_settings(space, parse_config(MODEL, "config"))
    Study(run, space, own, cast("Measurer", bench), make_sampler(sampler, 0)).search(
        AT_ONCE, lambda _: None
    )
    study = optuna.load_study(study_name="run", storage=f"sqlite:///{run.study_file}")
    assert study.metric_names == ["capacity, requests/s"]
    trials = [trial for trial in study.trials if "state" in trial.user_attrs]
    pruned = [trial for trial in trials if trial.state is TrialState.PRUNED]
    assert len({trial.user_attrs["candidate"] for trial in trials}) == 6
    assert bool(pruned) == (sampler != "gp"), "a Gaussian process ignores what is pruned"
    eliminated = [trial for trial in trials if trial.user_attrs["state"] == "beaten"]
    assert eliminated
    assert all(trial.value == pytest.approx(20.0) for trial in eliminated)
    assert pruned == (eliminated if sampler != "gp" else [])
    assert all({"seconds", "candidate", "low", "high"} <= set(t.user_attrs) for t in eliminated)
    again = Study(run, space, own, cast("Measurer", bench), make_sampler(sampler, 0))
    assert len(again.evaluations) == 6, "nothing is measured again"


def test_a_storage_is_checked_without_making_its_file(tmp_path: Path) -> None:
    check_storage(f"sqlite:///{tmp_path / 'new.db'}")
    assert not (tmp_path / "new.db").exists()
    with pytest.raises(StorageError, match="cannot write a file in"):
        check_storage(f"sqlite:///{tmp_path / 'nowhere' / 'new.db'}")
    with pytest.raises(StorageError, match="pip install mysqlclient"):
        check_storage("mysql://host/database")
    with pytest.raises(UsageError, match="foo is no URL; write sqlite:///FILE"):
        check_storage("foo")
