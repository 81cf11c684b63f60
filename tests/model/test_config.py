import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner.errors import ModelConfigError, RepositoryError, SpaceError
from tuner.model.config import (
    ModelConfig,
    check_config,
    check_measurable,
    complete,
    fit_space,
    from_json,
    is_complete,
    own_settings,
    parse_config,
    read_config,
    render,
    to_json,
    to_text,
)
from tuner.model.parameter import Parameter, Value
from tuner.model.paths import get_path, set_path
from tuner.model.signature import Signature
from tuner.model.space import (
    DYNAMIC_BATCHING,
    INSTANCE_COUNT,
    MAX_BATCH_SIZE,
    PREFERRED,
    QUEUE_DELAY,
    Candidate,
    SearchSpace,
)
from tuner.model.space_file import load_space, parse_space

relaxed = settings(deadline=None, max_examples=100)
TENSORRT = "optimization.execution_accelerators.gpu_execution_accelerator[tensorrt]"
PRECISION = f"{TENSORRT}.parameters[precision_mode]"

RICH = """
# A comment does not survive; everything else does.
name: "rich"
platform: "onnxruntime_onnx"
default_model_filename: "größe.onnx"
max_batch_size: 32
version_policy { specific { versions: [ 1, 3 ] } }
input [
  { name: "ids" data_type: TYPE_INT64 dims: [ -1, 128 ] reshape { shape: [ 128 ] } },
  { name: "text" data_type: TYPE_STRING dims: [ 1 ] allow_ragged_batch: true optional: true }
]
output [ { name: "logits" data_type: TYPE_FP32 dims: [ 2 ] label_filename: "labels.txt" } ]
dynamic_batching {
  preferred_batch_size: [ 8, 16, 32 ]
  max_queue_delay_microseconds: 5000
  preserve_ordering: true
  priority_levels: 2
  default_priority_level: 1
  priority_queue_policy { key: 1 value { max_queue_size: 64 } }
  default_queue_policy { timeout_action: DELAY default_timeout_microseconds: 100000 }
}
instance_group [
  { name: "gpu" count: 2 kind: KIND_GPU gpus: [ 0, 1 ] },
  { name: "cpu" count: 1 kind: KIND_CPU host_policy: "p0" }
]
optimization {
  graph { level: 1 }
  input_pinned_memory { enable: false }
  execution_accelerators {
    gpu_execution_accelerator : [
      { name: "cuda" },
      { name: "tensorrt"
        parameters { key: "precision_mode" value: "FP16" }
        parameters { key: "max_workspace_size_bytes" value: "1073741824" } }
    ]
  }
}
parameters { key: "intra_op_thread_count" value { string_value: "4" } }
model_warmup [
  { name: "one" batch_size: 1
    inputs { key: "ids" value { data_type: TYPE_INT64 dims: [ 1, 128 ] zero_data: true } } }
]
metric_tags { key: "team" value: "nlp" }
response_cache { enable: false }
"""


def rich() -> ModelConfig:
    return parse_config(RICH, "config.pbtxt")


def small(text: str = "max_batch_size: 8") -> ModelConfig:
    return parse_config(f'name: "m" {text}', "config.pbtxt")


def model(folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / "config.pbtxt").write_text(text, encoding="utf-8")
    return folder


class TestRoundTrip:
    def test_text_and_json_lose_nothing(self) -> None:
        config = rich()
        assert parse_config(to_text(config), "again") == config
        assert parse_config(to_text(config), "again") is not config
        assert "größe.onnx" in to_text(config)
        assert "dynamic_batching" in to_json(config)

    def test_json_reads_back(self) -> None:
        config = rich()
        assert from_json(json.loads(to_json(config))) == config

    def test_fields_that_are_newer_than_the_client_are_left_out_of_json(self) -> None:
        assert from_json({"name": "m", "field_of_tomorrow": {"a": 1}}) == ModelConfig(name="m")

    def test_text_that_does_not_parse_is_named_with_its_line(self) -> None:
        with pytest.raises(ModelConfigError, match=r"config.pbtxt:2:\d+ : .*max_batchsize"):
            parse_config('name: "m"\nmax_batchsize: 3\n', "config.pbtxt")


