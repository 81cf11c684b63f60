import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.manifests import make_manifest
from tuner.documents import DocumentLimits
from tuner.errors import RunError, StorageError
from tuner.model.parameter import Value
from tuner.model.space import Candidate
from tuner.records import run as run_module
from tuner.records.results import (
    Evaluation,
    GpuReading,
    ProbeRecord,
    ServerTimes,
    State,
    baseline,
    best,
    closest,
)
from tuner.records.run import Run, write_text

relaxed = settings(deadline=None, max_examples=60)

PROBE: dict[str, Any] = {
    "purpose": "capacity",
    "load": "poisson",
    "rate": 120.0,
    "concurrency": None,
    "seed": 7,
    "seconds": 4.0,
    "n": 480,
    "errors": 0,
    "violations": 1,
    "latency": {"p50": 0.004, "p99": 0.015, "p99.9": math.inf, "p95": None},
    "throughput": 119.0,
    "outcome": "met",
    "remedy": None,
    "confidence": 0.95,
    "bound_ratio": 0.75,
    "lateness_p99": 0.0001,
    "client_limited": False,
}


def probe(**fields: Any) -> ProbeRecord:
    return ProbeRecord.model_validate({**PROBE, **fields})


def evaluation(**fields: Any) -> Evaluation:
    known: dict[str, Any] = {
        "trial": 0,
        "phase": "search",
        "baseline": False,
        "settings": {"max_batch_size": 8},
        "config": 'name: "m"\n',
        "state": State.OK if fields.get("capacity") is not None else State.INFEASIBLE,
        "started": "2025-01-01T00:00:00+00:00",
        "seconds": 10.0,
    }
    return Evaluation.model_validate({**known, **fields})


def rich() -> Evaluation:
    return evaluation(
        settings={"dynamic_batching": True, "dynamic_batching.preferred_batch_size": (4, 8)},
        capacity=120.0,
        bound_ratio=math.inf,
        failure="Fehler: größer als 20 µs\nzweite Zeile",
        cause="out of memory",
        probes=(
            probe(
                server=ServerTimes(
                    requests=480,
                    executions=100,
                    queue=0.001,
                    compute_input=0.0001,
                    compute_infer=0.003,
                    compute_output=0.0001,
                    batches={1: 20, 8: 80},
                ),
                gpu=GpuReading(
                    utilisation=0.5,
                    memory=1 << 30,
                    power=None,
                    devices=2,
                    clock=1740.0,
                    temperature=71.0,
                    throttled=("power cap", "thermal"),
                    others=("python3 (pid 4711)",),
                ),
            ),
            probe(
                rate=None, concurrency=1, outcome="inconclusive", remedy="repeat", bound_ratio=None
            ),
        ),
    )


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "run", make_manifest())


class TestRecords:
    def test_they_come_back_as_they_were_written(self, run: Run) -> None:
        written = [rich(), evaluation(trial=1), evaluation(trial=2, capacity=0.5)]
        for each in written:
            run.append(each)
        assert run.evaluations() == written
        first = run.evaluations()[0]
        assert first.bound_ratio == math.inf
        assert first.probes[0].latency == {
            "p50": 0.004,
            "p99": 0.015,
            "p99.9": math.inf,
            "p95": None,
        }
        assert first.probes[0].server is not None
        assert first.probes[0].server.batches == {1: 20, 8: 80}

    def test_a_line_is_json_that_others_can_read(self, run: Run) -> None:
        run.append(rich())

        def refuse(constant: str) -> None:
            raise AssertionError(f"{constant} is not JSON")

        record = json.loads(run.evaluations_file.read_text(), parse_constant=refuse)
        assert record["bound_ratio"] == "Infinity"

    @given(
        st.dictionaries(
            st.text(min_size=1),
            st.booleans()
            | st.integers(-(2**63), 2**63)
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.lists(st.integers(0, 99)).map(tuple),
        ),
        st.none() | st.floats(0, allow_nan=False),
    )
    @relaxed
    def test_settings_keep_their_types(
        self, settings: dict[str, Value], bound_ratio: float | None
    ) -> None:
        record = evaluation(settings=settings, bound_ratio=bound_ratio)
        again = Evaluation.model_validate_json(record.model_dump_json())
        assert again == record
        assert {k: type(v) for k, v in again.settings.items()} == {
            k: type(v) for k, v in settings.items()
        }

    def test_records_of_before_gpus_were_watched_can_be_read(self, run: Run) -> None:
        record = json.loads(rich().model_dump_json())
        del record["cause"]
        known = ("utilisation", "memory", "power")
        gpu = record["probes"][0]["gpu"]
        record["probes"][0]["gpu"] = {name: gpu[name] for name in known}
        run.evaluations_file.write_text(json.dumps(record) + "\n")
        (read,) = run.evaluations()
        assert read.cause is None
        assert read.probes[0].gpu == GpuReading(utilisation=0.5, memory=1 << 30, power=None)

    def test_no_records_are_none(self, run: Run) -> None:
        assert run.evaluations() == []

    def test_unknown_fields_are_refused(self) -> None:
        with pytest.raises(ValidationError):
            evaluation(capcity=3.0)

    def test_a_candidate_comes_back_from_its_record(self) -> None:
        candidate = Candidate.of({"max_batch_size": 8, "instance_group.count": 2})
        record = evaluation(settings=dict(candidate.settings))
        assert record.candidate == candidate
        assert record.label == str(candidate)

    @pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\u0085"])
    def test_a_failure_may_hold_any_character(self, run: Run, separator: str) -> None:
        record = evaluation(failure=f"the server said{separator}no")
        run.append(record)
        assert run.evaluations() == [record]


