import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.records.test_results import evaluation, probe
from tuner.analysis.doubts import cpu_steal, refutation, unsteady_rounds
from tuner.analysis.ratios import Round, paired_ratio
from tuner.records.results import Evaluation, HostReading
from tuner.report.wording import doubt_sentence

RATES = st.floats(1.0, 1e5)


def rounds(*rates: float, error: float = 0.0) -> tuple[Round, ...]:
    return tuple((rate, error) for rate in rates)


def test_what_is_common_to_a_round_cancels() -> None:
    found = paired_ratio(rounds(200.0, 100.0, 400.0), rounds(100.0, 50.0, 200.0))
    assert found is not None
    assert found.value == pytest.approx(2.0)
    assert found.low == pytest.approx(found.high, rel=0.05)


def test_two_servers_that_were_kept_have_the_interval_of_both_errors() -> None:
    found = paired_ratio(rounds(200.0, error=0.03), rounds(100.0, error=0.04))
    assert found is not None
    assert found.value == pytest.approx(2.0)
    assert found.high / found.value == pytest.approx(np.exp(1.96 * 0.05), rel=1e-3)
    assert found.low * found.high == pytest.approx(found.value**2)
    assert paired_ratio((), ()) is None


def test_the_interval_is_never_narrower_than_the_rounds_own_errors_allow() -> None:
    found = paired_ratio(rounds(200.0, 200.0, error=0.1), rounds(100.0, 100.0, error=0.1))
    assert found is not None
    assert found.low <= 2 * np.exp(-1.96 * 0.1)


@given(st.lists(st.tuples(RATES, RATES), min_size=2, max_size=5))
def test_the_inverse_ratio_has_the_inverse_interval(pairs: list[tuple[float, float]]) -> None:
    first, second = (rounds(*rates) for rates in zip(*pairs, strict=True))
    there, back = paired_ratio(first, second), paired_ratio(second, first)
    assert there is not None
    assert back is not None
    assert there.value == pytest.approx(1 / back.value, rel=1e-6)
    assert there.low == pytest.approx(1 / back.high, rel=1e-6)


@pytest.mark.parametrize("scatter", [0.0, 0.02, 0.1, 0.2])
def test_the_interval_holds_the_truth_as_often_as_it_says(scatter: float) -> None:
    """Also where the servers differ by more than the errors of their rounds."""
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(300):
        common = rng.normal(0, 0.3, 3)
        first = np.exp(np.log(300) + common + rng.normal(0, np.hypot(0.02, scatter), 3))
        second = np.exp(np.log(100) + common + rng.normal(0, 0.02, 3))
        found = paired_ratio(rounds(*first, error=0.02), rounds(*second, error=0.02))
        assert found is not None
        held += found.low <= 3.0 <= found.high
    assert held / 300 >= 0.92


def test_one_round_that_disagrees_with_two_widens_the_interval_and_moves_it_little() -> None:
    steady = paired_ratio(rounds(400, 404, 396, error=0.03), rounds(100, 100, 100, error=0.03))
    broken = paired_ratio(rounds(400, 404, 396, error=0.03), rounds(100, 100, 200, error=0.03))
    assert steady is not None
    assert broken is not None
    assert broken.value == pytest.approx(4.0, rel=0.1)
    assert broken.low < 0.8 * steady.low


def confirmed(*by_round: Round) -> Evaluation:
    return evaluation(phase="confirm", by_round=by_round)


@pytest.mark.parametrize(
    ("by_round", "told"),
    [
        (((436.0, 0.07), (216.0, 0.11), (274.0, 0.12)), True),
        (((436.0, 0.07), (390.0, 0.11), (450.0, 0.12)), False),
        (((436.0, 0.07),), False),
    ],
)
def test_servers_that_differ_by_more_than_chance_are_told(
    by_round: tuple[Round, ...], told: bool
) -> None:
    doubt = unsteady_rounds("winner", confirmed(*by_round))
    assert (doubt is not None) is told
    if doubt:
        assert (doubt.low, doubt.high) == (216.0, 436.0)
        assert doubt_sentence(doubt).startswith("Winner: rounds range from 216/s to 436/s")


@pytest.mark.parametrize(("stolen", "told"), [(0.2, True), (0.01, False), (None, False)])
def test_time_that_a_hypervisor_took_is_told(stolen: float | None, told: bool) -> None:
    host = HostReading(cpu=1.0, memory=1, client_cores=0.1, stolen=stolen)
    doubt = cpu_steal([evaluation(probes=(probe(host=host), probe()))])
    assert (doubt is not None) is told
    if doubt:
        assert "took 20\N{NO-BREAK SPACE}%" in doubt_sentence(doubt)


def refuted(confirmed: float) -> list[Evaluation]:
    """A search whose trial 1 was confirmed at so much, and trial 2 beside it where that is less."""
    first = {"settings": {"max_batch_size": 8}, "trial": 1}
    second = {"settings": {"max_batch_size": 4}, "trial": 2}
    found = [
        evaluation(**first, capacity=600.0),
        evaluation(**second, capacity=450.0),
        evaluation(**first, capacity=confirmed, phase="confirm"),
    ]
    if confirmed < 450:
        found.append(evaluation(**second, capacity=440.0, phase="confirm", look=1))
        found.append(evaluation(**first, capacity=confirmed, phase="confirm", look=1))
    return found


def test_a_search_that_was_refuted_is_told() -> None:
    doubt = refutation(refuted(69.0))
    assert doubt is not None
    told = doubt_sentence(doubt)
    assert told.startswith("Trial 1 (batch 8) reached 600/s in the search and 69/s")
    assert "so trial 2 (batch 4) was confirmed, too." in told


def test_a_search_that_was_borne_out_needs_no_words() -> None:
    assert refutation(refuted(590.0)) is None