class TestRead:
    def test_a_missing_name_is_the_folders(self, tmp_path: Path) -> None:
        assert read_config(model(tmp_path / "m", "max_batch_size: 8")).name == "m"

    def test_another_name_than_the_folders_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ModelConfigError, match="'n' must equal its folder's name 'm'"):
            read_config(model(tmp_path / "m", 'name: "n"'))

    def test_what_triton_would_refuse_is_refused_with_the_file(self, tmp_path: Path) -> None:
        with pytest.raises(ModelConfigError, match=r"m/config\.pbtxt: max_batch_size -1"):
            read_config(model(tmp_path / "m", "max_batch_size: -1"))

    def test_a_model_without_a_configuration_is_missing(self, tmp_path: Path) -> None:
        with pytest.raises(RepositoryError, match=r"has no config\.pbtxt"):
            read_config(tmp_path)

    def test_a_file_that_is_not_text_is_refused(self, tmp_path: Path) -> None:
        model(tmp_path / "m", "").joinpath("config.pbtxt").write_bytes(b"\xff\xfe")
        with pytest.raises(ModelConfigError, match="cannot read"):
            read_config(tmp_path / "m")


class TestRefusals:
    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("max_batch_size: -2", "max_batch_size -2 must not be negative"),
            ("dynamic_batching { preferred_batch_size: 0 }", "preferred_batch_size 0 must lie"),
            ("dynamic_batching { preferred_batch_size: -4 }", "preferred_batch_size -4 must lie"),
            (
                "max_batch_size: 8 dynamic_batching { preferred_batch_size: [4, 16] }",
                r"preferred_batch_size 16 must lie in 1..max_batch_size \(8\)",
            ),
            ("instance_group { kind: KIND_CPU gpus: 0 }", "KIND_CPU must not list gpus"),
            ("instance_group { count: -1 }", "count -1 must be at least 1"),
            ("dynamic_batching { priority_levels: 2 }", "default_priority_level must lie in 1..2"),
            (
                "dynamic_batching { priority_levels: 2 default_priority_level: 3 }",
                "default_priority_level must lie in 1..2",
            ),
            (
                "sequence_batching {} response_cache { enable: true }",
                "response_cache cannot be combined with sequence_batching",
            ),
            (
                "model_transaction_policy { decoupled: true } response_cache { enable: true }",
                "response_cache cannot be used with a decoupled model",
            ),
        ],
    )
    def test_what_triton_refuses_at_load_is_refused_before(self, text: str, words: str) -> None:
        with pytest.raises(ModelConfigError, match=words):
            check_config(small(text), "config.pbtxt")

    def test_all_problems_are_told_at_once(self) -> None:
        with pytest.raises(ModelConfigError, match=r"must not be negative; .* must not list gpus"):
            check_config(small("max_batch_size: -1 instance_group { kind: KIND_CPU gpus: 0 }"), "x")

    def test_a_rich_configuration_is_legal(self) -> None:
        check_config(rich(), "config.pbtxt")

    @pytest.mark.parametrize(
        "text",
        [
            "max_batch_size: 0",
            "max_batch_size: 4 dynamic_batching { preferred_batch_size: [4, 4, 1] }",
            "instance_group { count: 0 }",
            "response_cache { enable: true }",
        ],
    )
    def test_what_triton_takes_is_not_refused(self, text: str) -> None:
        check_config(small(text), "config.pbtxt")


