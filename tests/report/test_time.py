"""Figures and words of where the time goes, and of what the server takes of the machine."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from tuner.goals.sla import Sla
from tuner.records.results import Evaluation, HostReading, ProbeRecord, ServerTimes, State
from tuner.records.run import Run
from tuner.report.figures_breakdown import time_breakdown
from tuner.report.figures_by_rate import host_by_rate
from tuner.report.page import write_report
from tuner.report.search_figures import drawings
from tuner.report.series import candidates
from tuner.report.wording import HIDDEN_COMPUTE
from tuner.stats.samples import Samples

SLA = Sla.parse("p99<20ms")
DELAY = "dynamic_batching.max_queue_delay_microseconds"
PIPELINE = 'backend: "python"\nparameters { key: "pipeline" value { string_value: "2" } }\n'


def probe(rate: float, **changes: Any) -> ProbeRecord:
    """1000 requests whose parts grow with the rate: 0.1 + queue + 0.2 + 5 + 0.3 + 0.4 ms."""
    queue = rate * 1e-5
    record: dict[str, Any] = {
        "purpose": "capacity",
        "load": "poisson",
        "rate": rate,
        "concurrency": None,
        "seed": 0,
        "seconds": 1000 / rate,
        "n": 1000,
        "errors": 0,
        "violations": 0,
        "latency": {"p50": 0.008, "p99": 0.012},
        "throughput": rate,
        "outcome": "met",
        "remedy": None,
        "confidence": 0.95,
        "bound_ratio": 0.6,
        "lateness_p99": 1e-4,
        "client_limited": False,
        "client_cpu": 0.3,
        "mean": queue + 0.006,
        "client_wait": 1e-4,
        "server": ServerTimes(
            requests=1000,
            executions=250,
            queue=queue,
            compute_input=2e-4,
            compute_infer=5e-3,
            compute_output=3e-4,
            batches={4: 250},
        ),
        "host": HostReading(cpu=rate / 400, memory=300 * 2**20, client_cores=0.25),
    }
    return ProbeRecord.model_validate(record | changes)


def evaluate(*probes: ProbeRecord, delay: int = 0, **changes: Any) -> Evaluation:
    record: dict[str, Any] = {
        "trial": delay,
        "phase": "search",
        "baseline": delay == 0,
        "settings": {DELAY: delay},
        "config": "",
        "state": State.OK,
        "capacity": max((p.rate or 0.0 for p in probes if p.outcome == "met"), default=None),
        "bound_ratio": 0.6,
        "started": "2026-03-01T10:00:00+00:00",
        "seconds": 9.0,
        "probes": probes,
    }
    return Evaluation.model_validate(record | changes)


def bars(figure: go.Figure | None, xaxis: str = "x") -> dict[str, dict[str, float]]:
    """Milliseconds by rate and part, of one subplot."""
    assert figure is not None
    found: dict[str, dict[str, float]] = {}
    for trace in figure.data:
        if trace.xaxis == xaxis:
            for rate, value in zip(trace.x, trace.y, strict=True):
                found.setdefault(rate, {})[trace.legendgroup] = value
    return found


def test_parts_are_stacked_by_rate_for_baseline_and_winner() -> None:
    figure = time_breakdown([evaluate(probe(200), probe(400)), evaluate(probe(500), delay=100)], {})
    left, right = bars(figure, "x"), bars(figure, "x2")
    assert list(left) == ["200/s", "400/s"]
    assert list(right) == ["500/s"]
    parts = {"client": 0.1, "queue": 4.0, "input": 0.2, "infer": 5.0, "output": 0.3, "rest": 0.4}
    assert left["400/s"] == pytest.approx(parts)
    assert sum(right["500/s"].values()) == pytest.approx(11.0)
    assert figure is not None
    assert figure.layout.barmode == "stack"
    shown = [trace.name for trace in figure.data if trace.showlegend]
    assert len(shown) == len(set(shown)) == 6


def test_rates_far_beyond_capacity_would_flatten_all_else() -> None:
    late = probe(600, mean=2.0, outcome="violated", bound_ratio=40.0)
    assert list(bars(time_breakdown([evaluate(probe(200), probe(400), late)], {}))) == [
        "200/s",
        "400/s",
    ]


def test_of_many_probes_those_at_rates_apart_are_drawn_and_capacity_always() -> None:
    rates = [100 * 1.03**step for step in range(60)]
    one = evaluate(*map(probe, rates))
    shown = [float(rate.removesuffix("/s")) for rate in bars(time_breakdown([one], {}))]
    assert 3 <= len(shown) <= 7
    assert shown == sorted(shown)
    assert shown[-1] == pytest.approx(rates[-1], rel=0.01)
    assert min(b / a for a, b in pairwise(shown)) > 1.11


def test_what_cannot_be_known_is_not_drawn() -> None:
    without = evaluate(probe(200, server=None), probe(400, mean=None))
    assert time_breakdown([without], {}) is None
    assert time_breakdown([], {}) is None
    times = probe(200).server
    assert times is not None
    others = times.model_copy(update={"requests": 5000})
    (parts,) = bars(time_breakdown([evaluate(probe(200, server=others))], {})).values()
    assert set(parts) == {"client", "queue", "input", "infer", "output"}


def test_old_records_take_mean_and_wait_from_their_samples() -> None:
    intended = np.arange(1000) * 0.005
    raw = Samples(intended, intended + 1e-4, intended + 0.008, np.ones(1000, dtype=bool))
    old = probe(200, mean=None, client_wait=None, host=None, samples="probes/a.npz")
    assert time_breakdown([evaluate(old)], {}) is None
    (parts,) = bars(time_breakdown([evaluate(old)], {"probes/a.npz": raw})).values()
    assert sum(parts.values()) == pytest.approx(8.0)


def test_cores_and_memory_are_drawn_by_what_was_served() -> None:
    unloaded = probe(50, purpose="unloaded")
    figure = host_by_rate(candidates([evaluate(unloaded, probe(400), probe(200))]))
    assert figure is not None
    cores, line, memory, _ = figure.data
    assert list(line.y) == list(cores.y)
    assert (list(cores.x), list(cores.y)) == ([200, 400], [0.5, 1.0])
    assert list(memory.y) == [300.0, 300.0]
    assert figure.layout.yaxis2.title.text == "memory (MiB)"


def test_a_server_that_is_not_seen_is_told_and_old_runs_do_not_speak_of_it() -> None:
    unseen = HostReading(cpu=None, memory=None, client_cores=0.1)
    drawn = {d.name: d for d in drawings([evaluate(probe(200, host=unseen))], SLA, {})}
    assert drawn["host"].figure is None
    assert "cannot see" in drawn["host"].missing
    old = drawings([evaluate(probe(200, host=None))], SLA, {})
    assert "host" not in [d.name for d in old]


@pytest.mark.parametrize(("config", "told"), [(PIPELINE, True), ("", False)])
def test_a_pipeline_inside_the_model_is_told_beside_the_breakdown(config: str, told: bool) -> None:
    drawn = drawings([evaluate(probe(200), config=config)], SLA, {})
    reading = next(d.reading for d in drawn if d.name == "time-breakdown")
    assert (HIDDEN_COMPUTE in reading) is told


def test_the_page_tells_it_all(make_run: Callable[..., Run]) -> None:
    run = make_run([evaluate(probe(200), probe(400))])
    page = write_report(run).read_text(encoding="utf-8").replace("\N{NO-BREAK SPACE}", " ")
    for words in ("figure-time-breakdown", "figure-host", "1 core", "300 MiB", "0.25 cores"):
        assert words in page


def test_clients_cores_of_old_records_come_from_their_seconds(make_run: Callable[..., Run]) -> None:
    old = probe(100, host=None, client_cpu=2.0, seconds=10.0)
    page = write_report(make_run([evaluate(old)])).read_text(encoding="utf-8")
    assert "0.2\N{NO-BREAK SPACE}cores" in page


def test_values_that_are_no_numbers_draw_nothing() -> None:
    times = probe(200).server
    assert times is not None
    damaged = times.model_copy(update={"queue": math.nan})
    assert time_breakdown([evaluate(probe(200, server=damaged))], {}) is None
