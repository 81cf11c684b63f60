"""What a service counts, in one process and over several."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from tests.serving.edge import value
from tuner.serving.metrics import STAGES, Metrics

_WORKER = """
import os, sys
from tuner.serving.metrics import Metrics, forget_worker
metrics = Metrics()
if sys.argv[1] == "work":
    metrics.answered("/predict", 200, 0.004)
    metrics.predicted(3, queue=0.25)
    metrics.rejected("load")
    metrics.in_flight.inc()
    print(os.getpid())
elif sys.argv[1] == "forget":
    forget_worker(int(sys.argv[2]))
else:
    sys.stdout.write(metrics.render()[0].decode())
"""


def test_all_names_are_there_from_the_start() -> None:
    metrics = Metrics()
    body, kind = metrics.render()
    names = {family.name for family in text_string_to_metric_families(body.decode())}
    assert kind.startswith("text/plain")
    assert names >= {
        "tuner_stage_seconds",
        "tuner_requests",
        "tuner_request_seconds",
        "tuner_predictions",
        "tuner_rejected",
        "tuner_in_flight",
        "tuner_limit_storage_errors",
    }
    for stage in STAGES:
        assert value(metrics, f'tuner_stage_seconds_count{{stage="{stage}"}}') == 0


def test_two_services_in_one_process_count_apart() -> None:
    first, second = Metrics(), Metrics()
    first.predicted(7)
    assert value(first, "tuner_predictions_total") == 7
    assert value(second, "tuner_predictions_total") == 0


def test_an_unknown_stage_is_a_fault() -> None:
    with pytest.raises(KeyError):
        Metrics().predicted(1, tea=0.1)


@given(
    st.lists(
        st.tuples(st.sampled_from(["/predict", "other"]), st.sampled_from([200, 422, 503])),
        max_size=30,
    )
)
def test_every_answer_is_counted_once(answers: list[tuple[str, int]]) -> None:
    metrics = Metrics()
    for route, status in answers:
        metrics.answered(route, status, 0.003)
    for route, status in set(answers):
        line = f'tuner_requests_total{{route="{route}",status="{status}"}}'
        assert value(metrics, line) == answers.count((route, status))
        counted = value(metrics, f'tuner_request_seconds_count{{route="{route}"}}')
        assert counted == sum(1 for other, _ in answers if other == route)


def test_latencies_fall_into_the_right_bucket() -> None:
    metrics = Metrics()
    for seconds in (0.0005, 0.004, 0.004, 30.0):
        metrics.answered("/predict", 200, seconds)
    bucket = 'tuner_request_seconds_bucket{{le="{}",route="/predict"}}'
    assert value(metrics, bucket.format("0.001")) == 1
    assert value(metrics, bucket.format("0.005")) == 3
    assert value(metrics, bucket.format("10.0")) == 3
    assert value(metrics, bucket.format("+Inf")) == 4


def test_workers_are_summed_and_the_dead_leave_the_gauge(tmp_path: Path) -> None:
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}

    def worker(*arguments: str) -> str:
        command = [sys.executable, "-W", "error", "-c", _WORKER, *arguments]
        return subprocess.run(
            command, env=environment, check=True, capture_output=True, text=True
        ).stdout

    pids = [worker("work").strip() for _ in range(2)]
    worker("forget", pids[0])
    lines = worker("render").splitlines()
    assert 'tuner_requests_total{route="/predict",status="200"} 2.0' in lines
    assert "tuner_predictions_total 6.0" in lines
    assert 'tuner_rejected_total{reason="load"} 2.0' in lines
    assert 'tuner_stage_seconds_sum{stage="queue"} 0.5' in lines
    assert "tuner_in_flight 1.0" in lines


def test_the_page_names_exactly_these_metrics() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/services.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `(tuner_\w+)` \|", page, re.MULTILINE))
    families = text_string_to_metric_families(Metrics().render()[0].decode())
    kept = [family for family in families if not family.name.endswith("_created")]
    assert named == {f.name + ("_total" if f.type == "counter" else "") for f in kept}