class TestRender:
    def test_no_change_renders_the_same(self) -> None:
        assert render(rich(), Candidate()) == rich()

    def test_everything_else_survives(self) -> None:
        config = rich()
        candidate = Candidate.of(
            {MAX_BATCH_SIZE: 16, PREFERRED: (4, 8), QUEUE_DELAY: 100, INSTANCE_COUNT: 3}
        )
        expected = parse_config(
            RICH.replace("max_batch_size: 32", "max_batch_size: 16")
            .replace("[ 8, 16, 32 ]", "[ 4, 8 ]")
            .replace("max_queue_delay_microseconds: 5000", "max_queue_delay_microseconds: 100")
            .replace("count: 2 kind: KIND_GPU", "count: 3 kind: KIND_GPU")
            .replace("count: 1 kind: KIND_CPU", "count: 3 kind: KIND_CPU"),
            "expected",
        )
        assert render(config, candidate) == expected
        assert config == rich()

    def test_an_accelerator_comes_and_goes_beside_the_others(self) -> None:
        without = render(rich(), Candidate.of({TENSORRT: False}))
        accelerators = without.optimization.execution_accelerators.gpu_execution_accelerator
        assert [each.name for each in accelerators] == ["cuda"]
        again = render(without, Candidate.of({TENSORRT: True, PRECISION: "FP32"}))
        assert get_path(again, PRECISION) == "FP32"
        kept = render(rich(), Candidate.of({TENSORRT: True, PRECISION: "FP32"}))
        assert get_path(kept, f"{TENSORRT}.parameters[max_workspace_size_bytes]") == "1073741824"

    def test_inherited_preferred_sizes_that_no_longer_fit_are_dropped(self) -> None:
        rendered = render(rich(), Candidate.of({MAX_BATCH_SIZE: 16}))
        assert list(rendered.dynamic_batching.preferred_batch_size) == [8, 16]
        check_config(rendered, "rendered")

    @given(
        st.sampled_from([1, 2, 4, 8, 16, 32, 64]),
        st.none() | st.lists(st.sampled_from([1, 2, 8, 32, 128]), max_size=4).map(tuple),
        st.none() | st.booleans(),
    )
    @relaxed
    def test_no_candidate_with_a_batch_size_is_refused_at_load(
        self, largest: int, preferred: tuple[int, ...] | None, dynamic: bool | None
    ) -> None:
        wanted: dict[str, Value | None] = {
            MAX_BATCH_SIZE: largest,
            PREFERRED: preferred,
            DYNAMIC_BATCHING: dynamic,
        }
        candidate = Candidate.of({k: v for k, v in wanted.items() if v is not None})
        check_config(render(rich(), candidate), "rendered")

    def test_what_is_stated_already_stays_as_it_is(self) -> None:
        own = own_settings(fit_space(load_space("default"), rich()), rich())
        assert render(rich(), Candidate.of(own)) == rich()

    @pytest.mark.parametrize(
        "text",
        [
            "instance_group [ { count: 1 }, { count: 4 } ]",
            "max_batch_size: 1 dynamic_batching { default_queue_policy { max_queue_size: 2 } }",
            "max_batch_size: 1 dynamic_batching { preferred_batch_size: [ 1 ] }",
            "max_batch_size: 8 dynamic_batching { priority_levels: 2 default_priority_level: 1 }",
            'max_batch_size: 8 model_warmup [ { name: "w" batch_size: 8 } ]',
        ],
    )
    def test_the_model_as_found_is_rendered_as_it_is(self, text: str) -> None:
        config = small(f"{text} instance_group {{ count: 2 }}" if "group" not in text else text)
        own = own_settings(fit_space(load_space("default"), config), config)
        assert render(config, Candidate.of(own)) == config

    def test_several_groups_have_one_count_where_it_is_asked_for(self) -> None:
        config = small("instance_group [ { count: 1 }, { count: 4 } ]")
        for count in (1, 3, 4):
            rendered = render(config, Candidate.of({INSTANCE_COUNT: count}))
            assert [group.count for group in rendered.instance_group] == [count, count]

    def test_warm_ups_keep_within_the_largest_batch(self) -> None:
        config = small("max_batch_size: 32")
        for size in (1, 8, 32):
            config.model_warmup.add(name="w", batch_size=size)
        rendered = render(config, Candidate.of({MAX_BATCH_SIZE: 8}))
        assert [each.batch_size for each in rendered.model_warmup] == [1, 8, 8]
        rendered = render(config, Candidate.of({MAX_BATCH_SIZE: 64}))
        assert [each.batch_size for each in rendered.model_warmup] == [1, 8, 32]

    def test_dynamic_batching_off_is_no_such_message(self) -> None:
        rendered = render(rich(), Candidate.of({DYNAMIC_BATCHING: False}))
        assert not rendered.HasField("dynamic_batching")

    def test_dynamic_batching_that_stays_on_keeps_its_other_fields(self) -> None:
        rendered = render(rich(), Candidate.of({DYNAMIC_BATCHING: True, QUEUE_DELAY: 5000}))
        assert rendered == rich()


