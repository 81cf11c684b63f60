"""The page tells every run, whole or broken, and escapes whatever the records hold."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plotly.offline import get_plotlyjs

from tests.browsing import Page, unpacked
from tests.manifests import make_manifest
from tests.search_records import (
    BATCH,
    COUNT,
    EXPERIMENT,
    evaluate,
    failed,
    infeasible,
    priced,
    realistic,
)
from tuner.analysis.doubts import ClientLimitedProbes
from tuner.analysis.search_findings import SearchFindings
from tuner.errors import RunError
from tuner.model.parameter import Value
from tuner.records.phases import TimeBudget
from tuner.records.results import Evaluation, GpuReading
from tuner.records.run import Run
from tuner.report.frame import packed
from tuner.report.html import diff, tag, text
from tuner.report.page import write_report
from tuner.report.probe_facts import probe_facts
from tuner.report.search_wording import answer, headline
from tuner.report.time_budget import budget_bar, budget_line
from tuner.report.wording import doubt_sentence, percent, times

HOSTILE = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(1)>&amp;"
MakeRun = Callable[..., Run]


def report(run: Run) -> Page:
    return Page(write_report(run).read_text(encoding="utf-8"))


def findings(evaluations: list[Evaluation], **changes: Any) -> SearchFindings:
    return SearchFindings(make_manifest(**EXPERIMENT | changes), evaluations)


def warnings(known: SearchFindings) -> list[str]:
    return list(map(doubt_sentence, known.doubts()))


@pytest.fixture(scope="module")
def evaluations() -> list[Evaluation]:
    return realistic(None)


def test_a_whole_run_tells_the_gain_and_how_to_repeat_it(whole_run: Run) -> None:
    page = report(whole_run)
    assert "2.5 × the requests within p99 ≤ 20 ms" in page.text
    assert EXPERIMENT["command"] in page.text
    assert "NVIDIA L4" in page.text
    assert "CUDA out of memory" in page.text
    assert len(page.figures()) == 11
    assert page.count("tr") == 1 + len(whole_run.evaluations())


def test_the_head_names_the_model_and_the_end_its_folder(make_run: MakeRun) -> None:
    folder = "../.venv/lib/python3.11/site-packages/tuner/data/model_repository/classifier"
    page = report(make_run([evaluate(0, {}, baseline=True)], model=folder))
    assert "classifier · run " in page.text
    assert page.text.count(folder) == 1
    assert page.text.index(folder) > page.text.index("Other fields of experiment.yaml")


def test_a_run_that_minimised_tells_what_it_came_to(make_run: MakeRun) -> None:
    settings: dict[str, Value] = {BATCH: 16}
    run = make_run(
        [
            priced(0, {BATCH: 8}, 0.012, baseline=True),
            priced(1, settings, 0.008),
            priced(2, {BATCH: 32}, 0.030, kept=False),
            priced(0, {BATCH: 8}, 0.012, baseline=True, phase="confirm"),
            priced(1, settings, 0.008, phase="confirm"),
        ]
    )
    page = report(run)
    assert "33 % less p99 at 100/s: 8 ms" in page.text
    assert "8 ms instead of 12 ms." in page.text
    assert "95 %: 3" in page.text
    assert "Every candidate was offered 100/s" in page.text
    assert "the highest rate that meets" not in page.text


def test_the_page_asks_no_one_for_anything(whole_run: Run) -> None:
    page = report(whole_run)
    for name, attributes in page.elements:
        assert "src" not in attributes
        assert name != "link" or attributes["href"] == "data:,"
    policy = next(a["content"] for _, a in page.elements if a.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_hostile_text_stays_text_everywhere(make_run: MakeRun) -> None:
    settings = {BATCH: 4, f"parameters[{HOSTILE}]": HOSTILE}
    run = make_run(
        [
            evaluate(0, {BATCH: 8}, baseline=True),
            evaluate(1, settings, capacity=5000.0, config=HOSTILE),
            failed(2, HOSTILE),
        ],
        model=HOSTILE,
        command=HOSTILE,
        environment={"server": HOSTILE, "notes": [HOSTILE]},
        space={
            "name": HOSTILE,
            "parameters": {f"parameters[{HOSTILE}]": {"values": [HOSTILE, None]}},
        },
        image=HOSTILE,
        env=[f"{HOSTILE}={HOSTILE}"],
    )
    page = report(run)
    assert page.count("script") == 3
    assert page.count("img") == 0
    assert page.text.count(HOSTILE) >= 8
    assert not any(key.startswith("on") for _, attributes in page.elements for key in attributes)


@given(content=st.text())
def test_what_is_packed_cannot_end_its_script_and_is_unpacked_alike(content: str) -> None:
    script = packed(content)
    assert not set("</") & set(script)
    assert unpacked(script) == content
    assert packed(content) == script


def test_a_page_with_figures_is_small_though_it_holds_plotly(whole_run: Run) -> None:
    page = write_report(whole_run)
    assert page.stat().st_size <= 2_000_000
    plotly = Page(page.read_text(encoding="utf-8")).scripts[0]
    assert unpacked(plotly) == get_plotlyjs()


def test_attributes_are_escaped() -> None:
    assert tag("p", text("<"), title='"><b>') == '<p title="&quot;&gt;&lt;b&gt;">&lt;</p>'


def test_a_diff_marks_what_changed() -> None:
    found = diff("a\nb\n", "a\n<c>\n")
    assert '<span class="removed">-b\n</span>' in found
    assert '<span class="added">+&lt;c&gt;\n</span>' in found


def test_nothing_measured_yet(make_run: MakeRun) -> None:
    page = report(make_run([]))
    assert "Nothing has been measured yet" in page.text
    assert page.figures() == {}
    assert page.scripts[0] == "", "Plotly is of no use here"


def test_only_the_baseline(make_run: MakeRun) -> None:
    page = report(make_run([evaluate(0, {BATCH: 8}, baseline=True)]))
    assert "The baseline serves 859/s within p99 ≤ 20 ms" in page.text
    assert "Not confirmed" in page.text
    assert {"settings", "importance"}.isdisjoint(page.figures())


def test_all_failed(make_run: MakeRun) -> None:
    page = report(make_run([failed(0, "no GPU", baseline=True), failed(1, "no port")]))
    assert "No candidate meets p99 ≤ 20 ms" in page.text
    assert "could be measured" in page.text
    assert "no GPU" in page.text
    assert "no port" in page.text


def test_nothing_meets_the_sla_names_the_closest(make_run: MakeRun) -> None:
    page = report(
        make_run(
            [
                infeasible(0, {BATCH: 8}, 2.5, baseline=True),
                infeasible(1, {BATCH: 4, COUNT: 2}, 1.25),
            ]
        )
    )
    assert "No candidate meets p99 ≤ 20 ms" in page.text
    expected = "Closest: batch 4, instances 2, 25 % above the bound."
    assert expected in page.text
    assert "Not confirmed" not in page.text
    assert "closest" in [t.get("name") for t in page.figures()["latency-by-rate"]["data"]]


@pytest.mark.parametrize(
    ("bound_ratio", "words"),
    [(float("inf"), "too many of its"), (0.98, "too few requests")],
)
def test_how_near_the_closest_came(bound_ratio: float, words: str) -> None:
    assert words in answer(findings([infeasible(0, {BATCH: 8}, bound_ratio, baseline=True)]))


def test_an_interrupted_run_says_that_it_is_not_confirmed(
    make_run: MakeRun, evaluations: list[Evaluation]
) -> None:
    run = make_run(evaluations[:4])
    with run.evaluations_file.open("a") as file:
        file.write('{"format":1,"trial":4,"pha')
    page = report(run)
    assert "Not confirmed" in page.text
    assert page.count("tr") == 1 + 4


def test_missing_and_damaged_samples_leave_only_their_figures_out(whole_run: Run) -> None:
    whole = set(report(whole_run).figures())
    for number, path in enumerate(sorted(whole_run.probes.iterdir())):
        if number % 2:
            path.unlink()
        else:
            path.write_bytes(b"PK\x03\x04 not a zip")
    left = set(report(whole_run).figures())
    assert left == whole - {"latency-distribution", "time-breakdown"}


def test_samples_outside_the_run_are_not_read(make_run: MakeRun) -> None:
    one = evaluate(0, {BATCH: 8}, baseline=True)
    probes = tuple(p.model_copy(update={"samples": "../../etc/passwd"}) for p in one.probes)
    page = report(make_run([one.model_copy(update={"probes": probes})]))
    assert "latency-distribution" not in page.figures()


def test_a_run_without_a_command_and_an_environment_still_renders(make_run: MakeRun) -> None:
    run = make_run([evaluate(0, {BATCH: 8}, baseline=True)], command=None, environment={})
    page = report(run)
    assert "did not record its command line" in page.text
    assert "did not record its environment" in page.text


def test_an_sla_that_cannot_be_read_is_named(make_run: MakeRun) -> None:
    run = make_run([evaluate(0, {BATCH: 8}, baseline=True)])
    text = run.experiment_file.read_text()
    run.experiment_file.write_text(text.replace("p99<20ms", "soon"))
    with pytest.raises(RunError, match=r"experiment\.yaml: bound 'soon' is not valid"):
        write_report(run)


def test_a_folder_that_is_no_run(tmp_path: Any) -> None:
    with pytest.raises(RunError):
        write_report(Run(tmp_path))


def test_a_page_is_made_anew_from_the_same_records_alike(whole_run: Run) -> None:
    first = write_report(whole_run).read_bytes()
    assert write_report(whole_run).read_bytes() == first


def test_the_best_may_be_the_baseline() -> None:
    first = evaluate(0, {BATCH: 16, COUNT: 4}, baseline=True)
    told = findings([first, evaluate(1, {BATCH: 2})])
    assert headline(told) == "No candidate is better: keep your current configuration"
    assert [s.role for s in told.subjects] == ["baseline"]


def test_a_gain_within_the_noise_is_none() -> None:
    first = evaluate(0, {BATCH: 8}, baseline=True, capacity=100.0)
    told = findings([first, evaluate(1, {BATCH: 16}, capacity=101.0)])
    assert headline(told).startswith("No gain shown")


def test_a_baseline_that_fails_the_sla_is_said_so() -> None:
    first = infeasible(0, {BATCH: 8}, 1.5, baseline=True)
    told = findings([first, evaluate(1, {BATCH: 16}, capacity=300.0)])
    assert headline(told) == "300/s within p99 ≤ 20 ms"
    assert "does not meet the SLA" in answer(told)


def test_the_gain_and_its_interval_come_from_interleaved_rounds() -> None:
    by_round = ((100.0, 0.01), (50.0, 0.01), (100.0, 0.01))
    first = evaluate(
        0, {BATCH: 8}, phase="confirm", baseline=True, capacity=90.0, by_round=by_round
    )
    twice = tuple((2.2 * rate, error) for rate, error in by_round)
    last = evaluate(1, {BATCH: 16}, phase="confirm", capacity=220.0, by_round=twice)
    told = findings([first, last])
    assert told.gain == pytest.approx(2.2)
    assert told.gain_interval is not None
    assert 2.1 < told.gain_interval.low < 2.17
    assert 2.23 < told.gain_interval.high < 2.3
    assert any("from 50/s to 100/s" in w for w in warnings(told))


def test_without_interleaved_rounds_the_gain_has_no_interval() -> None:
    first = evaluate(0, {BATCH: 8}, baseline=True, capacity=100.0)
    told = findings([first, evaluate(1, {BATCH: 16}, capacity=220.0)])
    assert told.gain == pytest.approx(2.2)
    assert told.gain_interval is None


def test_a_machine_that_changed_is_told() -> None:
    def look(phase: str, low: float, high: float) -> Evaluation:
        middle = (low + high) / 2
        values = {"capacity": middle, "low": low, "high": high}
        return evaluate(0, {BATCH: 8}, phase=phase, baseline=True, **values)

    first, same, slow = look("search", 95, 105), look("again", 92, 104), look("again", 65, 75)
    assert not any("machine changed" in w for w in warnings(findings([first, same])))
    assert any("machine changed" in w for w in warnings(findings([first, same, slow])))


def test_an_open_end_and_a_limited_client_are_doubts() -> None:
    open_end = findings([evaluate(0, {BATCH: 8}, baseline=True, high=None)])
    limited = findings([evaluate(0, {BATCH: 8}, baseline=True, client_limited=True)])
    assert any("no probed rate violates the SLA" in w for w in warnings(open_end))
    assert any("load generator saturated" in w for w in warnings(limited))


def test_one_probe_does_not_count_and_several_do_not() -> None:
    one, several = (doubt_sentence(ClientLimitedProbes(number)) for number in (1, 1200))
    assert "1 probe violated" in one
    assert "and does not count" in one
    assert "1,200 probes violated" in several
    assert "and do not count" in several


def test_a_probe_has_its_numbers_grouped_and_its_open_ends_told() -> None:
    tested = evaluate(0, {BATCH: 8}, baseline=True)
    changes = {"n": 123_456, "violations": 1639, "latency_interval": {"p99": (0.0272, None)}}
    told = dict(probe_facts(tested.probes[0].model_copy(update=changes), tested))
    assert told["late or failed"].startswith("1,639 of 123,456")
    assert "(27.2 ms or more)" in told["latency (95 %)"].replace("\N{NO-BREAK SPACE}", " ")


def test_an_open_end_is_told_on_the_first_screen(make_run: MakeRun) -> None:
    page = report(make_run([evaluate(0, {BATCH: 8}, baseline=True, low=410.0, high=None)]))
    assert "95 %: 410/s or more" in page.text


def on_gpu(evaluation: Evaluation, *readings: GpuReading | None) -> Evaluation:
    """The same with these readings in its first probes, and none in the others."""
    given = (*readings, *[None] * len(evaluation.probes))
    pairs = zip(evaluation.probes, given, strict=False)
    probes = tuple(p.model_copy(update={"gpu": gpu}) for p, gpu in pairs)
    return evaluation.model_copy(update={"probes": probes})


QUIET = GpuReading(utilisation=0.7, memory=2**30, power=60.0, devices=1, clock=1740.0)


def test_a_gpu_that_throttled_or_was_shared_is_a_doubt() -> None:
    hot = QUIET.model_copy(update={"throttled": ("power cap", "thermal")})
    shared = QUIET.model_copy(update={"others": ("python3 (pid 7)",)})
    told = findings([on_gpu(evaluate(0, {BATCH: 8}, baseline=True), hot, shared, QUIET)])
    (throttled,) = [w for w in warnings(told) if w.startswith("GPU throttled")]
    assert "in 1 probe of 3 the GPU lowered its clock (power cap, thermal)" in throttled
    (in_use,) = [w for w in warnings(told) if w.startswith("GPU in use by others")]
    assert "in 1 probe of 3 the server shared its GPU with python3 (pid 7)" in in_use


def test_a_gpu_to_oneself_that_runs_freely_is_no_doubt() -> None:
    told = findings([on_gpu(evaluate(0, {BATCH: 8}, baseline=True), QUIET)])
    assert not any("GPU" in w for w in warnings(told))


def test_the_gpu_at_capacity_is_told_as_far_as_it_is_known(make_run: MakeRun) -> None:
    one = evaluate(0, {BATCH: 8}, baseline=True)
    at = one.at_capacity()
    assert at is not None
    known = QUIET.model_copy(update={"devices": 2, "temperature": 71.0, "throttled": ("thermal",)})
    probes = tuple(p.model_copy(update={"gpu": known if p == at else None}) for p in one.probes)
    page = report(make_run([one.model_copy(update={"probes": probes})]))
    words = page.text
    for fact in ("70 %", "1 GiB", "60 W", "1,740 MHz", "71 °C", "GPU throttledthermal"):
        assert fact in words
    assert "GPU shared with" not in words


def test_without_a_gpu_the_page_does_not_speak_of_one(make_run: MakeRun) -> None:
    run = make_run([on_gpu(evaluate(0, {BATCH: 8}, baseline=True))], environment={"cores": "2"})
    words = report(run).text.replace("KIND_GPU", "").replace("emulated_gpu", "")
    assert "GPU" not in words


def test_a_failure_names_its_cause(make_run: MakeRun) -> None:
    page = report(make_run([failed(0, "CUDA said no", cause="out of memory", baseline=True)]))
    assert "trial 0: batch 16, instances 4 (out of memory)" in page.text


def test_numbers_in_words() -> None:
    space = "\N{NO-BREAK SPACE}"
    assert [times(r) for r in (1.234, 2.345, 31.4)] == [
        f"{n}{space}×" for n in ("1.23", "2.3", "31")
    ]
    found = [percent(s) for s in (0.0, 0.0038, 0.25, 0.999)]
    assert found == [f"{n}{space}%" for n in ("0", "0.38", "25", "99.9")]


def test_the_time_bar_is_as_wide_as_its_phases() -> None:
    budget = TimeBudget(start=5, calibration=15, trials=60, verification=20, launches=12)
    page = str(budget_bar(budget))
    assert "width:5.00%" in page
    assert "width:60.00%" in page
    assert "simulation" not in page
    assert "trials 1:00 (60 %)" in page
    assert budget_line(budget).startswith("Time 1:40: start 0:05, calibration 0:15, trials 1:00,")


def test_a_run_of_before_times_were_kept_has_no_bar(whole_run: Run) -> None:
    assert 'class="budget"' not in write_report(whole_run).read_text(encoding="utf-8")
