from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner.errors import SpaceError
from tuner.model.config import fit_space, own_settings, parse_config, read_config
from tuner.model.parameter import Parameter, Value
from tuner.model.space import (
    DYNAMIC_BATCHING,
    INSTANCE_COUNT,
    MAX_BATCH_SIZE,
    PREFERRED,
    QUEUE_DELAY,
    Candidate,
    SearchSpace,
    did_you_mean,
    format_value,
    is_below,
    short_name,
)
from tuner.model.space_file import load_space, parse_space
from tuner.resources import bundled

relaxed = settings(deadline=None, max_examples=100)
PRESETS = sorted(path.stem for path in bundled("search_spaces").glob("*.yaml"))
MODELS = [
    path.parent
    for path in sorted(bundled("model_repository").glob("*/config.pbtxt"))
    if path.parent.name != "text_pipeline"  # an ensemble has nothing of its own to search over
]
ACCELERATOR = "optimization.execution_accelerators.gpu_execution_accelerator[tensorrt]"

SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        MAX_BATCH_SIZE: st.sampled_from([1, 2, 4, 8]),
        DYNAMIC_BATCHING: st.booleans(),
        PREFERRED: st.lists(st.sampled_from([1, 2, 4, 8, 16]), max_size=4).map(tuple),
        QUEUE_DELAY: st.sampled_from([0, 100, 5000]),
        INSTANCE_COUNT: st.integers(1, 4),
        ACCELERATOR: st.booleans(),
        f"{ACCELERATOR}.parameters[precision_mode]": st.sampled_from(["FP16", "FP32"]),
    },
)


def refusal(text: str) -> str:
    with pytest.raises(SpaceError) as caught:
        parse_space(text, "my.yaml")
    return str(caught.value)


class TestCandidate:
    @given(SETTINGS)
    @relaxed
    def test_being_canonical_is_stable_and_does_not_depend_on_order(
        self, settings: dict[str, Value]
    ) -> None:
        candidate = Candidate.of(settings)
        assert Candidate.of(dict(candidate.settings)) == candidate
        assert Candidate.of(dict(reversed(settings.items()))) == candidate
        assert str(candidate)

    @given(SETTINGS)
    @relaxed
    def test_nothing_below_a_switch_that_is_off_counts(self, settings: dict[str, Value]) -> None:
        kept = dict(Candidate.of(settings).settings)
        off = [path for path, value in kept.items() if value is False]
        assert not [path for path in kept for parent in off if is_below(path, parent)]

    def test_without_dynamic_batching_the_batch_size_makes_no_difference(self) -> None:
        one = Candidate.of({MAX_BATCH_SIZE: 8, DYNAMIC_BATCHING: False, QUEUE_DELAY: 100})
        assert one == Candidate.of({MAX_BATCH_SIZE: 16, DYNAMIC_BATCHING: False})
        assert one.settings == ((DYNAMIC_BATCHING, False),)

    def test_with_batches_of_one_nobody_waits_for_more(self) -> None:
        settings = {MAX_BATCH_SIZE: 1, DYNAMIC_BATCHING: True, PREFERRED: (1,), QUEUE_DELAY: 100}
        one = Candidate.of(settings)
        assert one == Candidate.of({MAX_BATCH_SIZE: 1, DYNAMIC_BATCHING: True})
        assert one != Candidate.of({DYNAMIC_BATCHING: False})  # it may have a queue's policy

    def test_preferred_sizes_are_a_set_within_the_batch_size(self) -> None:
        candidate = Candidate.of({MAX_BATCH_SIZE: 8, PREFERRED: (8, 4, 4, 16)})
        assert candidate.get(PREFERRED) == (4, 8)

    @pytest.mark.parametrize("sizes", [(8,), (8, 16), ()])
    def test_preferring_the_largest_batch_is_what_triton_assumes(
        self, sizes: tuple[int, ...]
    ) -> None:
        assert Candidate.of({MAX_BATCH_SIZE: 8, PREFERRED: sizes}).get(PREFERRED) == ()

    def test_candidates_print_short_and_complete(self) -> None:
        candidate = Candidate.of(
            {
                MAX_BATCH_SIZE: 16,
                DYNAMIC_BATCHING: True,
                PREFERRED: (4, 8),
                QUEUE_DELAY: 500,
                INSTANCE_COUNT: 2,
                f"{ACCELERATOR}.parameters[precision_mode]": "FP16",
            }
        )
        text = "batch 16, preferred 4 8, delay 500 µs, instances 2"
        assert str(candidate).startswith(text)
        assert "precision_mode FP16" in str(candidate)
        assert str(Candidate.of({DYNAMIC_BATCHING: False})) == "no dynamic batching"
        assert str(Candidate()) == "unchanged"


