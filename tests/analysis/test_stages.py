"""Parts are those that were counted, and always sum to what the client saw."""

import math

from hypothesis import given
from hypothesis import strategies as st

from tests.comparing_records import SHAPES, deployed, evaluated, probe
from tuner.analysis.stages import excess, overhead, stages_of
from tuner.records.comparison import STAGES, Deployed
from tuner.records.results import ProbeRecord, ServerTimes, Stages

BY_NAME = {shape.name: (shape, deployed(shape, i)) for i, shape in enumerate(SHAPES)}
SECONDS = st.floats(0, 0.1)


def of(name: str, **changes: object) -> tuple[ProbeRecord, Deployed]:
    shape, record = BY_NAME[name]
    return probe(shape, 0.5 * shape.most).model_copy(update=changes), record


def test_a_service_tells_its_own_stages() -> None:
    shape, record = BY_NAME["fastapi"]
    parts = stages_of(evaluated(shape, 0).probes[0], record)
    assert parts is not None
    assert parts["tokenising"] == 0.0003
    assert parts["inference"] == shape.inference
    assert math.isclose(overhead(parts), shape.floor - shape.inference)


def test_of_the_gateways_call_what_triton_did_not_count_is_transport() -> None:
    shape, record = BY_NAME["hybrid"]
    parts = stages_of(evaluated(shape, 0).probes[0], record)
    assert parts is not None
    assert math.isclose(parts["transport"], 0.0011)
    assert math.isclose(parts["inference"], shape.inference)


def test_transport_to_triton_alone_is_not_told_apart() -> None:
    found, record = of("triton-tuned")
    parts = stages_of(found, record)
    assert parts is not None
    assert list(parts) == ["client", "queue", "inference", "rest"]


def test_no_parts_where_nothing_was_counted_or_others_were() -> None:
    for name, changes in (
        ("fastapi", {"stages": None}),
        ("fastapi", {"mean": None}),
        ("fastapi", {"client_wait": None}),
        ("fastapi", {"stages": Stages(requests=3000, seconds={"inference": 0.001})}),
        ("hybrid", {"server": None}),
        ("hybrid", {"stages": Stages(requests=4000, seconds={"parsing": 0.001})}),
        ("triton", {"server": None}),
    ):
        found, record = of(name, **changes)
        assert stages_of(found, record) is None, (name, changes)


@given(
    name=st.sampled_from(sorted(BY_NAME)),
    mean=st.floats(1e-5, 0.2),
    wait=st.floats(-0.01, 0.3),
    stages=st.fixed_dictionaries(
        {"inference": SECONDS},
        optional={
            name: SECONDS for name in ("parsing", "tokenising", "queue", "serialisation", "other")
        },
    ),
    server=st.tuples(SECONDS, SECONDS, SECONDS, SECONDS),
)
def test_parts_sum_to_the_mean_and_none_is_negative(
    name: str,
    mean: float,
    wait: float,
    stages: dict[str, float],
    server: tuple[float, float, float, float],
) -> None:
    times = dict(
        zip(("queue", "compute_input", "compute_infer", "compute_output"), server, strict=True)
    )
    found, record = of(
        name,
        mean=mean,
        client_wait=wait,
        stages=Stages(requests=4000, seconds=stages),
        server=ServerTimes(requests=4000, executions=900, **times),
    )
    parts = stages_of(found, record)
    assert parts is not None
    assert math.isclose(sum(parts.values()), mean, rel_tol=1e-9)
    assert min(parts.values()) >= 0
    assert list(parts) == [part for part in STAGES if part in parts]
    assert "other" not in parts
    if excess(found, record) > 1e-9:
        assert parts["rest"] <= 1e-9 * mean
