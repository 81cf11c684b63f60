"""Workloads of several models are repositories that can be served and searched."""

from pathlib import Path

import pytest

from benchmarks.pipelines import MIXES, PIPELINES, SPACE, EmulatedPipeline, Mix
from tuner.goals.sla import Sla
from tuner.model.config import fit_space, read_config
from tuner.model.pipeline import Pipeline
from tuner.model.space_file import parse_space


@pytest.mark.parametrize("mix", MIXES, ids=[mix.name for mix in MIXES])
def test_the_models_of_a_mix_share_a_device_and_have_their_own_slas(
    mix: Mix, tmp_path: Path
) -> None:
    repository = mix.repository(tmp_path / "models")
    assert sum(mix.shares) == pytest.approx(1.0)
    for model, _, sla in zip(mix.models, mix.shares, mix.slas, strict=True):
        config = read_config(repository / model.name)
        assert config.name == model.name
        assert float(config.parameters["base_us"].string_value) == 1e3 * model.base
        assert config.parameters["shared_device"].string_value == "1"
        assert Sla.parse(sla)
        assert fit_space(parse_space(SPACE, "here"), config).count() == 18


@pytest.mark.parametrize("pipeline", PIPELINES, ids=[each.name for each in PIPELINES])
def test_the_steps_of_a_pipeline_follow_each_other(
    pipeline: EmulatedPipeline, tmp_path: Path
) -> None:
    folder = pipeline.repository(tmp_path / "models") / pipeline.name
    found = Pipeline.of(folder, read_config(folder))
    assert found is not None
    assert found.models == tuple(step.name for step in pipeline.steps)
    before = [step.after for step in found.steps]
    assert before == [(), *((place,) for place in range(len(before) - 1))]
    assert Sla.parse(pipeline.sla)