class TestParameter:
    def test_a_list_is_short_for_values(self) -> None:
        assert Parameter.model_validate([1, 2]).points() == (1, 2)
        assert Parameter.model_validate([[], [4, 8]]).points() == ((), (4, 8))
        assert Parameter.model_validate([True, None]).examples() == (True,)

    @given(st.integers(-50, 50), st.integers(0, 60), st.integers(1, 20))
    @relaxed
    def test_the_points_of_a_range_of_whole_numbers(self, low: int, width: int, step: int) -> None:
        parameter = Parameter(range=(low, low + width), step=step)
        assert parameter.points() == tuple(range(low, low + width + 1, step))
        assert parameter.size == len(parameter.points())

    def test_the_points_of_a_range_with_a_fractional_step(self) -> None:
        parameter = Parameter(range=(0.0, 0.3), step=0.1)
        assert parameter.points() == pytest.approx((0.0, 0.1, 0.2, 0.3))

    def test_a_range_written_with_decimal_points_is_a_continuum(self) -> None:
        assert Parameter.model_validate({"range": [0.0, 1.0]}).size is None

    def test_a_continuum_has_no_size_and_no_points(self) -> None:
        parameter = Parameter.model_validate({"range": [0.5, 1.5]})
        assert parameter.size is None
        with pytest.raises(SpaceError, match=r"\[0.5, 1.5\] has too many values to list"):
            parameter.points()

    @pytest.mark.parametrize(
        ("parameter", "value"),
        [
            (Parameter(values=(1, 2)), 3),
            (Parameter(values=(1, 2)), None),
            (Parameter(values=((), (4,))), (4, 8)),
            (Parameter(range=(1, 4)), 6),
            (Parameter(range=(2, 4)), 1),
            (Parameter(range=(1, 4)), None),
            (Parameter(range=(1, 100), log=True), 200),
        ],
    )
    def test_including_makes_a_value_possible_and_keeps_the_others(
        self, parameter: Parameter, value: Value | None
    ) -> None:
        points = parameter.points()
        widened = parameter.including(value)
        assert value in widened.points()
        assert set(points) <= set(widened.points())
        assert widened.including(value) == widened

    def test_including_what_is_possible_changes_nothing(self) -> None:
        listed, ranged = Parameter(values=(1, 2, None)), Parameter(range=(1, 9), step=2)
        assert listed.including(2) is listed
        assert listed.including(None) is listed
        assert ranged.including(3) is ranged

    def test_a_long_list_is_drawn_from(self) -> None:
        parameter = Parameter(values=tuple(range(1500)))
        drawn = {parameter.draw(np.random.default_rng(seed)) for seed in range(20)}
        assert len(drawn) > 10
        assert drawn <= set(parameter.points())

    @given(st.integers(-(2**53), 2**53), st.integers(0, 2**53), st.integers(1, 2**40), st.data())
    @relaxed
    def test_what_is_drawn_of_any_range_lies_in_it(
        self, low: int, width: int, step: int, data: st.DataObject
    ) -> None:
        high = min(low + width, 2**53)
        steps = data.draw(st.sampled_from([None, step]))
        parameter = Parameter(range=(low, high), step=steps)
        drawn = parameter.draw(np.random.default_rng(0))
        assert isinstance(drawn, int)
        assert low <= drawn <= high
        assert steps is None or (drawn - low) % steps == 0

    def test_a_vast_range_cannot_leave_the_field_as_it_is(self) -> None:
        with pytest.raises(SpaceError, match="set a step that leaves at most 1,000 values"):
            Parameter(range=(1, 10**6)).including(None)

    def test_including_tells_true_from_one(self) -> None:
        assert Parameter(values=(True, False)).including(1).values == (True, False, 1)

    @pytest.mark.parametrize("value", [2, 0, 10])
    def test_including_a_value_between_the_steps_of_a_range(self, value: int) -> None:
        parameter = Parameter(range=(1, 5), step=2)
        points = parameter.including(value).points()
        assert {1, 3, 5, value} <= set(points)


