"""What is parsed is a value: printed and parsed again it is the very same."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.errors import UnitError
from tuner.goals.constraints import Constraint
from tuner.goals.objective import Objective
from tuner.goals.sla import Sla
from tuner.load.arrivals import Arrivals
from tuner.load.batches import BatchMix


def decimals(low: int, high: int, most_places: int = 6) -> st.SearchStrategy[str]:
    """Numbers from low on and below high, with up to so many places."""
    whole = st.integers(low, high - 1).map(str)
    places = st.text("0123456789", max_size=most_places)
    joined = st.tuples(whole, places).map(lambda parts: ".".join(filter(None, parts)))
    return joined.filter(lambda text: float(text) > 0)


def durations() -> st.SearchStrategy[str]:
    return st.tuples(decimals(0, 2000), st.sampled_from(["us", "ms", "s", "m"])).map("".join)


latencies = st.builds("p{}<{}".format, decimals(0, 100, 12), durations())
errors = st.builds("errors<={}%".format, decimals(0, 100, 9))
slas = st.builds(
    lambda first, others: ",".join([first, *others]),
    latencies,
    st.lists(st.one_of(latencies, errors), max_size=3),
)
limits = {
    "gpu_memory": st.tuples(decimals(1, 500), st.sampled_from(["GiB", "MB", "kB"])).map("".join),
    "gpu_utilisation": decimals(0, 100).map("{}%".format),
    "gpu_power": decimals(0, 1000).map("{}W".format),
    "gpu_temperature": decimals(0, 120).map("{}C".format),
    "energy": st.tuples(decimals(0, 1000), st.sampled_from(["mJ", "J", "kJ"])).map("".join),
    "cpu": decimals(0, 64),
    "queue": durations(),
}
quantities = st.sampled_from(sorted(limits)).flatmap(
    lambda name: st.tuples(st.just(name), limits[name])
)
scaled = st.one_of(
    quantities.map("/".join),
    st.just("instances"),
    st.builds("p99.9/{}".format, durations()),
    st.builds("{}*mean/{}".format, decimals(0, 100), durations()),
)
weights = st.dictionaries(st.integers(1, 512), decimals(0, 1000), min_size=1, max_size=6)
mixes = st.one_of(
    st.sets(st.integers(1, 512), min_size=1).map(lambda sizes: ",".join(map(str, sizes))),
    weights.map(lambda found: ",".join(f"{size}:{weight}" for size, weight in found.items())),
)


@given(slas)
def test_an_sla(text: str) -> None:
    sla = Sla.parse(text)
    assert Sla.parse(sla.text) == sla
    assert Sla.parse(str(sla)) == sla
    assert hash(copy.deepcopy(sla)) == hash(sla)


def test_an_sla_is_printed_short() -> None:
    sla = Sla.parse("errors<0.10%, P95.0 <= 0.02s and p50<500us")
    assert sla.text == "p50<500us,p95<20ms,errors<0.1%"
    assert str(sla) == "p50 ≤ 500 µs and p95 ≤ 20 ms and errors ≤ 0.1 %"


@pytest.mark.parametrize("text", ["p99.99999999999999999<1s", "p9<1s,errors<0.00000000000000001%"])
def test_a_share_that_no_double_holds_is_refused(text: str) -> None:
    with pytest.raises(UnitError, match="is not valid"):
        Sla.parse(text)


@given(quantities, st.sampled_from(["<", "<="]))
def test_a_constraint(quantity: tuple[str, str], operator: str) -> None:
    constraint = Constraint.parse(operator.join(quantity))
    assert Constraint.parse(str(constraint)) == constraint
    assert hash(copy.deepcopy(constraint)) == hash(constraint)


@given(st.lists(scaled, min_size=1, max_size=3), st.floats(0.1, 1e6))
def test_an_objective(terms: list[str], rate: float) -> None:
    objective = Objective.parse(" + ".join(terms), rate)
    assert Objective.parse(str(objective), rate) == objective
    assert hash(copy.deepcopy(objective)) == hash(objective)


@given(mixes)
def test_a_mix_of_client_batches(text: str) -> None:
    mix = BatchMix.parse(text)
    assert BatchMix.parse(str(mix)) == mix
    assert hash(copy.deepcopy(mix)) == hash(mix)


@pytest.mark.parametrize(
    ("text", "printed"),
    [("8", "8"), ("4,1,16", "1,4,16"), ("4:3,1:1", "1:0.25,4:0.75"), ("1:2,4:2", "1,4")],
)
def test_a_mix_is_printed_short(text: str, printed: str) -> None:
    assert str(BatchMix.parse(text)) == printed


@given(
    st.one_of(
        st.sampled_from(["poisson", "constant"]),
        st.builds("gamma:{}".format, decimals(1, 100)),
        st.builds("piecewise:{}x{},2-3x1s".format, decimals(0, 50), durations()),
    )
)
def test_arrivals(text: str) -> None:
    arrivals = Arrivals.parse(text)
    assert Arrivals.parse(str(arrivals)) == arrivals
    assert hash(copy.deepcopy(arrivals)) == hash(arrivals)


def test_arrivals_of_a_trace(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("trace") / "requests.csv"
    for content in ("timestamp\n1\n2\n4\n", "seconds,rate\n5,10\n1,30\n"):
        path.write_text(content)
        arrivals = Arrivals.parse(f"trace:{path}")
        assert Arrivals.parse(str(arrivals)) == arrivals
        assert hash(Arrivals.parse(str(arrivals))) == hash(arrivals)
