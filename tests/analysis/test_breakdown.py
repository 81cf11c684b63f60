"""Where the time of a request went: parts that add up, and nothing where nothing is known."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.analysis.breakdown import break_down, hides_compute
from tuner.records.results import HostReading, ProbeRecord, ServerTimes
from tuner.report.wording import time_sentence
from tuner.stats.samples import Samples

PYTHON = 'backend: "python"\nparameters { key: "pipeline" value { string_value: "%s" } }\n'


def server(requests: int = 100, **times: float) -> ServerTimes:
    parts = {"queue": 0.004, "compute_input": 1e-4, "compute_infer": 0.0079, "compute_output": 1e-4}
    batches = {4: 10, 8: 12}
    return ServerTimes(requests=requests, executions=22, batches=batches, **(parts | times))


def probe(**changes: Any) -> ProbeRecord:
    record: dict[str, Any] = {
        "purpose": "measure",
        "load": "poisson",
        "rate": 300.0,
        "concurrency": None,
        "seed": 0,
        "seconds": 1.0,
        "n": 100,
        "errors": 0,
        "violations": 0,
        "latency": {"p99": 0.016},
        "throughput": 300.0,
        "outcome": "met",
        "remedy": None,
        "confidence": 0.95,
        "bound_ratio": 0.8,
        "lateness_p99": None,
        "client_limited": False,
        "server": server(),
        "host": HostReading(cpu=1.4, memory=312 * 2**20, client_cores=0.1),
        "mean": 0.0123,
        "client_wait": 1e-4,
    }
    return ProbeRecord.model_validate(record | changes)


times = st.floats(0, 10, allow_subnormal=False)


@given(times, times, st.tuples(times, times, times, times))
def test_parts_add_up_and_none_is_negative(
    mean: float, wait: float, counted: tuple[float, float, float, float]
) -> None:
    names = ("queue", "compute_input", "compute_infer", "compute_output")
    times_of = server(**dict(zip(names, counted, strict=True)))
    found = break_down(probe(mean=mean, client_wait=wait, server=times_of))
    assert found is not None
    parts = list(found.parts.values())
    assert all(part is not None and part >= 0 for part in parts)
    assert sum(part or 0.0 for part in parts) == pytest.approx(mean + found.over, abs=1e-9)
    assert found.over == 0 or found.rest == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"server": None},
        {"mean": None},
        {"client_wait": None},
        {"mean": float("nan")},
        {"server": server(queue=float("nan"))},
        {"server": server(queue=-0.001)},
    ],
    ids=str,
)
def test_without_a_part_there_is_no_breakdown(changes: dict[str, Any]) -> None:
    record = probe(**changes)
    assert break_down(record) is None
    assert "went" not in (time_sentence(record) or "")


@pytest.mark.parametrize(("requests", "known"), [(100, True), (104, True), (90, False), (1, False)])
def test_other_requests_of_the_server_leave_no_rest_to_tell(requests: int, known: bool) -> None:
    found = break_down(probe(server=server(requests)))
    assert found is not None
    assert (found.rest is not None) == known


def test_samples_stand_in_for_what_old_records_lack() -> None:
    intended = np.array([0.0, 1.0, 2.0])
    raw = Samples(intended, intended + 0.001, intended + 0.02, np.array([True, True, False]))
    old = probe(mean=None, client_wait=None, n=3, errors=1, server=server(2))
    assert break_down(old) is None
    found = break_down(old, raw)
    assert found is not None
    assert (found.mean, found.client) == (pytest.approx(0.02), pytest.approx(0.001))


def test_records_of_older_versions_are_still_read() -> None:
    new = json.loads(probe().model_dump_json())
    old = {k: v for k, v in new.items() if k not in ("host", "mean", "client_wait")}
    record = ProbeRecord.model_validate_json(json.dumps(old))
    assert (record.host, record.mean, record.client_wait) == (None, None, None)
    assert ProbeRecord.model_validate_json(json.dumps(new)) == probe()


def test_no_good_reply_has_no_mean() -> None:
    nothing = Samples(np.zeros(2), np.zeros(2), np.full(2, np.nan), np.zeros(2, dtype=bool))
    assert (nothing.mean, nothing.client_wait) == (None, None)
    assert (Samples.empty().mean, Samples.empty().client_wait) == (None, None)


def test_a_probe_is_told_in_one_line() -> None:
    assert time_sentence(probe()) == (
        "mean latency 12.3 ms at 300/s: client 0.1, queue 4.0, input 0.1, infer 7.9, output 0.1, "
        "rest 0.1 ms · mean batch 6.18 · server 1.4 cores, 312 MiB"
    )


def test_a_line_says_only_what_is_known() -> None:
    unseen = HostReading(cpu=None, memory=None, client_cores=0.1)
    assert time_sentence(probe(server=None, host=unseen)) is None
    assert time_sentence(probe(server=None)) == "server 1.4 cores, 312 MiB"


def test_a_rest_below_nothing_and_other_requests_are_told() -> None:
    assert "rest 0.0 ms; the server counted 0.9 ms more" in (
        time_sentence(probe(mean=0.0113)) or ""
    )
    others = time_sentence(probe(server=server(4120))) or ""
    assert "output 0.1 ms; rest unknown: the server counted 4,120 requests" in others


@pytest.mark.parametrize(
    ("config", "hidden"),
    [
        (PYTHON % "2", True),
        (PYTHON % "1", False),
        (PYTHON % "many", False),
        (PYTHON.replace("python", "onnxruntime") % "2", False),
        ('backend: "python"', False),
        ("not a config {", False),
        ("", False),
    ],
)
def test_a_pipeline_inside_the_model_hides_its_compute(config: str, hidden: bool) -> None:
    assert hides_compute(config) is hidden