class TestSpace:
    def test_short_names_stand_for_paths(self) -> None:
        space = parse_space(
            "parameters: {instance_count: [1], max_queue_delay_microseconds: [0], "
            "preferred_batch_size: [[4]]}",
            "my.yaml",
        )
        assert set(space.parameters) == {INSTANCE_COUNT, QUEUE_DELAY, PREFERRED}

    def test_parents_come_before_what_is_below_them(self) -> None:
        space = parse_space(
            f"parameters: {{{QUEUE_DELAY}: [0], {DYNAMIC_BATCHING}: [true, false]}}", "my.yaml"
        )
        assert list(space.parameters) == [DYNAMIC_BATCHING, QUEUE_DELAY]

    def test_count_is_of_different_candidates(self) -> None:
        space = SearchSpace(
            parameters={
                DYNAMIC_BATCHING: Parameter(values=(True, False)),
                QUEUE_DELAY: Parameter(values=(0, 100, 500)),
                INSTANCE_COUNT: Parameter(range=(1, 2)),
            }
        )
        assert space.count() == (3 + 1) * 2

    def test_count_gives_up_on_a_continuum_and_over_the_limit(self) -> None:
        endless = SearchSpace(parameters={"a": Parameter.model_validate({"range": [0.5, 1.5]})})
        assert endless.count() is None
        big = SearchSpace(parameters={name: Parameter(range=(1, 100)) for name in ("a", "b", "c")})
        assert big.count() is None

    def test_count_of_a_long_range_within_the_limit(self) -> None:
        space = SearchSpace(parameters={QUEUE_DELAY: Parameter(range=(0, 5000))})
        assert space.count(limit=10_000) in (5001, None)

    def test_including_makes_the_models_own_settings_part_of_the_space(self) -> None:
        space = parse_space(
            "parameters: {max_batch_size: [1, 2], dynamic_batching: [true], "
            "max_queue_delay_microseconds: [0]}",
            "my.yaml",
        )
        widened = space.including({MAX_BATCH_SIZE: 32, DYNAMIC_BATCHING: True, QUEUE_DELAY: 7})
        assert widened.parameters[MAX_BATCH_SIZE].values == (1, 2, 32)
        assert widened.parameters[QUEUE_DELAY].values == (0, 7)

    def test_including_leaves_alone_what_is_below_a_switch_that_is_off(self) -> None:
        space = parse_space(
            "parameters: {dynamic_batching: [true], max_queue_delay_microseconds: [100]}", "x.yaml"
        )
        widened = space.including({DYNAMIC_BATCHING: False})
        assert widened.parameters[DYNAMIC_BATCHING].values == (True, False)
        assert widened.parameters[QUEUE_DELAY].values == (100,)

    def test_without_takes_what_is_below_along(self) -> None:
        space = load_space("default").without({DYNAMIC_BATCHING})
        assert list(space.parameters) == [INSTANCE_COUNT, MAX_BATCH_SIZE]


class TestParse:
    def test_a_wrong_value_is_named_with_its_line_and_field(self) -> None:
        text = "name: x\nparameters:\n  max_batch_size: [1]\n  instance_count: {range: [4, 1]}\n"
        message = refusal(text)
        assert message.startswith("my.yaml:4: parameters.instance_group.count: ")
        assert "4 > 1" in message

    def test_an_unknown_field_gets_a_suggestion(self) -> None:
        message = refusal("parameters:\n  max_batch_size:\n    valuez: [4]\n")
        assert message.startswith("my.yaml:3: parameters.max_batch_size.valuez: unknown field")
        assert "did you mean 'values'?" in message
        assert "did you mean 'parameters'?" in refusal("parametrs: {}\n")

    def test_a_parameter_knows_where_it_was_written(self) -> None:
        space = parse_space("parameters:\n  a: [1]\n  instance_count: [2]\n", "my.yaml")
        assert space.place(INSTANCE_COUNT) == "my.yaml:3"
        unwritten = SearchSpace(parameters={"a": Parameter(values=(1,))})
        assert unwritten.place("a") == "search space 'custom'"

    def test_broken_yaml_is_named_with_its_line(self) -> None:
        assert refusal("name: x\nparameters: [").startswith("my.yaml:2: not YAML")

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("", "a mapping with the key 'parameters'"),
            ("- 1", "a mapping with the key 'parameters'"),
            ("name: x", "Field required"),
            ("parameters: {}", "at least one parameter"),
            ("parameters: {a: []}", "the list of values is empty"),
            ("parameters: {a: 4}", "parameters.a"),
            ("parameters: {a: {values: [1], range: [1, 2]}}", "either a list of values or a range"),
            ("parameters: {a: {}}", "either a list of values or a range"),
            ("parameters: {a: {values: [1], step: 2}}", "step and log need a range"),
            ("parameters: {a: {range: [1, 2], step: 0}}", "greater than 0"),
            ("parameters: {a: {range: [0, 2], log: true}}", "log needs a range above zero"),
            ("parameters: {a: {range: [1, 2], log: true, step: 1}}", "and no step"),
            ("parameters: {max_batch_size: [0]}", "max_batch_size: 0 must be"),
            ("parameters: {max_batch_size: [true]}", "max_batch_size: True must be"),
            ("parameters: {max_batch_size: [1.5]}", "max_batch_size: 1.5 must be"),
            ("parameters: {instance_count: {range: [0, 2]}}", "instance_group.count: 0 must be"),
            ("parameters: {max_queue_delay_microseconds: [-1]}", "-1 must be"),
            ("parameters: {preferred_batch_size: [4, 8]}", "4 must be a list of sizes"),
            ("parameters: {preferred_batch_size: [[0]]}", "0 must be a list of sizes"),
            ("parameters: {a: {range: [.nan, 1]}}", "finite"),
            ("parameters: {a: {range: [1, .inf]}}", "finite"),
            ("parameters: {a: [.inf]}", "parameters.a"),
            ("parameters: {a: {range: [1, 99999999999999999999]}}", "at most 9,007,199,254"),
            ("parameters: {a: {range: [0.0, 1.0], step: 1.0e-300}}", "step 1e-300 is too small"),
            (
                "parameters: {a: {range: [1.0e-300, 1.0], log: true}}",
                "log needs a range above zero",
            ),
            ("parameters: {instance_count: [1025]}", "1025 must be a whole number from 1 to 1,024"),
            ("parameters: {max_batch_size: [2147483648]}", "from 1 to 2,147,483,647"),
            ("parameters: {a: [" + "1," * 2001 + "]}", "2,001 values, more than 2,000"),
            ("parameters: {a: [[" + "1," * 101 + "]]}", "at most 100 numbers, not 101"),
            ("parameters: {" + ", ".join(f"p{i}: [1]" for i in range(101)) + "}", "101 parameters"),
            ("parameters: {a: [1], a: [2]}", "duplicate key 'a'"),
            (
                "parameters: {instance_count: [1], instance_group.count: [2]}",
                "instance_group.count: it appears twice, under both of its names",
            ),
        ],
    )
    def test_what_is_wrong_is_said(self, text: str, words: str) -> None:
        message = refusal(text)
        assert message.startswith("my.yaml:")
        assert words in message

    def test_a_date_that_does_not_exist_is_an_error_of_the_file(self) -> None:
        assert refusal("parameters: {a: [2020-13-45]}").startswith("my.yaml:")