class TestCutRecords:
    def cut(self, run: Run, keep: int) -> None:
        content = run.evaluations_file.read_bytes()
        run.evaluations_file.write_bytes(content[:keep])

    def test_a_last_line_that_was_cut_short_is_left_out(self, run: Run) -> None:
        run.append(evaluation(trial=0))
        whole = run.evaluations_file.stat().st_size
        run.append(evaluation(trial=1))
        self.cut(run, whole + 40)
        assert [each.trial for each in run.evaluations()] == [0]

    def test_it_may_be_cut_anywhere(self, run: Run) -> None:
        run.append(evaluation(trial=0))
        whole = run.evaluations_file.stat().st_size
        run.append(rich())
        end = run.evaluations_file.stat().st_size
        for keep in range(end - 2, whole, -1):
            self.cut(run, keep)
            assert [each.trial for each in run.evaluations()] == [0]

    def test_a_run_goes_on_after_a_cut_line(self, run: Run) -> None:
        run.append(evaluation(trial=0))
        whole = run.evaluations_file.stat().st_size
        run.append(evaluation(trial=1))
        self.cut(run, whole + 40)
        run.append(evaluation(trial=2))
        assert [each.trial for each in run.evaluations()] == [0, 2]

    def test_a_broken_line_in_the_middle_is_an_error_that_names_it(self, run: Run) -> None:
        for trial in range(3):
            run.append(evaluation(trial=trial))
        lines = run.evaluations_file.read_text().splitlines()
        lines[1] = lines[1][:40]
        run.evaluations_file.write_text("\n".join(lines) + "\n")
        with pytest.raises(RunError, match=r"evaluations\.jsonl:2: not a record of format 3"):
            run.evaluations()

    @pytest.mark.parametrize(
        "line",
        [
            *("", "[]", "null", "{", "\0", "[" * 100_000, '{"format":' + "9" * 5000 + "}"),
            *('{"settings": {"a": [' + "1," * 200 + "1]}}", '{"seconds": 1e999}'),
        ],
        ids=lambda line: line[:12],
    )
    def test_a_line_that_is_no_record_is_an_error_that_names_it(self, run: Run, line: str) -> None:
        run.append(evaluation())
        with run.evaluations_file.open("a") as file:
            file.write(line + "\n")
        with pytest.raises(RunError, match=r"evaluations\.jsonl:2: ") as caught:
            run.evaluations()
        assert len(str(caught.value)) < 1000

    def test_a_line_without_an_end_is_not_read_for_ever(
        self, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(run_module, "LIMITS", DocumentLimits(record=1000))
        run.evaluations_file.write_text("x" * 2000)
        with pytest.raises(RunError, match="line 1 is longer than 1,000"):
            run.evaluations()

    @pytest.mark.parametrize(
        "content",
        [
            *("", "- 1", "format: 9", "format: 1\nenvironment: [1]", "kind: [1]\nformat: 2"),
            *("[" * 1000, "a: &a [*a]", "a: 2020-01-01", "format: 2\nkind: search\nexperiment: 3"),
            "format: 2\nkind: search\nexperiment: {model: m, sla: p99<99999999h}",
        ],
    )
    def test_a_manifest_that_is_none_is_an_error_that_names_it(
        self, run: Run, content: str
    ) -> None:
        run.experiment_file.write_text(content)
        with pytest.raises(RunError, match=r"experiment\.yaml") as caught:
            run.manifest()
        assert len(str(caught.value)) < 1000

    @pytest.mark.parametrize("name", ["a" * 5000, "a\0b", "nowhere"])
    def test_a_folder_that_cannot_be_is_no_run(self, name: str) -> None:
        with pytest.raises(RunError, match="is not a run folder"):
            Run.open(Path(name))

    @pytest.mark.slow
    def test_a_large_space_is_read_as_it_was_written(self, run: Run) -> None:
        values = {"values": list(range(1000))}
        parameters = {f"parameters[p{number}]": values for number in range(40)}
        manifest = make_manifest(space={"name": "large", "parameters": parameters})
        run.describe(manifest)
        assert run.manifest() == manifest

    def test_a_whole_last_line_of_something_else_is_an_error(self, run: Run) -> None:
        run.append(evaluation())
        with run.evaluations_file.open("a") as file:
            file.write('{"format": 9}\n')
        with pytest.raises(RunError, match=r"evaluations\.jsonl:2: "):
            run.evaluations()


class TestChoice:
    def test_the_best_has_the_highest_capacity(self) -> None:
        some = [evaluation(trial=n, capacity=c) for n, c in enumerate((10.0, 30.0, None, 20.0))]
        assert best(some) == some[1]
        assert best([]) is None
        assert best([evaluation(bound_ratio=2.0)]) is None

    def test_what_was_confirmed_counts_more_than_what_was_hoped(self) -> None:
        hoped = evaluation(trial=1, capacity=100.0)
        confirmed = evaluation(trial=2, capacity=80.0, phase="confirm")
        assert best([hoped, confirmed]) == confirmed

    def test_a_measurement_does_not_win(self) -> None:
        assert best([evaluation(capacity=100.0, phase="measure")]) is None

    def test_the_baseline_is_the_confirmed_one_if_it_was(self) -> None:
        first = evaluation(baseline=True, capacity=10.0)
        again = evaluation(baseline=True, capacity=9.0, phase="confirm")
        assert baseline([evaluation(capacity=50.0), first]) == first
        assert baseline([first, again]) == again
        assert baseline([evaluation(capacity=50.0)]) is None

    def test_the_closest_has_the_smallest_margin(self) -> None:
        some = [
            evaluation(trial=n, bound_ratio=m) for n, m in enumerate((math.inf, 1.5, None, 3.0))
        ]
        assert closest(some) == some[1]
        assert closest([some[2]]) is None

    def test_the_probe_at_capacity_is_the_highest_that_kept_the_promise(self) -> None:
        probes = (
            probe(rate=100.0, seed=1, bound_ratio=0.5),
            probe(rate=120.0, seed=2, bound_ratio=0.9),
            probe(rate=121.0, seed=3, bound_ratio=1.1, outcome="inconclusive"),
            probe(rate=150.0, seed=4, bound_ratio=0.8),
        )
        at = evaluation(capacity=120.0, high=130.0, probes=probes).at_capacity()
        assert at is not None
        assert at.seed == 2
        assert evaluation(probes=probes).at_capacity() is None

    def test_a_proof_goes_before_it(self) -> None:
        probes = (
            probe(rate=100.0, seed=1, bound_ratio=0.5, purpose="proof", outcome="met"),
            probe(rate=110.0, seed=2, bound_ratio=0.9, purpose="proof", outcome="inconclusive"),
            probe(rate=120.0, seed=3, bound_ratio=0.9, outcome="met"),
        )
        found = evaluation(capacity=120.0, high=130.0, probes=probes)
        proof = found.proof()
        assert proof is not None
        assert proof.seed == 1
        assert found.at_capacity() == proof

    def test_in_a_closed_loop_the_capacity_is_a_throughput(self) -> None:
        probes = (probe(rate=None, concurrency=4, throughput=77.0, load="closed"),)
        assert evaluation(capacity=77.0, probes=probes).at_capacity() == probes[0]

    def test_the_unloaded_probe_is_found_by_its_purpose(self) -> None:
        alone = probe(purpose="unloaded", rate=None, concurrency=1)
        assert evaluation(probes=(probe(), alone)).unloaded() == alone
        assert evaluation(probes=(probe(),)).unloaded() is None


class TestRun:
    def test_its_experiment_reads_back(self, run: Run) -> None:
        assert Run.open(run.folder).manifest() == make_manifest()

    def test_a_foreign_folder_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(RunError, match="is not a run folder"):
            Run.open(tmp_path)

    @pytest.mark.parametrize("text", ["[1, 2]", "a: [", ""])
    def test_an_experiment_that_is_none_is_refused(self, run: Run, text: str) -> None:
        run.experiment_file.write_text(text)
        with pytest.raises(RunError, match=r"experiment\.yaml"):
            run.manifest()

    def test_a_place_that_cannot_be_written_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(StorageError, match=r"cannot write .*file.*choose another --output"):
            Run.create(tmp_path / "file" / "run")

    def test_records_that_cannot_be_written_are_named(self, run: Run) -> None:
        run.evaluations_file.mkdir()
        with pytest.raises(StorageError, match=r"cannot write .*evaluations\.jsonl"):
            run.append(evaluation())


def test_a_text_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    write_text(file, "old")
    write_text(file, "new ü")
    assert file.read_text(encoding="utf-8") == "new ü"
    taken = tmp_path / "taken"
    (taken / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="taken"):
        write_text(taken, "text")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "taken"]


def test_a_deployment_of_an_old_record_is_read_as_one() -> None:
    """Before 0.2 its name was the only setting of a candidate."""
    record = json.loads(evaluation().model_dump_json())
    del record["deployment"]
    record["settings"] = {"deployment": "fastapi"}
    read = Evaluation.model_validate_json(json.dumps(record))
    assert read.deployment == "fastapi"
    assert read.label == "fastapi"
    assert read.settings == {}
