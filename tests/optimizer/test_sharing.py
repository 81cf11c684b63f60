"""Several searches on one Optuna study, on SQLite and on PostgreSQL."""

import gc
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from tests.manifests import make_manifest
from tests.optimizer.test_study import Bench, Killed, make, product
from tuner.errors import UsageError
from tuner.model.space import Candidate
from tuner.optimizer import sharing
from tuner.optimizer.sharing import SharingSettings
from tuner.optimizer.stopping import Budget
from tuner.optimizer.storage import is_finished
from tuner.records.results import Evaluation, baseline
from tuner.records.run import Run

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*psycopg.Connection.*was deleted while still open:ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)


@pytest.fixture(params=["sqlite", "postgresql"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'shared.db'}"
    else:
        yield str(request.getfixturevalue("postgres"))
    gc.collect()  # Optuna leaves connections open: no later test is to hear of it


@pytest.fixture
def study_name(request: pytest.FixtureRequest) -> str:
    return request.node.name  # of its own in a database that other tests use as well


def a_run(folder: Path, study: str, **changes: Any) -> Run:
    return Run.create(folder, make_manifest(study_name=study, id=folder.name, **changes))


def at_most(trials: int) -> Budget:
    return Budget(trials=trials, seconds=1e6)


def searched(bench: Bench) -> set[Candidate]:
    return {subject.candidate for subject in bench.searched}


def test_two_searches_measure_apart_and_know_all(
    tmp_path: Path, storage: str, study_name: str
) -> None:
    runs = [a_run(tmp_path / name, study_name) for name in ("one", "two")]
    benches = [Bench(product), Bench(product)]
    studies = [
        make(*each, storage=storage, study_name=study_name)
        for each in zip(runs, benches, strict=True)
    ]
    heard: list[Evaluation] = []
    for trials in (2, 4, 6):  # in turns
        for study in studies:
            study.search(at_most(trials), heard.append)
    assert not searched(benches[0]) & searched(benches[1])
    assert [len(bench.searched) for bench in benches] == [6, 6]
    studies[0].search(at_most(6), heard.append)  # to hear the other's last
    for run, other in zip(runs, reversed(runs), strict=True):
        evaluations = run.evaluations()
        assert len(evaluations) == len({each.candidate for each in evaluations}) == 12
        measured_by = [each.measured_by for each in evaluations]
        assert measured_by.count(None) == 6
        assert measured_by.count(other.folder.name) == 6
        assert baseline(evaluations) is not None
    shared = optuna.load_study(study_name=study_name, storage=storage)
    assert {trial.user_attrs["run"] for trial in shared.trials} == {"one", "two"}


def test_the_best_of_another_is_confirmed_here(
    tmp_path: Path, storage: str, study_name: str
) -> None:
    make(
        a_run(tmp_path / "one", study_name), Bench(product), storage=storage, study_name=study_name
    ).search(at_most(20), lambda _: None)
    bench = Bench(product)
    study = make(a_run(tmp_path / "two", study_name), bench, storage=storage, study_name=study_name)
    study.search(at_most(1), lambda _: None)
    study.confirm(lambda _: None)
    leader = max(study.evaluations, key=lambda each: each.capacity or 0.0)
    assert leader.measured_by == "one"
    assert leader.candidate in {subject.candidate for subject in bench.confirmed}


def test_one_that_ends_leaves_the_others_at_work(
    tmp_path: Path, storage: str, study_name: str
) -> None:
    runs = [a_run(tmp_path / name, study_name) for name in ("one", "two")]
    first, _ = (make(run, Bench(product), storage=storage, study_name=study_name) for run in runs)
    first.search(at_most(2), lambda _: None)
    first.finish("enough")
    assert is_finished(runs[0], storage, study_name)
    assert not is_finished(runs[1], storage, study_name)


@pytest.mark.parametrize("change", [{"sla": "p99<10ms"}, {"load": "constant"}])
def test_a_study_of_another_experiment_is_not_joined(
    tmp_path: Path, change: dict[str, str], study_name: str
) -> None:
    storage = f"sqlite:///{tmp_path / 'shared.db'}"
    make(
        a_run(tmp_path / "one", study_name), Bench(product), storage=storage, study_name=study_name
    )
    with pytest.raises(UsageError, match=f"{next(iter(change))} is .* there and .* here"):
        make(
            a_run(tmp_path / "two", study_name, **change),
            Bench(product),
            storage=storage,
            study_name=study_name,
        )


def test_a_study_of_another_machine_is_not_joined(tmp_path: Path, study_name: str) -> None:
    storage = f"sqlite:///{tmp_path / 'shared.db'}"
    for name, gpu in (("one", "L4"), ("two", "H100")):
        run = a_run(tmp_path / name, study_name, environment={"gpu": gpu})
        if gpu == "L4":
            make(run, Bench(product), storage=storage, study_name=study_name)
            continue
        with pytest.raises(UsageError, match='gpu is "L4" there and "H100" here'):
            make(run, Bench(product), storage=storage, study_name=study_name)


def killed_at_third(candidate: Candidate, measured: list[Candidate]) -> float | None:
    measured.append(candidate)
    if len(measured) == 3:
        raise Killed
    return product(candidate)


def test_what_a_killed_search_had_in_hand_is_measured_by_another(
    tmp_path: Path, storage: str, study_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "SETTINGS", SharingSettings(heartbeat=1, grace=2))
    measured: list[Candidate] = []
    study = make(
        a_run(tmp_path / "one", study_name),
        Bench(lambda candidate: killed_at_third(candidate, measured)),
        storage=storage,
        study_name=study_name,
    )
    with pytest.raises(Killed):
        study.search(at_most(6), lambda _: None)
    time.sleep(3)
    bench = Bench(product)
    other = make(a_run(tmp_path / "two", study_name), bench, storage=storage, study_name=study_name)
    other.search(at_most(12), lambda _: None)  # after the first ideas
    assert measured[2] in searched(bench)
    assert not set(measured[:2]) & searched(bench)
    states = [t.state for t in optuna.load_study(study_name=study_name, storage=storage).trials]
    assert states.count(TrialState.FAIL) == 1


def test_a_killed_search_goes_on_with_its_own_trial_alone(
    tmp_path: Path, storage: str, study_name: str
) -> None:
    runs = [a_run(tmp_path / name, study_name) for name in ("one", "two")]
    for run in runs:
        measured: list[Candidate] = []
        bench = Bench(lambda c, m=measured: killed_at_third(c, m))  # type: ignore[misc]
        study = make(run, bench, storage=storage, study_name=study_name)
        with pytest.raises(Killed):
            study.search(at_most(6), lambda _: None)
    study = make(runs[0], Bench(product), storage=storage, study_name=study_name)
    study.search(at_most(3), lambda _: None)
    trials = optuna.load_study(study_name=study_name, storage=storage).trials
    running = [trial.user_attrs["run"] for trial in trials if trial.state is TrialState.RUNNING]
    assert running == ["two"]


def test_a_search_that_was_gone_for_long_goes_on(
    tmp_path: Path, storage: str, study_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "SETTINGS", SharingSettings(heartbeat=1, grace=2))
    run, measured = a_run(tmp_path / "one", study_name), list[Candidate]()
    bench = Bench(lambda candidate: killed_at_third(candidate, measured))
    study = make(run, bench, storage=storage, study_name=study_name)
    with pytest.raises(Killed):
        study.search(at_most(6), lambda _: None)
    time.sleep(3)
    study = make(run, Bench(product), storage=storage, study_name=study_name)
    study.search(at_most(12), lambda _: None)
    assert measured[2] in {each.candidate for each in run.evaluations()}


def test_what_another_has_in_hand_is_not_measured_as_well(tmp_path: Path, study_name: str) -> None:
    storage = f"sqlite:///{tmp_path / 'shared.db'}"
    bench, searching = Bench(product), Bench(product)
    other = make(a_run(tmp_path / "two", study_name), bench, storage=storage, study_name=study_name)

    def meanwhile(candidate: Candidate) -> float:
        if len(searching.searched) == 1:  # while the first one has its first candidate in hand
            other.search(at_most(15), lambda _: None)
        return product(candidate)

    searching.formula = meanwhile
    run = a_run(tmp_path / "one", study_name)
    first = make(run, searching, storage=storage, study_name=study_name)
    first.search(at_most(1), lambda _: None)
    assert len(bench.searched) == 15
    assert not searched(bench) & searched(searching)


def test_a_record_is_small_and_says_who_measured(tmp_path: Path, study_name: str) -> None:
    storage = f"sqlite:///{tmp_path / 'shared.db'}"
    run = a_run(tmp_path / "one", study_name)
    make(run, Bench(product), storage=storage, study_name=study_name).search(
        at_most(1), lambda _: None
    )
    (trial, *_) = optuna.load_study(study_name=study_name, storage=storage).trials
    record = trial.user_attrs["record"]
    assert json.loads(record)["measured_by"] == "one"
    assert len(record) < 20_000