class TestPaths:
    @pytest.mark.parametrize(
        ("path", "values"),
        [
            (MAX_BATCH_SIZE, st.integers(0, 2**31 - 1)),
            (DYNAMIC_BATCHING, st.booleans()),
            (PREFERRED, st.lists(st.integers(1, 1024), max_size=5).map(tuple)),
            (QUEUE_DELAY, st.integers(0, 2**64 - 1)),
            ("dynamic_batching.preserve_ordering", st.booleans()),
            ("dynamic_batching.default_queue_policy.max_queue_size", st.integers(0, 2**32 - 1)),
            (INSTANCE_COUNT, st.integers(1, 100)),
            ("instance_group[cpu].count", st.integers(0, 100)),
            ("instance_group[new].host_policy", st.text(st.characters(codec="utf-8"))),
            (TENSORRT, st.booleans()),
            (PRECISION, st.text(st.characters(codec="utf-8"))),
            ("parameters[intra_op_thread_count]", st.text(st.characters(codec="utf-8"))),
            ("optimization.graph.level", st.integers(-(2**31), 2**31 - 1)),
            ("optimization.input_pinned_memory.enable", st.booleans()),
            ("default_model_filename", st.text(st.characters(codec="utf-8"))),
        ],
    )
    @given(data=st.data())
    @settings(deadline=None, max_examples=20)
    def test_what_is_set_is_read_back_and_renders(
        self, path: str, values: st.SearchStrategy[Value], data: st.DataObject
    ) -> None:
        value = data.draw(values)
        config = data.draw(st.sampled_from([ModelConfig(), rich()]))
        set_path(config, path, value)
        assert get_path(config, path) == value
        assert parse_config(to_text(config), "again") == config

    @pytest.mark.parametrize(
        ("value", "text"), [(4, "4"), (0.5, "0.5"), (True, "true"), (False, "false")]
    )
    def test_entries_of_maps_are_text(self, value: Value, text: str) -> None:
        config = ModelConfig()
        set_path(config, "parameters[x]", value)
        set_path(config, PRECISION, value)
        assert get_path(config, "parameters[x]") == text
        assert get_path(config, PRECISION) == text

    def test_a_count_holds_for_all_groups_and_a_name_for_one(self) -> None:
        config = rich()
        set_path(config, INSTANCE_COUNT, 4)
        assert [group.count for group in config.instance_group] == [4, 4]
        set_path(config, "instance_group[cpu].count", 1)
        assert [group.count for group in config.instance_group] == [4, 1]

    def test_a_count_makes_a_group_where_there_is_none(self) -> None:
        config = small()
        set_path(config, INSTANCE_COUNT, 3)
        assert [group.count for group in config.instance_group] == [3]

    @pytest.mark.parametrize("text", ["", "instance_group {}", "instance_group { count: 0 }"])
    def test_a_count_that_is_not_stated_is_tritons_one(self, text: str) -> None:
        assert get_path(small(text), INSTANCE_COUNT) == 1

    @pytest.mark.parametrize(
        ("path", "value"),
        [
            (DYNAMIC_BATCHING, False),
            (QUEUE_DELAY, None),
            (PREFERRED, None),
            (TENSORRT, False),
            (PRECISION, None),
            ("parameters[x]", None),
        ],
    )
    def test_what_is_not_stated_is_none_and_a_switch_is_off(
        self, path: str, value: Value | None
    ) -> None:
        assert get_path(small(), path) == value

    def test_enums_are_set_by_name(self) -> None:
        config = ModelConfig()
        set_path(config, "instance_group.kind", "KIND_CPU")
        assert config.instance_group[0].kind == config.instance_group[0].KIND_CPU

    @pytest.mark.parametrize(
        ("path", "words"),
        [
            ("max_batchsize", "has no 'max_batchsize'; did you mean 'max_batch_size'"),
            ("dynamic_batching.max_delay", "ModelDynamicBatching has no 'max_delay'"),
            ("max_batch_size.x", "'max_batch_size' has no fields below it"),
            ("parameters[x].string_value", "'parameters' has no fields below it"),
            (".max_batch_size", "is not a path like"),
            ("instance_group[a", "is not a path like"),
            ("instance_group[]", "is not a path like"),
            ("a b", "is not a path like"),
        ],
    )
    def test_unknown_paths_are_refused(self, path: str, words: str) -> None:
        with pytest.raises(SpaceError) as caught:
            set_path(ModelConfig(), path, 1)
        assert words in str(caught.value)
        assert repr(path) in str(caught.value)

    @pytest.mark.parametrize(
        ("path", "value"),
        [
            (MAX_BATCH_SIZE, "many"),
            (MAX_BATCH_SIZE, True),
            (MAX_BATCH_SIZE, 2.5),
            (MAX_BATCH_SIZE, 2**31),
            (QUEUE_DELAY, -1),
            (DYNAMIC_BATCHING, 1),
            (PREFERRED, ("a",)),
            (TENSORRT, "on"),
            ("instance_group", True),
            ("instance_group", 3),
            ("parameters", "x"),
            ("default_model_filename", 3),
            ("optimization.input_pinned_memory.enable", "yes"),
        ],
    )
    def test_wrong_types_are_refused_with_path_and_value(self, path: str, value: Value) -> None:
        with pytest.raises(SpaceError) as caught:
            set_path(ModelConfig(), path, value)
        assert f"{path} does not accept {value!r}" in str(caught.value)

    @pytest.mark.parametrize(
        ("path", "value"),
        [
            pytest.param("instance_group.kind", "KIND_FOO", id="unknown name of an enum"),
            pytest.param("", 1, id="no segment"),
            pytest.param("max_batch_size.", 1, id="dot at the end"),
            pytest.param("max_batch_size[x]", 1, id="key of a number"),
            pytest.param("batch_input[x]", True, id="key of messages without a name"),
            pytest.param("model_warmup[w].inputs[x]", "a", id="map of other messages"),
        ],
    )
    def test_odd_paths_and_names_are_refused(self, path: str, value: Value) -> None:
        with pytest.raises(SpaceError):
            set_path(ModelConfig(), path, value)


