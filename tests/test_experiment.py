import hashlib
import math
import re
from pathlib import Path

import pytest

from tuner.cores import Cores, Pin
from tuner.errors import RepositoryError, UsageError
from tuner.experiment.fields import parse_shape
from tuner.experiment.find import find_model
from tuner.experiment.model import Experiment
from tuner.experiment.resolve import resolve
from tuner.goals.constraints import Constraint
from tuner.goals.sla import Sla
from tuner.load.arrivals import CLOSED, Arrivals
from tuner.load.batches import BatchMix
from tuner.model.space_file import load_space
from tuner.resources import bundled

SLA = {"sla": "p99<20ms"}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and none of tuner's environment variables."""
    monkeypatch.chdir(tmp_path)
    for name in Experiment.model_fields:
        monkeypatch.delenv(f"TUNER_{name.upper()}", raising=False)
    return tmp_path


def make_model(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.pbtxt").write_text("max_batch_size: 8")
    return folder


class TestOrder:
    def test_options_go_before_the_environment_and_that_before_the_file(
        self, here: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (here / "tuner.yaml").write_text("sla: p99<30ms\ntimeout: 1m\ntrials: 5\nseed: 1\n")
        monkeypatch.setenv("TUNER_TIMEOUT", "2m")
        monkeypatch.setenv("TUNER_SEED", "2")
        found = resolve({"seed": 3, "timeout": None, "env": (), "shapes": []}, None)
        assert (found.sla, found.trials) == (Sla.parse("p99<30ms"), 5)
        assert (found.timeout, found.seed) == (120.0, 3)

    def test_an_option_of_zero_is_given(self, here: Path) -> None:
        (here / "tuner.yaml").write_text("sla: p99<30ms\nseed: 4\n")
        assert resolve({"seed": 0}, None).seed == 0

    def test_a_named_file_is_read_in_place_of_tuner_yaml(self, here: Path) -> None:
        (here / "tuner.yaml").write_text("sla: p99<30ms\nseed: 4\n")
        (here / "other.yaml").write_text("sla: p50<5ms\n")
        found = resolve({}, here / "other.yaml")
        assert (found.sla, found.seed) == (Sla.parse("p50<5ms"), 0)

    def test_without_a_file_the_defaults_hold(self) -> None:
        found = resolve(SLA, None)
        assert found.launcher == "auto"
        assert found.timeout == 180.0
        assert found.trials is None

    def test_quantities_may_be_text_or_numbers(self, here: Path) -> None:
        (here / "tuner.yaml").write_text("timeout: 90\nstartup_timeout: 2m\nshm_size: 2GiB\n")
        found = resolve(SLA, None)
        assert (found.timeout, found.startup_timeout, found.shm_size) == (90.0, 120.0, 2 << 30)

    def test_lists_in_the_environment_are_words(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TUNER_ENV", "A=1 B=2")
        monkeypatch.setenv("TUNER_SHAPES", "ids:128 mask:128")
        found = resolve(SLA, None)
        assert found.env == {"A": "1", "B": "2"}
        assert found.shapes == {"ids": (128,), "mask": (128,)}

    def test_fields_that_a_command_has_no_use_for_are_not_read(self, here: Path) -> None:
        (here / "tuner.yaml").write_text("sla: p99<30ms\nminimize: p99\nseed: 4\n")
        found = resolve({}, without=("rate", "minimize"))
        assert (found.minimize, found.seed) == (None, 4)

    def test_the_shorthand_of_the_sla_is_written_out(self) -> None:
        assert resolve({"sla_p99": "20ms"}).sla == Sla.parse("p99<20ms")
        with pytest.raises(UsageError, match="give --sla-p99 or --sla, not both"):
            resolve({"sla_p99": "20ms", **SLA})

    def test_the_identity_is_all_but_the_budget(self) -> None:
        short = resolve({**SLA, "trials": 3, "timeout": "10s"}, None)
        long = resolve({**SLA, "trials": 9, "timeout": "10m"}, None)
        assert short.identity() == long.identity()
        assert short.identity() != resolve({**SLA, "seed": 1}, None).identity()


class TestRefusals:
    def test_a_promise_must_be_given(self) -> None:
        with pytest.raises(UsageError, match="--sla-p99 20ms"):
            resolve({}, None)

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("timout: 3m", r"tuner.yaml: unknown field 'timout'; did you mean 'timeout'\?"),
            ("sla: [", r"tuner.yaml:\d: not YAML"),
            ("- sla", "an experiment must be a mapping"),
            ("", "an experiment must be a mapping"),
        ],
    )
    def test_a_file_that_is_wrong_is_named(self, here: Path, text: str, words: str) -> None:
        (here / "tuner.yaml").write_text(text)
        with pytest.raises(UsageError, match=words):
            resolve(SLA, None)

    def test_a_named_file_that_is_missing_is_named(self) -> None:
        with pytest.raises(UsageError, match=r"cannot read nowhere\.yaml: No such file"):
            resolve(SLA, Path("nowhere.yaml"))

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"sla": "p99<20"}, "'20' needs a unit"),
            ({"timeout": "20"}, "'20' needs a unit: us, ms, s, m or h; did you mean 20s or 20m\\?"),
            ({"shm_size": "2 gigs"}, "'2 gigs'"),
            ({"launcher": "podman"}, "launcher: .*not 'podman'"),
            ({"startup_timeout": "soon"}, "'soon'"),
            ({"trials": 0}, "trials: .*not 0"),
            ({"seed": -1}, "seed: .*not -1"),
            ({"workers": 65}, "workers: .*not 65"),
            ({"shapes": ("ids",)}, "--shape 'ids' is not valid; write it like"),
            ({"env": ("PATH",)}, "env: 'PATH' is not valid; write it like NAME=value"),
            ({"env": ("=s3cret",)}, "env: a variable needs a name"),
            ({"env": ("A=b\0c",)}, "must not contain a null character"),
            ({"env": {"A": True}}, "must be text; put it in quotes"),
            ({"server_args": ("--a\0b",)}, "an argument must not contain a null character"),
            ({"shapes": {"x": "3"}}, "the shape of 'x' must be a list of whole numbers"),
            ({"shapes": {"x": [3, 0]}}, "--shape 'x:3,0' is not valid"),
            ({"shapes": ("x:" + "1," * 40 + "1",)}, "with at most 32 dimensions"),
            ({"shapes": ("x:" + "9" * 5000,)}, "is not valid"),
            ({"timeout": math.inf}, "timeout: "),
            ({"timeout": 1e300}, "timeout: "),
            ({"rate": math.nan}, "rate: .*finite"),
            ({"rate": 1e300}, "rate: .*less than or equal to 1000000"),
            ({"rate": 1e-9}, "rate: .*greater than or equal to 0.01"),
            ({"seed": 2**32}, "seed: .*not 4294967296"),
            ({"model": "a" * 5000}, "there is no model"),
            ({"model": "a\0b"}, "there is no model"),
            ({"space": "a" * 5000}, "there is no search space"),
        ],
    )
    def test_a_wrong_value_is_named(self, options: dict[str, object], words: str) -> None:
        with pytest.raises(UsageError, match=words) as caught:
            load_space(resolve({**SLA, **options}, None).space)
        assert "s3cret" not in str(caught.value)
        assert len(str(caught.value)) < 1000

    def test_shapes_and_variables_may_be_mappings(self) -> None:
        found = resolve({**SLA, "shapes": {"x": [3, 4], "y": 5}, "env": {"A": 1, "B": "b"}})
        assert found.shapes == {"x": (3, 4), "y": (5,)}
        assert found.env == {"A": "1", "B": "b"}

    def test_of_many_wrong_values_some_are_named(self, here: Path) -> None:
        wrong = "".join(f"  - {number}\n" for number in range(1000))
        (here / "tuner.yaml").write_text(f"sla: p99<20ms\nload_models:\n{wrong}")
        with pytest.raises(UsageError) as caught:
            resolve({})
        assert len(str(caught.value).splitlines()) == 20

    def test_all_wrong_values_are_named_at_once(self) -> None:
        with pytest.raises(UsageError, match=r"trials: (?s:.*)workers: "):
            resolve({**SLA, "trials": 0, "workers": 0}, None)

    def test_a_wrong_value_of_the_environment_is_named(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TUNER_TRIALS", "many")
        with pytest.raises(UsageError, match=r"trials: .*not 'many'"):
            resolve(SLA, None)

    @pytest.mark.parametrize("field", ["timeout", "startup_timeout", "shm_size"])
    @pytest.mark.parametrize("number", [0, -5])
    def test_a_number_must_be_above_zero_as_text_must(self, field: str, number: int) -> None:
        with pytest.raises(UsageError, match=str(number)):
            resolve({**SLA, field: number}, None)

    @pytest.mark.parametrize("content", [b"sla: \xff", b"sla: 2020-13-45"])
    def test_a_file_that_cannot_be_decoded_is_named(self, here: Path, content: bytes) -> None:
        (here / "tuner.yaml").write_bytes(content)
        with pytest.raises(UsageError, match=r"tuner\.yaml"):
            resolve(SLA, None)


class TestModel:
    def test_by_path(self, here: Path) -> None:
        folder = make_model(here / "somewhere" / "mine")
        assert find_model("somewhere/mine") == folder
        assert find_model(folder) == folder

    def test_by_name_in_the_repository_before_the_samples(self, here: Path) -> None:
        folder = make_model(here / "model_repository" / "text_classifier")
        assert find_model("text_classifier") == folder

    def test_by_the_name_of_a_sample(self) -> None:
        assert find_model("emulated_gpu") == bundled("model_repository") / "emulated_gpu"

    def test_the_only_model_of_the_repository_needs_no_name(self, here: Path) -> None:
        folder = make_model(here / "model_repository" / "mine")
        assert resolve(SLA, None).model == folder

    def test_without_a_repository_it_is_the_sample(self) -> None:
        assert find_model(None) == bundled("model_repository") / "text_classifier"

    def test_beside_the_file_that_names_it(self, here: Path) -> None:
        folder = make_model(here / "project" / "models" / "mine")
        (here / "project" / "my.yaml").write_text("sla: p99<20ms\nmodel: models/mine\n")
        assert resolve({}, here / "project" / "my.yaml").model == folder

    def test_inputs_lie_beside_the_file_that_names_them(self, here: Path) -> None:
        (here / "project").mkdir()
        (here / "project" / "data.json").write_text("{}")
        (here / "project" / "my.yaml").write_text("sla: p99<20ms\ninput_data: data.json\n")
        assert resolve({}, here / "project" / "my.yaml").input_data == here / "project/data.json"

    def test_a_trace_lies_beside_the_file_that_names_it(self, here: Path) -> None:
        (here / "project").mkdir()
        (here / "project" / "mine.csv").write_text("1\n2\n")
        (here / "project" / "my.yaml").write_text("sla: p99<20ms\nload: trace:mine.csv\n")
        found = resolve({}, here / "project" / "my.yaml")
        assert isinstance(found.load, Arrivals)
        assert str(found.load) == f"trace:{here / 'project/mine.csv'}"
        assert found.load.sha256 == hashlib.sha256(b"1\n2\n").hexdigest()

    def test_client_batches_may_be_a_number(self, here: Path) -> None:
        (here / "tuner.yaml").write_text("sla: p99<20ms\nbatch: 8\n")
        assert resolve({}, None).batch == BatchMix.parse("8")
        assert str(resolve({"batch": "1:0.25,4:0.75"}, None).batch) == "1:0.25,4:0.75"

    def test_several_models_must_be_told_apart(self, here: Path) -> None:
        make_model(here / "model_repository" / "one")
        make_model(here / "model_repository" / "two")
        with pytest.raises(RepositoryError, match="several models; name one: one, two"):
            find_model(None)

    def test_a_misspelt_name_gets_a_suggestion(self, here: Path) -> None:
        make_model(here / "model_repository" / "resnet")
        with pytest.raises(RepositoryError, match="no model 'resnt'; did you mean 'resnet'"):
            find_model("resnt")
        with pytest.raises(RepositoryError, match="did you mean 'emulated_gpu'"):
            find_model("emulated-gpu")

    @pytest.mark.parametrize("name", ["models/my_clff", "my_clf", "./my_clff", "elsewhere/my_clf"])
    def test_a_misspelt_path_gets_a_suggestion(self, here: Path, name: str) -> None:
        make_model(here / "models" / "my_clf")
        with pytest.raises(RepositoryError, match=r"no model .*; did you mean 'models/my_clf'"):
            find_model(name)

    def test_a_model_beside_a_misspelt_path_is_suggested(self, here: Path) -> None:
        make_model(here / "a" / "b" / "resnet")
        make_model(here / "model_repository" / "resnet")
        with pytest.raises(RepositoryError, match="did you mean 'a/b/resnet'"):
            find_model("a/b/resnt")

    def test_a_folder_that_only_has_the_name_of_a_model_is_told_from_it(self, here: Path) -> None:
        (here / "my_clf").mkdir()
        make_model(here / "models" / "my_clf")
        with pytest.raises(
            RepositoryError, match=r"no config\.pbtxt; did you mean 'models/my_clf'"
        ):
            find_model("my_clf")

    def test_a_repository_is_not_a_model(self, here: Path) -> None:
        make_model(here / "models" / "one")
        with pytest.raises(RepositoryError, match=r"is a model repository.* such as models/one"):
            find_model("models")

    def test_a_folder_without_a_configuration_is_refused(self, here: Path) -> None:
        (here / "bare").mkdir()
        with pytest.raises(RepositoryError, match=r"bare has no config\.pbtxt"):
            find_model("bare")


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("x:3", ("x", (3,))),
        ("x:3,224,224", ("x", (3, 224, 224))),
        ("serving_default:0:1,2", ("serving_default:0", (1, 2))),
    ],
)
def test_shapes_parse(text: str, shape: tuple[str, tuple[int, ...]]) -> None:
    assert parse_shape(text) == shape


