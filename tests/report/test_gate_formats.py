"""A gate's result in the forms of other tools, its page and its lines."""

import io
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.console import Console

from tests.browsing import Page
from tests.manifests import make_manifest
from tests.records.test_results import evaluation, probe
from tuner.cli.gate_summary import show
from tuner.records.gate import NEW, OLD, Cause, GateRecord, Verdict, read_gate, write_gate
from tuner.records.results import Evaluation, State
from tuner.records.run import Run
from tuner.report.figures import drawings, names
from tuner.report.gate_formats import tell_github, write_formats
from tuner.report.gate_wording import headline, reason
from tuner.report.page import write_report
from tuner.report.summary import summary_html
from tuner.report.wording import NBSP

HOSTILE = "a|b <b>[x](y)</b>\n::error::"


def record(
    cause: Cause = Cause.WORSE, verdict: Verdict = Verdict.FAIL, **fields: Any
) -> GateRecord:
    known: dict[str, Any] = {
        "model": "detector",
        "sla": "p99<20ms",
        "kind": "revision",
        "against": "origin/main",
        "commit": "0123456789abcdef",
        "margin": 0.05,
        "ratio": 0.88,
        "low": 0.84,
        "high": 0.92,
        "rounds": 4,
    }
    return GateRecord(verdict=verdict, cause=cause, **{**known, **fields})


def version(name: str, rate: float | None, **fields: Any) -> Evaluation:
    known: dict[str, Any] = {
        "phase": "confirm",
        "deployment": name,
        "trial": int(name == NEW),
        "baseline": name == OLD,
        "capacity": rate,
        "config": f'name: "m" max_batch_size: {8 + (name == NEW)}',
        "probes": (probe(bound_ratio=0.9),),
    }
    if rate is not None:
        rounds = ((rate, 0.02), (1.01 * rate, 0.02))
        known |= {"low": 0.97 * rate, "high": 1.03 * rate, "by_round": rounds}
    return evaluation(**{**known, **fields})


def make_run(folder: Path, made: GateRecord, *evaluations: Evaluation) -> Run:
    fields = {"kind": "gate", "against": made.against, "margin": made.margin}
    run = Run.create(folder / "gate", make_manifest(**fields))
    for each in evaluations:
        run.append(each)
    write_gate(run, made)
    return run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_run(tmp_path, record(), version(OLD, 500.0), version(NEW, 440.0))


def written(run: Run, name: str, folder: Path) -> str:
    file = folder / "deep" / name
    write_formats(run, {name: file})
    return file.read_text(encoding="utf-8")


def test_a_record_is_read_as_it_was_written(run: Run) -> None:
    assert read_gate(run) == record()


@pytest.mark.parametrize(
    ("verdict", "element"),
    [(Verdict.PASS, None), (Verdict.FAIL, "failure"), (Verdict.INCONCLUSIVE, "error")],
)
def test_junit_has_a_case_that_passes_only_with_the_gate(
    tmp_path: Path, verdict: Verdict, element: str | None
) -> None:
    run = make_run(tmp_path, record(verdict=verdict), version(OLD, 500.0), version(NEW, 440.0))
    suite = ElementTree.fromstring(written(run, "junit", tmp_path))
    (case,) = suite.findall("testcase")
    assert [each.tag for each in case] == ([element] if element else [])
    assert suite.get("tests") == "1"
    assert suite.get("failures") == str(int(element == "failure"))
    assert suite.get("errors") == str(int(element == "error"))
    assert case.get("classname") == "detector"


def test_junit_has_a_case_for_each_bound_of_a_judged_rate(tmp_path: Path) -> None:
    made = record(
        Cause.RATE_VIOLATED,
        sla="p50<5ms, p99<20ms",
        kind="rate",
        against="800/s",
        rate=800.0,
        ratio=None,
        low=None,
        high=None,
        commit=None,
    )
    run = make_run(tmp_path, made, version(NEW, None, phase="measure"))
    suite = ElementTree.fromstring(written(run, "junit", tmp_path))
    names = [case.get("name") for case in suite.findall("testcase")]
    assert names == ["p50<5ms at 800/s", "p99<20ms at 800/s"]
    assert suite.get("failures") == "2"