class TestFitSpace:
    def test_a_space_is_widened_by_the_models_own_settings(self) -> None:
        space = fit_space(load_space("default"), rich())
        own = own_settings(space, rich())
        assert own == {
            MAX_BATCH_SIZE: 32,
            DYNAMIC_BATCHING: True,
            PREFERRED: (8, 16, 32),
            QUEUE_DELAY: 5000,
        }  # its groups have different counts
        assert (8, 16, 32) in space.parameters[PREFERRED].points()

    def test_a_model_without_a_batch_dimension_has_no_batching_to_tune(self) -> None:
        space = fit_space(load_space("default"), small("max_batch_size: 0"))
        assert list(space.parameters) == [INSTANCE_COUNT]

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("max_batch_size: 8 sequence_batching {}", "m has a sequence batcher"),
            ("model_transaction_policy { decoupled: true }", "m is decoupled"),
        ],
    )
    def test_what_cannot_be_measured_is_refused(self, text: str, words: str) -> None:
        with pytest.raises(ModelConfigError, match=words):
            check_measurable(small(text))

    def test_an_ensemble_is_refused(self) -> None:
        config = small("ensemble_scheduling { step { model_name: 'a' } }")
        with pytest.raises(SpaceError, match=r"m is an ensemble.* tune its composing models"):
            fit_space(load_space("default"), config)

    def test_a_space_of_which_nothing_applies_is_refused(self) -> None:
        space = parse_space("parameters: {max_batch_size: [1, 2]}", "x.yaml")
        with pytest.raises(
            SpaceError, match="no parameter of the search space 'custom' applies to m"
        ):
            fit_space(space, small("max_batch_size: 0"))

    @pytest.mark.parametrize(
        ("path", "parameter"),
        [
            ("max_batchsize", Parameter(values=(1,))),
            ("dynamic_batching", Parameter(values=(True, 2))),
            ("optimization.graph.level", Parameter.model_validate({"range": [0.5, 1.5]})),
        ],
    )
    def test_a_field_or_value_that_triton_lacks_is_refused_before_the_search(
        self, path: str, parameter: Parameter
    ) -> None:
        with pytest.raises(SpaceError, match="search space 'custom': "):
            fit_space(SearchSpace(parameters={path: parameter}), small())

    def test_a_models_own_entry_of_a_map_is_the_same_as_the_listed_number(self) -> None:
        space = parse_space("parameters: {'parameters[threads]': [1, 2]}", "x.yaml")
        config = small("parameters { key: 'threads' value { string_value: '2' } }")
        assert fit_space(space, config).count() == 2

    def test_preferred_sizes_above_the_models_own_batch_size_are_not_tried(self) -> None:
        config = small("max_batch_size: 8 dynamic_batching {}")
        space = fit_space(parse_space("parameters: {preferred_batch_size: [[64]]}", "x"), config)
        for sizes in space.parameters[PREFERRED].examples():
            check_config(render(config, Candidate.of({PREFERRED: sizes})), "rendered")