@pytest.mark.parametrize("text", ["", "x", "x:", ":3", "3,224", "x:3,", "x:3,-1", "x:0", "x:a"])
def test_a_shape_that_is_none_is_refused_by_its_own_words(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_shape(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        "gpu_memory < 20GiB, cpu<=4",
        ["gpu_memory<20GiB", "cpu<=4"],
        ("gpu_memory<20480MiB,cpu<=4cores",),
    ],
    ids=str,
)
def test_constraints_are_one_text_each_however_they_are_written(given: object) -> None:
    experiment = Experiment.model_validate({"model": "m", "sla": "p99<20ms", "constraints": given})
    texts = ("gpu_memory<20GiB", "cpu<=4")
    assert experiment.constraints == tuple(map(Constraint.parse, texts))
    again = Experiment.model_validate(
        {"model": "m", "sla": "p99<20ms", "constraints": experiment.constraints}
    )
    assert again.identity() == experiment.identity()


def test_a_constraint_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="there is no quantity 'disk'"):
        Experiment.model_validate({"model": "m", "sla": "p99<20ms", "constraints": ["disk<1GiB"]})


def test_constraints_from_the_environment_are_split_at_spaces(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_model(here / "model_repository" / "m")
    monkeypatch.setenv("TUNER_CONSTRAINTS", "cpu<=4 memory<1GiB")
    experiment = resolve({"sla": "p99<20ms"}, None)
    assert experiment.constraints == tuple(map(Constraint.parse, ("cpu<=4", "memory<1GiB")))


WRITTEN = {
    "model": "m",
    "sla": "p50<5ms,errors<0.1%,p99.9<12.5ms",
    "constraints": ["gpu_memory<20GiB", "cpu<=4"],
    "rate": 100.0,
    "minimize": "p99/10ms + 0.5*instances",
    "protocol": "grpc",
    "load": "gamma:3",
    "batch": "1:0.7,4:0.2,16:0.1",
    "pin": "none",
    "shapes": ["image:3,224,224", "in:0:1"],
}


def test_what_is_written_is_parsed_once_and_written_the_same_again() -> None:
    experiment = Experiment.model_validate(WRITTEN)
    written = experiment.model_dump(mode="json")
    assert {name: written[name] for name in WRITTEN} == WRITTEN
    assert Experiment.model_validate(written) == experiment
    assert experiment.shapes == {"image": (3, 224, 224), "in:0": (1,)}
    assert experiment.minimize is not None
    assert experiment.minimize.rate == 100.0


def test_of_a_variable_its_name_is_written_and_a_trace_of_its_value() -> None:
    one, other = (
        Experiment.model_validate({**WRITTEN, "env": [f"KEY={value}", "A=1=2", "B="]})
        for value in ("s3cret", "another")
    )
    assert one.env == {"KEY": "s3cret", "A": "1=2", "B": ""}
    written = one.model_dump(mode="json")
    assert re.fullmatch(r"KEY=\*\*\*[0-9a-f]{4} A=\S+ B=\S+", " ".join(written["env"]))
    assert one.identity() != other.identity()
    assert Experiment.recorded(written).identity() == one.identity()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rate": None}, "--minimize needs a rate to compare at: add --rate"),
        ({"load": CLOSED}, "--minimize needs an open loop"),
        ({"minimize": "p98"}, "did you mean 'p99'"),
        ({"load": "trace:nowhere.csv"}, "cannot read the trace nowhere.csv"),
        ({"pin": "0:99999"}, "core 99999 is not available"),
    ],
)
def test_a_text_that_does_not_hold_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Experiment.model_validate({**WRITTEN, **changes})


def test_what_was_recorded_elsewhere_needs_no_file_and_no_core() -> None:
    """A report of a run is written on any machine; only what needs the trace misses it."""
    fields = {"model": "m", **SLA, "load": "trace:nowhere.csv", "pin": "0:99999"}
    experiment = Experiment.recorded(fields)
    assert experiment.pin == Pin("0:99999")
    assert isinstance(experiment.load, Arrivals)
    with pytest.raises(UsageError, match=r"cannot read the trace nowhere\.csv"):
        experiment.load.least_seconds(1.0)


def test_a_pin_divides_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2})
    experiment = Experiment.model_validate({"model": "m", **SLA, "pin": "0:1,2"})
    server = frozenset({0})
    assert experiment.pin.cores == Cores(server, server, frozenset({1, 2}))