def test_bencher_gets_the_interval_of_the_new_version(run: Run, tmp_path: Path) -> None:
    (measures,) = json.loads(written(run, "bencher", tmp_path)).values()
    assert measures["throughput"] == {
        "value": 440.0,
        "lower_value": pytest.approx(426.8),
        "upper_value": pytest.approx(453.2),
    }
    assert measures["latency"]["value"] > 1e3, "nanoseconds"


def test_github_action_benchmark_gets_a_row_of_the_new_version(run: Run, tmp_path: Path) -> None:
    (row,) = json.loads(written(run, "github-benchmark", tmp_path))
    assert row["value"] == 440.0
    assert row["unit"] == "requests/s"
    assert row["range"] == "± 13.2"


def test_without_a_capacity_the_forms_are_still_whole(tmp_path: Path) -> None:
    new = version(NEW, None, state=State.FAILED, failure=HOSTILE, probes=())
    made = record(Cause.NEW_FAILED, ratio=None, low=None, high=None)
    run = make_run(tmp_path, made, version(OLD, 500.0), new)
    assert json.loads(written(run, "bencher", tmp_path)) == {}
    assert json.loads(written(run, "github-benchmark", tmp_path)) == []
    suite = ElementTree.fromstring(written(run, "junit", tmp_path))
    assert suite.findtext("testcase/system-err") == HOSTILE
    assert "a|b <b>" not in Page(write_report(run).read_text()).text.partition("a|b")[0]


def test_markdown_shows_hostile_names_as_text(tmp_path: Path) -> None:
    made = record(against="a|b<b>", notes=("[x](y)",))
    shown = written(make_run(tmp_path, made, version(NEW, 440.0)), "markdown", tmp_path)
    assert "a\\|b\\<b\\>" in shown
    assert "\\[x\\](y)" in shown
    assert shown.replace(NBSP, " ").startswith("## Fail: detector serves 12 % less (8 % to 16 %)")


def test_github_gets_an_annotation_on_one_line_and_a_summary(tmp_path: Path) -> None:
    made = record(against="50%\nmore")
    run = make_run(tmp_path, made, version(OLD, 500.0), version(NEW, 440.0))
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    environment = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary)}
    (line,) = tell_github(run, environment)
    assert line.startswith("::error title=tuner gate::Fail: detector")
    assert "50%25%0Amore" in line
    assert summary.read_text().startswith("before\n## Fail")
    assert tell_github(run, {}) == []


@pytest.mark.parametrize("cause", Cause)
def test_every_cause_has_words(cause: Cause) -> None:
    made = record(cause, rate=800.0)
    assert len(headline(made)) > 10
    assert reason(made).endswith(".")


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize(
    ("verdict", "code"), [(Verdict.PASS, 0), (Verdict.FAIL, 1), (Verdict.INCONCLUSIVE, 4)]
)
def test_the_exit_code_tells_the_verdict(
    tmp_path: Path, verdict: Verdict, code: int, as_json: bool
) -> None:
    made = record(verdict=verdict)
    run = make_run(tmp_path, made, version(OLD, 500.0), version(NEW, 440.0))
    console = Console(file=io.StringIO(), width=110)
    assert show(run, made, as_json, console) == code
    assert isinstance(console.file, io.StringIO)
    said = console.file.getvalue()
    if as_json:
        assert json.loads(said)["verdict"] == verdict.value
    else:
        assert "440/s" in said
        assert "serves 12" in said


def test_the_page_tells_the_verdict_and_what_changed(run: Run) -> None:
    page = Page(write_report(run).read_text(encoding="utf-8")).text
    assert "Fail: detector serves 12" in page
    assert "What changed in config.pbtxt" in page
    assert "0.88" in page
    assert {each.name for each in drawings(run)} == set(names(run))
    assert "Fail: detector" in summary_html(run)