class TestComplete:
    FULL = """backend: "python" max_batch_size: 8
      input { name: "x" data_type: TYPE_FP32 dims: 4 }
      output { name: "y" data_type: TYPE_FP32 dims: 4 }"""

    @pytest.mark.parametrize(
        ("text", "whole"),
        [
            (FULL, True),
            (FULL.replace("max_batch_size: 8", ""), False),
            (FULL.replace('backend: "python"', ""), False),
            (FULL.replace("output", "# output"), False),
            (FULL.replace("python", "onnxruntime"), False),
            (FULL.replace("python", "onnxruntime") + "instance_group { count: 1 }", True),
            (FULL.replace("python", "onnxruntime") + "instance_group { kind: KIND_CPU }", False),
            (FULL.replace("python", "tensorrt").replace("max_batch_size: 8", ""), True),
            ("ensemble_scheduling { step { model_name: 'a' } }", True),
        ],
    )
    def test_what_a_server_could_add_to(self, text: str, whole: bool) -> None:
        assert is_complete(small(text)) is whole

    def test_what_the_server_added_is_taken_over_and_what_is_stated_kept(self) -> None:
        own = small('backend: "python" parameters { key: "a" value { string_value: "b" } }')
        in_force = small(
            self.FULL
            + """ version_policy { latest { num_versions: 1 } }
              default_model_filename: "model.py"
              dynamic_batching { preferred_batch_size: 8 max_queue_delay_microseconds: 5 }
              instance_group { name: "m" count: 2 kind: KIND_CPU }
              optimization { input_pinned_memory { enable: true } }"""
        )
        whole = complete(own, in_force)
        assert whole.max_batch_size == 8
        assert [each.name for each in (*whole.input, *whole.output)] == ["x", "y"]
        assert list(whole.dynamic_batching.preferred_batch_size) == []
        assert whole.dynamic_batching.max_queue_delay_microseconds == 5
        assert [(g.name, g.count) for g in whole.instance_group] == [("", 2)]
        assert not whole.HasField("optimization")
        assert not whole.HasField("version_policy")
        assert whole.parameters["a"].string_value == "b"
        assert complete(whole, in_force) == whole


class TestSignature:
    def test_a_number_that_is_no_data_type_is_refused(self) -> None:
        """Where protobuf takes a name, it takes any number."""
        config = parse_config('name: "m" input { name: "x" data_type: 1000 dims: 1 }', "x")
        with pytest.raises(ModelConfigError, match="tensor x: unknown data type 1000"):
            Signature.of_config(config)

    @pytest.mark.parametrize(
        ("metadata", "config"),
        [
            ([], {}),
            (None, None),
            ({}, {}),
            ({"name": "m", "inputs": 3, "outputs": []}, {}),
            ({"name": "m", "inputs": [{"name": "x"}], "outputs": []}, {}),
            ({"name": "m", "inputs": [], "outputs": []}, {"max_batch_size": math.inf}),
            ({"name": "m", "inputs": [], "outputs": []}, {"max_batch_size": "9" * 5000}),
            ({"name": "m", "inputs": [], "outputs": []}, {"input": [{"optional": True}]}),
        ],
    )
    def test_what_is_not_described_as_by_triton_is_refused(
        self, metadata: Any, config: Any
    ) -> None:
        with pytest.raises(ModelConfigError, match="not in Triton's format"):
            Signature.of_metadata(metadata, config)

    @pytest.mark.parametrize(
        "config", [None, {"max_batch_size": "x"}, {"name": 3}, {"input": {"\ud800": 1}}]
    )
    def test_a_configuration_of_a_server_that_is_none_is_refused(self, config: Any) -> None:
        with pytest.raises(ModelConfigError):
            from_json(config)