class TestLoad:
    @pytest.mark.parametrize("model", MODELS, ids=lambda path: path.name)
    @pytest.mark.parametrize("preset", PRESETS)
    def test_every_preset_fits_every_sample_and_holds_its_own_settings(
        self, preset: str, model: Path
    ) -> None:
        config = read_config(model)
        space = fit_space(load_space(preset), config)
        assert space.name == preset
        assert space.description
        own = own_settings(space, config)
        for path, value in own.items():
            parameter = space.parameters[path]
            if space.parent_is_on(path, own):
                assert parameter.including(value) == parameter

    def test_the_presets_are_known(self) -> None:
        assert {"default", "latency_sensitive", "throughput_first"} <= set(PRESETS)
        with pytest.raises(SpaceError, match=r"'defualt'; choose a preset \(default, "):
            load_space("defualt")

    def test_a_file_is_read_by_its_path(self, tmp_path: Path) -> None:
        file = tmp_path / "mine.yml"
        file.write_text("parameters: {instance_count: [1, 2]}")
        assert load_space(str(file)).count() == 2

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(SpaceError, match=r"nowhere\.yaml: No such file"):
            load_space(str(tmp_path / "nowhere.yaml"))

    def test_a_file_that_is_not_text_is_named(self, tmp_path: Path) -> None:
        file = tmp_path / "latin.yaml"
        file.write_bytes("description: für alle".encode("latin-1"))
        with pytest.raises(SpaceError, match=r"latin\.yaml"):
            load_space(str(file))


def test_did_you_mean_suggests_or_lists() -> None:
    assert did_you_mean("coun", ["count", "kind"]) == "; did you mean 'count'?"
    assert did_you_mean("xyz", ["count", "kind"]) == "; choose from count, kind"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (MAX_BATCH_SIZE, "max_batch_size"),
        (QUEUE_DELAY, "max_queue_delay_microseconds"),
        (INSTANCE_COUNT, "instance count"),
        ("parameters[threads]", "threads"),
    ],
)
def test_short_names_are_the_last_part(path: str, name: str) -> None:
    assert short_name(path) == name


@pytest.mark.parametrize(
    ("value", "text"),
    [((4, 8), "4 8"), ((), "none"), (True, "on"), (False, "off"), (None, "-"), (3, "3")],
)
def test_values_print_for_tables(value: Value | None, text: str) -> None:
    assert format_value(value) == text


def test_the_models_own_value_that_no_space_holds_is_named() -> None:
    config = parse_config('name: "m" max_batch_size: 8 instance_group { count: 2000 }', "x")
    with pytest.raises(SpaceError, match="cannot add the model's own value 2000"):
        fit_space(load_space("default"), config)


def test_a_range_of_what_the_model_does_not_state_is_refused_where_it_is_vast() -> None:
    config = parse_config('name: "m" max_batch_size: 8', "x")
    space = parse_space("parameters: {optimization.graph.level: {range: [0, 100000]}}", "my.yaml")
    with pytest.raises(SpaceError, match=r"my\.yaml:1: the model's configuration does not set it"):
        fit_space(space, config)
