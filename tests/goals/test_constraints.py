"""Constraints: how they are written, and what probes say about them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.errors import UnitError, UsageError
from tuner.goals.constraints import Constraint, parse_constraints, require_readings
from tuner.goals.quantities import QUANTITIES
from tuner.records.results import GpuReading, HostReading, ProbeRecord, ServerTimes

GPU = GpuReading(utilisation=0.5, memory=12 * 2**30, power=180.0, devices=1, temperature=71.0)
HOST = HostReading(cpu=1.5, memory=300 * 2**20, client_cores=0.2)
SERVER = ServerTimes(
    requests=100,
    executions=50,
    queue=0.004,
    compute_input=0.0,
    compute_infer=0.008,
    compute_output=0.0,
)


def probe(
    gpu: GpuReading | None = GPU,
    host: HostReading | None = HOST,
    server: ServerTimes | None = SERVER,
) -> ProbeRecord:
    return ProbeRecord(
        purpose="capacity",
        load="poisson",
        rate=100.0,
        concurrency=None,
        seed=0,
        seconds=1.0,
        n=100,
        errors=0,
        violations=0,
        latency={},
        throughput=100.0,
        outcome="met",
        remedy=None,
        confidence=0.95,
        bound_ratio=0.5,
        lateness_p99=None,
        client_limited=False,
        gpu=gpu,
        host=host,
        server=server,
    )


limits = {
    "gpu_memory": st.integers(0, 2**45),
    "memory": st.integers(0, 2**45),
    "gpu_utilisation": st.floats(0, 1),
    "gpu_power": st.floats(0, 1e5),
    "gpu_temperature": st.floats(0, 1e3),
    "energy": st.floats(0, 1e6),
    "cpu": st.floats(0, 1e4),
    "queue": st.floats(1e-9, 1e5),
}
constraints = st.sampled_from(sorted(QUANTITIES)).flatmap(
    lambda name: st.builds(Constraint, st.just(name), st.sampled_from(["<", "<="]), limits[name])
)


def test_every_quantity_is_tried_below() -> None:
    assert limits.keys() == QUANTITIES.keys()


@given(constraints)
def test_what_is_printed_parses_to_the_very_same(constraint: Constraint) -> None:
    assert Constraint.parse(str(constraint)) == constraint


@given(st.lists(constraints, min_size=1, max_size=4))
def test_several_are_joined_by_commas(several: list[Constraint]) -> None:
    assert parse_constraints(",".join(map(str, several))) == tuple(several)


@given(constraints, st.sampled_from([None, math.nan, 0.0, 1.0, 1e9]))
def test_a_constraint_is_broken_kept_or_unknown(
    constraint: Constraint, value: float | None
) -> None:
    host = HostReading(cpu=value, memory=None, client_cores=None)
    record = probe(gpu=None, host=host, server=None)
    known = constraint.name == "cpu" and value is not None and not math.isnan(value)
    assert (constraint.broken(record) is not None) == known
    assert (constraint.unknown(record) is None) == known
    if known:
        assert value is not None
        at = value == constraint.limit and constraint.operator == "<"
        assert constraint.broken(record) is (at or value > constraint.limit)


@pytest.mark.parametrize(
    ("text", "value", "broken"),
    [
        ("gpu_memory<20GiB", 12 * 2**30, False),
        ("gpu_memory <= 12GiB", 12 * 2**30, False),
        ("gpu_memory<12GiB", 12 * 2**30, True),
        ("gpu_utilisation<80%", 0.5, False),
        ("gpu_utilization<0.8", 0.5, False),
        ("gpu_utilisation<=50%", 0.5, False),
        ("gpu_utilisation<0.5", 0.5, True),
        ("gpu_power<150W", 180.0, True),
        ("gpu_temperature<80C", 71.0, False),
        ("gpu_temperature<70\N{DEGREE SIGN}C", 71.0, True),
        ("memory<500MB", 300 * 2**20, False),
        ("cpu<=1", 1.5, True),
        ("cpu<2 cores", 1.5, False),
        ("queue<5ms", 0.004, False),
        ("queue<3900us", 0.004, True),
    ],
)
def test_a_probe_is_held_against_it(text: str, value: float, broken: bool) -> None:
    constraint = Constraint.parse(text)
    assert constraint.value(probe()) == value
    assert constraint.broken(probe()) is broken


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("gpu_memroy<20GiB", "did you mean 'gpu_memory'"),
        ("gpu_memory<20", "needs a unit"),
        ("gpu_memory<20Gib", "needs a unit: one of"),
        ("gpu_memory", "write it like gpu_memory<20GiB"),
        ("gpu_memory>=20GiB", "is not an upper limit; write it like gpu_memory<20GiB"),
        ("gpu_memory=20GiB", "write it like gpu_memory<20GiB"),
        ("<20GiB", "write it like"),
        ("", "write it like"),
        ("gpu_utilisation<80", "did you mean 80%"),
        ("gpu_utilisation<101%", "more than 100 %"),
        ("gpu_power<250", "needs a unit; write it like 250W"),
        ("gpu_power<250kW", "unknown unit 'kW'"),
        ("gpu_temperature<80F", "unknown unit 'F'"),
        ("cpu<-1", "write it like 4"),
        ("cpu<nan", "write it like 4"),
        ("queue<5", "did you mean 5ms"),
        ("client_cores<2", "choose from"),
    ],
)
def test_what_is_wrong_is_told_with_a_way_out(text: str, hint: str) -> None:
    with pytest.raises(UnitError) as caught:
        Constraint.parse(text)
    assert hint in str(caught.value)
    assert repr(text) in str(caught.value)


def test_no_reading_is_an_error_and_never_kept() -> None:
    record = probe(gpu=None, host=None, server=None)
    asked = parse_constraints("gpu_memory<20GiB,memory<1GiB,queue<5ms")
    assert [c.broken(record) for c in asked] == [None, None, None]
    with pytest.raises(UsageError) as caught:
        require_readings(asked, record)
    for words in (
        "no GPU readings, so gpu_memory cannot be checked",
        "no host readings, so memory cannot be checked",
        "no server readings, so queue cannot be checked",
    ):
        assert words in str(caught.value)
    require_readings(asked, probe())


def test_memory_hardly_depends_on_the_rate_and_the_others_do() -> None:
    static = {name for name, quantity in QUANTITIES.items() if quantity.static}
    assert static == {"gpu_memory", "memory"}
    assert Constraint.parse("gpu_memory<1GiB").static
    assert not Constraint.parse("queue<1ms").static


def test_how_a_probe_stands_to_it_is_said_in_words() -> None:
    assert Constraint.parse("memory<1GiB").describe(probe()) == "memory<1GiB: met (300 MiB)"
    assert Constraint.parse("cpu<1").describe(probe()) == "cpu<1: violated (1.5 cores)"
    unknown = Constraint.parse("gpu_power<90W").describe(probe(gpu=None))
    assert (
        unknown == "gpu_power<90W: unknown, this machine provides no GPU readings, so "
        "gpu_power cannot be checked"
    )
