"""What is known of several models before anything is started, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.model.test_pipeline import add_ensemble, add_model
from tuner.commands.plan import Plan
from tuner.errors import ModelConfigError, TunerError, UsageError
from tuner.experiment.resolve import resolve

TENSORS = (
    'backend: "python" max_batch_size: 8 dynamic_batching { } instance_group { count: 1 } '
    'input { name: "IN" data_type: TYPE_FP32 dims: 4 } '
    'output { name: "OUT" data_type: TYPE_FP32 dims: 4 }'
)
SLA = "detector:p99<40ms,classifier:p99<20ms"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)  # where no tuner.yaml changes what is the default
    models = tmp_path / "models"
    models.mkdir()
    for name in ("detector", "classifier", "other"):
        add_model(models, name, TENSORS)
    steps = (("detector", {"IN": "IN"}, {"OUT": "mid"}), ("other", {"IN": "mid"}, {"OUT": "OUT"}))
    add_ensemble(models, "chain", *steps)
    return models


@pytest.fixture
def plan(folder: Path) -> Callable[..., Plan]:
    def make(model: str = "", tunes: bool = True, **options: Any) -> Plan:
        return Plan.of(resolve({"model": str(folder / model), "sla": SLA, **options}), tunes)

    return make


def test_the_models_with_an_sla_are_asked_alike(plan: Callable[..., Plan]) -> None:
    made = plan()
    assert made.mix is not None
    assert made.mix.shares == {"classifier": 0.5, "detector": 0.5}
    assert made.experiment.space == "several_models"
    assert made.repository is not None
    assert made.repository.tuned == ("classifier", "detector")
    assert "detector/max_batch_size" in made.space.parameters


def test_a_bound_without_a_model_counts_for_each_that_clients_call(
    plan: Callable[..., Plan],
) -> None:
    made = plan(sla="p99<30ms")  # detector and other are steps of the chain
    assert made.mix is not None
    assert set(made.mix.models) == {"chain", "classifier"}
    assert made.experiment.sla.text == "chain:p99<30ms,classifier:p99<30ms"
    assert made.repository is not None
    assert set(made.repository.tuned) == {"detector", "other", "classifier"}


def test_a_held_model_is_asked_besides_the_mix(plan: Callable[..., Plan]) -> None:
    made = plan(mix="detector=1", hold=["classifier=200"])
    assert made.mix is not None
    assert made.mix.rates(50.0) == {"detector": 50.0, "classifier": 200.0}
    again = Plan.of(made.experiment)
    assert again.mix == made.mix
    assert again.recorded == made.recorded


def test_what_is_recorded_is_the_same_plan(plan: Callable[..., Plan]) -> None:
    from tuner.experiment.model import Experiment

    made = plan(mix="detector=1,classifier=5")
    fields = made.experiment.model_dump(mode="json")
    assert Experiment.recorded(fields).mix == made.experiment.mix
    assert Experiment.recorded(fields).sla == made.experiment.sla


def test_an_ensemble_is_tuned_by_its_steps(plan: Callable[..., Plan]) -> None:
    made = plan("chain", sla="p99<50ms")
    assert made.mix is None
    assert made.repository is not None
    assert made.repository.tuned == ("detector", "other")
    assert [step.model for step in made.recorded["pipeline"]] == ["detector", "other"]
    assert made.recorded["pipeline"][1].after == (0,)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sla": "detecter:p99<40ms"}, "--sla names detecter: .* did you mean 'detector'"),
        ({"sla": "detector:p99<40ms", "mix": "detector=1,classifier=1"}, "says nothing of class"),
        ({"sla": SLA, "mix": "detector=1"}, "classifier gets no requests"),
        ({"mix": "detector=1,clasifier=5"}, "--mix names clasifier.*did you mean 'classifier'"),
        ({"mix": "detector=-1,classifier=5"}, "must be above zero"),
        ({"mix": "detector"}, "write it like detector=1,classifier=5"),
        ({"hold": ["nothing=5"]}, "--hold names nothing"),
        ({"hold": ["detector=5", "classifier=5"]}, "leaves no model"),
        ({"load": "closed"}, "--load goes with a single model"),
        ({"url": "localhost:8000"}, "on servers of tuner's own"),
        ({"model_version": "1"}, "--model-version goes with a single model"),
        ({"load_engine": "perf_analyzer"}, "--load-engine goes with a single model"),
        ({"shapes": ["IN:4"]}, "says nothing of the model"),
        ({"bls_composing_models": "other"}, "--bls-composing-models goes with one model"),
        ({"cache_hits": 0.5}, "--cache-hits goes with a single model"),
    ],
)
def test_a_mix_that_makes_no_sense_is_refused(
    plan: Callable[..., Plan], options: dict[str, Any], words: str
) -> None:
    with pytest.raises(TunerError, match=words):
        plan(**options).contents  # noqa: B018


@pytest.mark.parametrize("option", [{"mix": "detector=1"}, {"hold": ["detector=1"]}])
def test_a_mix_of_a_single_model_is_refused(
    plan: Callable[..., Plan], option: dict[str, Any]
) -> None:
    with pytest.raises(UsageError, match="goes with several models: give the folder"):
        plan("detector", sla="p99<40ms", **option)


def test_the_sla_of_a_single_model_may_name_it_but_no_other(plan: Callable[..., Plan]) -> None:
    assert plan("detector", sla="detector:p99<40ms").experiment.sla.text == "p99<40ms"
    with pytest.raises(UsageError, match="--sla names classifier, and only detector is measured"):
        plan("detector")


def test_pipelines_that_cannot_be_measured_are_refused(
    plan: Callable[..., Plan], folder: Path
) -> None:
    add_ensemble(folder, "cut", ("gone", {"IN": "IN"}, {"OUT": "OUT"}))
    with pytest.raises(ModelConfigError, match="cut calls the model gone, which is not in"):
        plan("cut", sla="p99<50ms")
    add_ensemble(folder, "round", ("round", {"IN": "IN"}, {"OUT": "OUT"}))
    with pytest.raises(ModelConfigError, match="ensembles contain each other: round > round"):
        plan("round", sla="p99<50ms")
    streams = f"{TENSORS} model_transaction_policy {{ decoupled: true }}"
    add_model(folder, "streams", streams.replace("dynamic_batching { }", ""))
    add_ensemble(folder, "stream", ("streams", {"IN": "IN"}, {"OUT": "OUT"}))
    with pytest.raises(ModelConfigError, match="stream calls streams, which is decoupled"):
        plan("stream", sla="p99<50ms")


def test_options_of_a_single_model_are_refused_of_a_pipeline(
    plan: Callable[..., Plan], folder: Path
) -> None:
    with pytest.raises(UsageError, match="--model-version goes with a single model"):
        plan("chain", sla="p99<50ms", model_version="2")
    with pytest.raises(UsageError, match="needs a server of tuner's own"):
        plan("detector", sla="p99<50ms", bls_composing_models="auto", url="localhost:8000")
    file = folder / "other" / "config.pbtxt"
    file.write_text(file.read_text() + " response_cache { enable: true }")
    with pytest.raises(UsageError, match="what it is asked would repeat"):
        plan("chain", sla="p99<50ms")


def test_a_response_cache_is_refused_where_several_are_tuned(
    plan: Callable[..., Plan], folder: Path
) -> None:
    file = folder / "other" / "config.pbtxt"
    file.write_text(file.read_text() + " response_cache { enable: true }")
    with pytest.raises(UsageError, match="other has a response cache"):
        plan(sla="p99<20ms", mix="other=1,classifier=1")
