"""Several models that are tuned together: their space, their settings, their configurations."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.model.test_pipeline import add_ensemble, add_model
from tuner.errors import ModelConfigError, SpaceError
from tuner.model.config import ModelConfig, read_config
from tuner.model.repository import (
    Repository,
    configs_of,
    is_repository,
    models_in,
    server_flags,
    text_of,
)
from tuner.model.space import INSTANCE_COUNT, MAX_BATCH_SIZE, RATE_LIMIT, Candidate
from tuner.model.space_file import parse_space

SPACE = "parameters:\n  max_batch_size: [4, 8]\n  instance_group.count: [1, 2]\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        add_model(tmp_path, name, "max_batch_size: 8 dynamic_batching { }")
    steps = (("a", {"x": "IN"}, {"y": "mid"}), ("b", {"x": "mid"}, {"y": "OUT"}))
    add_ensemble(tmp_path, "whole", *steps)
    file = tmp_path / "whole" / "config.pbtxt"
    file.write_text(file.read_text() + " max_batch_size: 8")
    return tmp_path


def pipeline(folder: Path) -> Repository:
    found = Repository.of_pipeline(folder / "whole", read_config(folder / "whole"))
    assert found is not None
    return found


def test_a_folder_of_models_is_told_from_a_model(folder: Path) -> None:
    assert is_repository(folder)
    assert not is_repository(folder / "a")
    assert sorted(models_in(folder)) == ["a", "b", "whole"]


def test_a_pipeline_is_loaded_after_its_steps_which_are_tuned(folder: Path) -> None:
    found = pipeline(folder)
    assert list(found.configs) == ["a", "b", "whole"]
    assert found.tuned == ("a", "b")
    assert found.asked == ("whole",)


def test_what_is_said_without_a_model_counts_for_each_and_own_settings_are_added(
    folder: Path,
) -> None:
    text = SPACE + "  b/instance_count: [3]\n"
    found = Repository.of_models(folder, ("a", "b"))
    space = found.fit(parse_space(text, "test"))
    assert set(space.parameters) == {
        *("a/max_batch_size", "a/instance_group.count"),
        *("b/max_batch_size", "b/instance_group.count"),
    }
    assert space.parameters["a/instance_group.count"].values == (1, 2)
    assert space.parameters["b/instance_group.count"].values == (3, 1)
    own = found.own_settings(space)
    assert own["a/max_batch_size"] == 8
    assert own["b/instance_group.count"] == 1


def test_a_space_that_names_an_unknown_model_is_refused_with_its_line(folder: Path) -> None:
    text = SPACE + "  c/instance_count: [3]\n"
    with pytest.raises(SpaceError, match=r"test:4: c is not among the models.*choose from a, b"):
        Repository.of_models(folder, ("a", "b")).fit(parse_space(text, "test"))


def test_a_candidate_changes_the_configurations_of_its_models_alone(folder: Path) -> None:
    candidate = Candidate.of({"a/instance_group.count": 2, "b/max_batch_size": 4})
    configs = pipeline(folder).render(candidate)
    assert configs["a"].instance_group[0].count == 2
    assert configs["a"].max_batch_size == 8
    assert configs["b"].max_batch_size == 4


def test_an_ensemble_follows_its_steps_to_smaller_batches_but_not_to_larger_ones(
    folder: Path,
) -> None:
    found = pipeline(folder)
    for sizes, expected in (((4, 2), 2), ((16, 8), 8), ((16, 16), 8)):
        settings = {f"{n}/max_batch_size": s for n, s in zip("ab", sizes, strict=True)}
        assert found.render(Candidate.of(settings))["whole"].max_batch_size == expected


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"max_batch_size": 4}, "say of which model, such as a/max_batch_size"),
        ({"c/max_batch_size": 4}, "c is not among the models that are tuned"),
        ({"whole/max_batch_size": 4}, "whole is not among the models that are tuned"),
    ],
)
def test_settings_that_belong_to_no_tuned_model_are_refused(
    folder: Path, settings: dict[str, int], words: str
) -> None:
    with pytest.raises(ModelConfigError, match=words):
        pipeline(folder).render(Candidate.of(dict(settings)))


def test_the_rate_limiter_takes_a_resource_of_every_model_and_flags_of_the_server(
    folder: Path,
) -> None:
    found = Repository.of_models(folder, ("a", "b"))
    space = found.fit(parse_space(SPACE + "  rate_limit: [1, 2]\n", "test"))
    assert space.parameters[RATE_LIMIT].values == (1, 2, 0)
    candidate = Candidate.of({**found.own_settings(space), RATE_LIMIT: 2})
    assert server_flags(candidate) == (
        "--rate-limit=execution_count",
        "--rate-limit-resource=tuner:2",
    )
    for config in found.render(candidate).values():
        (resource,) = config.instance_group[0].rate_limiter.resources
        assert (resource.name, resource.count, getattr(resource, "global")) == ("tuner", 1, True)
    assert server_flags(Candidate.of({RATE_LIMIT: 0})) == ()


def test_a_model_that_is_not_there_is_named_with_the_nearest(folder: Path) -> None:
    with pytest.raises(ModelConfigError, match=r"has no model whol; did you mean 'whole'\?"):
        Repository.of_models(folder, ("a", "whol"))


def test_models_that_a_model_calls_are_tuned_with_it(folder: Path) -> None:
    found = Repository.of_pipeline(folder / "a", read_config(folder / "a"), ("b",))
    assert found is not None
    assert found.tuned == ("b", "a")
    with pytest.raises(ModelConfigError, match="--bls-composing-models x: it is not another model"):
        Repository.of_pipeline(folder / "a", read_config(folder / "a"), ("x",))


@given(
    st.dictionaries(
        st.text("abc_-ö#", min_size=1, max_size=8), st.integers(1, 64), min_size=1, max_size=5
    )
)
def test_the_text_of_several_configurations_gives_each_back(sizes: dict[str, int]) -> None:
    configs = {name: ModelConfig(name=name, max_batch_size=size) for name, size in sizes.items()}
    texts = configs_of(text_of(configs))
    if len(configs) == 1:
        texts = {name: texts[""] for name in configs}
    assert {n: t.strip() for n, t in texts.items()} == {
        name: text_of({name: config}).strip() for name, config in configs.items()
    }


SETTINGS = st.dictionaries(
    st.sampled_from(
        [f"{m}{path}" for m in ("a/", "b/") for path in (MAX_BATCH_SIZE, INSTANCE_COUNT)]
    ),
    st.integers(1, 16),
)


@given(SETTINGS)
def test_a_candidate_of_several_models_is_that_of_each(settings: dict[str, int]) -> None:
    candidate = Candidate.of(dict(settings))
    parts = {model: candidate.part(model) for model in candidate.models}
    assert Candidate.together(parts) == candidate
    for model, part in parts.items():
        assert Candidate.of(dict(part.settings)) == part
        assert f"{model}: {part}" in str(candidate)
