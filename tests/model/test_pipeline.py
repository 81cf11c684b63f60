"""The steps of an ensemble, as its configuration and those of its composing models tell them."""

from pathlib import Path

import pytest

from tuner.errors import ModelConfigError
from tuner.model.config import read_config
from tuner.model.pipeline import Pipeline, Step

Wires = dict[str, str]


def add_model(repository: Path, name: str, text: str = "") -> None:
    (repository / name).mkdir()
    (repository / name / "config.pbtxt").write_text(f'name: "{name}" {text}')


def add_ensemble(repository: Path, name: str, *steps: tuple[str, Wires, Wires]) -> None:
    def wires(kind: str, ends: Wires) -> str:
        return " ".join(f'{kind} {{ key: "{k}" value: "{v}" }}' for k, v in ends.items())

    text = " ".join(
        f'step {{ model_name: "{model}" {wires("input_map", reads)} {wires("output_map", makes)} }}'
        for model, reads, makes in steps
    )
    ends = 'input { name: "IN" data_type: TYPE_FP32 dims: 1 }'
    add_model(repository, name, f'platform: "ensemble" {ends} ensemble_scheduling {{ {text} }}')


def pipeline(repository: Path, name: str) -> Pipeline:
    found = Pipeline.of(repository / name, read_config(repository / name))
    assert found is not None
    return found


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for name in ("a", "b", "c"):
        add_model(tmp_path, name)
    return tmp_path


def test_a_model_of_its_own_is_no_pipeline(repository: Path) -> None:
    assert Pipeline.of(repository / "a", read_config(repository / "a")) is None


def test_steps_come_in_the_order_of_their_tensors(repository: Path) -> None:
    add_ensemble(
        repository,
        "whole",
        ("b", {"x": "mid"}, {"y": "OUT"}),
        ("a", {"x": "IN"}, {"y": "mid"}),
    )
    found = pipeline(repository, "whole")
    assert found.steps == (Step("a"), Step("b", (0,)))
    assert found.models == ("a", "b")


def test_steps_that_do_not_wait_for_each_other_run_at_once(repository: Path) -> None:
    add_ensemble(
        repository,
        "fan",
        ("a", {"x": "IN"}, {"y": "left"}),
        ("b", {"x": "IN"}, {"y": "right"}),
        ("c", {"x": "left", "z": "right"}, {"y": "OUT"}),
    )
    assert pipeline(repository, "fan").steps == (Step("a"), Step("b"), Step("c", (0, 1)))


def test_a_nested_ensemble_is_replaced_by_its_steps(repository: Path) -> None:
    add_ensemble(
        repository,
        "inner",
        ("a", {"x": "IN"}, {"y": "made"}),
        ("b", {"x": "made"}, {"y": "OUT"}),
    )
    add_ensemble(
        repository,
        "outer",
        ("a", {"x": "IN"}, {"y": "first"}),
        ("inner", {"IN": "first"}, {"OUT": "second"}),
        ("c", {"x": "second"}, {"y": "OUT"}),
    )
    found = pipeline(repository, "outer")
    assert found.steps == (Step("a"), Step("a", (0,)), Step("b", (1,)), Step("c", (2,)))
    assert found.models == ("a", "b", "c")


def test_a_step_may_leave_its_configuration_to_triton(repository: Path) -> None:
    (repository / "bare").mkdir()
    add_ensemble(repository, "whole", ("bare", {"x": "IN"}, {"y": "OUT"}))
    assert pipeline(repository, "whole").steps == (Step("bare"),)


def test_an_optional_input_of_a_nested_ensemble_may_get_nothing(repository: Path) -> None:
    add_ensemble(repository, "inner", ("a", {"x": "IN"}, {"y": "OUT"}))
    add_ensemble(repository, "outer", ("inner", {}, {"OUT": "OUT"}))
    assert pipeline(repository, "outer").steps == (Step("a"),)


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([("gone", {"x": "IN"}, {"y": "OUT"})], "whole calls the model gone, which is not in"),
        ([("whole", {"IN": "IN"}, {"y": "OUT"})], "contain each other: whole > whole"),
        ([("outer", {"IN": "IN"}, {"y": "OUT"})], "contain each other: whole > outer > whole"),
        (
            [("a", {"x": "late"}, {"y": "mid"}), ("b", {"x": "mid"}, {"y": "late"})],
            "the step a reads 'late', which no step before it makes",
        ),
        ([("a", {"x": "typo"}, {"y": "OUT"})], "the step a reads 'typo'"),
        ([], "an ensemble without a step"),
    ],
)
def test_a_pipeline_that_cannot_work_is_told(
    repository: Path, steps: list[tuple[str, Wires, Wires]], words: str
) -> None:
    add_ensemble(repository, "outer", ("whole", {"IN": "IN"}, {"OUT": "OUT"}))
    add_ensemble(repository, "whole", *steps)
    with pytest.raises(ModelConfigError, match=words):
        pipeline(repository, "whole")
