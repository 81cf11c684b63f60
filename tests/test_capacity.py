from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner.capacity import Capacity, Effort, Finding, find_capacity, find_concurrency, try_rate
from tuner.sla import Outcome

relaxed = settings(deadline=None, max_examples=200)
CAPACITIES = st.floats(0.5, 1e5)
STARTS = st.floats(0.5, 1.6)


class Server:
    """A queue whose latency reaches the bound at ``capacity`` requests/s; remembers its probes.

    Within ``noise`` of the capacity a verdict is drawn by lot.
    """

    def __init__(self, capacity: float, noise: float = 0.0, seed: int = 0) -> None:
        self.capacity = capacity
        self.probed: list[float] = []
        self._noise = noise
        self._rng = np.random.default_rng(seed)

    def __call__(self, rate: float) -> Finding:
        self.probed.append(rate)
        load = 0.8 * rate / self.capacity
        margin = 0.2 / (1 - load) if load < 1 else 10.0
        if abs(rate / self.capacity - 1) < self._noise:
            outcome = self._rng.choice(list(Outcome))
        else:
            outcome = Outcome.MET if rate <= self.capacity else Outcome.VIOLATED
        return Finding(rate, Outcome(outcome), margin)


def scripted(*findings: Outcome, repeat: bool = False) -> Callable[[float], Finding]:
    """Verdicts in the order given; the last one for good."""
    rest = list(findings)

    def probe(rate: float) -> Finding:
        outcome = rest.pop(0) if len(rest) > 1 else rest[0]
        return Finding(rate, outcome, 1.0, repeat and outcome is Outcome.INCONCLUSIVE)

    return probe


@given(CAPACITIES, STARTS)
@relaxed
def test_the_bracket_holds_the_capacity_within_the_resolution(
    capacity: float, start: float
) -> None:
    server = Server(capacity)
    effort = Effort(resolution=0.04)
    found = find_capacity(server, start * capacity, effort)
    assert found.rate is not None
    assert found.ceiling is not None
    assert found.rate <= capacity < found.ceiling
    assert found.ceiling <= found.rate * 1.08 * (1 + 1e-9)
    assert len(server.probed) <= effort.most_probes


@given(CAPACITIES, st.floats(0.01, 100))
@relaxed
def test_from_any_start_the_bracket_is_never_wrong(capacity: float, start: float) -> None:
    server = Server(capacity)
    found = find_capacity(server, start * capacity, Effort())
    assert found.rate is None or found.rate <= capacity
    assert found.ceiling is None or found.ceiling > capacity
    assert len(server.probed) <= Effort().most_probes


@given(CAPACITIES, STARTS, st.integers(0, 2**32 - 1))
@relaxed
def test_noise_near_the_capacity_moves_the_bracket_by_no_more_than_itself(
    capacity: float, start: float, seed: int
) -> None:
    found = find_capacity(Server(capacity, noise=0.05, seed=seed), start * capacity, Effort())
    assert found.rate is not None
    assert found.rate <= capacity * 1.05
    assert found.ceiling is None or found.rate < found.ceiling
    assert found.ceiling is None or found.ceiling >= capacity * 0.95


def test_a_candidate_that_cannot_win_is_placed_coarsely() -> None:
    fine, coarse = Server(100.0), Server(100.0)
    find_capacity(fine, 130.0, Effort())
    found = find_capacity(coarse, 130.0, Effort(to_beat=200.0))
    assert len(coarse.probed) < len(fine.probed)
    assert found.rate is not None
    assert found.ceiling is not None
    assert found.rate <= 100.0 < found.ceiling <= found.rate * 1.3


def test_a_candidate_that_may_still_win_is_placed_finely() -> None:
    found = find_capacity(Server(100.0), 130.0, Effort(to_beat=90.0))
    assert found.rate is not None
    assert found.ceiling is not None
    assert found.ceiling <= found.rate * 1.08


def test_where_nothing_is_met_there_is_no_rate_but_the_nearest_margin() -> None:
    margins = [9.0, 5.0, 7.0, 6.0]
    rest = iter(margins)

    def probe(rate: float) -> Finding:
        return Finding(rate, Outcome.VIOLATED, next(rest))

    found = find_capacity(probe, 100.0, Effort(most_probes=4))
    assert found.rate is None
    assert found.margin == min(margins)
    assert found.ceiling == pytest.approx(100 * 0.5**3)


def test_it_gives_up_where_not_even_a_small_share_of_the_start_is_met() -> None:
    probed: list[float] = []

    def probe(rate: float) -> Finding:
        probed.append(rate)
        return Finding(rate, Outcome.VIOLATED, 9.0)

    assert find_capacity(probe, 100.0, Effort(most_probes=50)).rate is None
    assert 1 < min(probed) < 10


def test_without_any_data_there_is_no_margin() -> None:
    found = find_capacity(
        lambda rate: Finding(rate, Outcome.INCONCLUSIVE, None), 100.0, Effort(most_probes=4)
    )
    assert found == Capacity(None, pytest.approx(100 * 0.5**3), None, False)


def test_inconclusive_counts_as_not_met() -> None:
    found = find_capacity(scripted(Outcome.INCONCLUSIVE), 100.0, Effort())
    assert found.rate is None


def test_a_probe_that_asks_for_it_is_repeated_once_at_the_same_rate() -> None:
    rates: list[float] = []
    verdicts = scripted(Outcome.INCONCLUSIVE, Outcome.MET, Outcome.VIOLATED, repeat=True)

    def probe(rate: float) -> Finding:
        rates.append(rate)
        return verdicts(rate)

    found = find_capacity(probe, 100.0, Effort(most_probes=4))
    assert rates[0] == rates[1] == 100.0
    assert found.rate == 100.0
    assert found.ceiling == rates[2] == rates[3] > 100.0


def test_a_probe_that_could_not_win_is_not_repeated() -> None:
    rates: list[float] = []

    def probe(rate: float) -> Finding:
        rates.append(rate)
        return Finding(rate, Outcome.INCONCLUSIVE, 1.0, repeat=True)

    find_capacity(probe, 100.0, Effort(to_beat=100.0, most_probes=3))
    assert len(rates) == len(set(rates)) == 3


def test_a_probe_that_stays_undecided_is_not_repeated_for_ever() -> None:
    rates: list[float] = []

    def probe(rate: float) -> Finding:
        rates.append(rate)
        return Finding(rate, Outcome.INCONCLUSIVE, 1.0, repeat=True)

    assert find_capacity(probe, 100.0, Effort(most_probes=6)).rate is None
    assert [rates.count(rate) for rate in dict.fromkeys(rates)] == [2, 2, 2]


def test_a_ceiling_of_the_client_is_told() -> None:
    def probe(rate: float) -> Finding:
        outcome = Outcome.MET if rate <= 100 else Outcome.INCONCLUSIVE
        return Finding(rate, outcome, 0.3, client_limited=rate > 100)

    found = find_capacity(probe, 80.0, Effort())
    assert found.client_limited
    assert found.rate is not None
    assert found.rate <= 100


class TestConcurrency:
    @staticmethod
    def closed_loop(most: int, service: float = 0.01, slots: int = 4) -> Callable[[int], Finding]:
        """Throughput rises until ``slots`` are busy; the promise holds up to ``most`` at once."""

        def probe(concurrency: int) -> Finding:
            outcome = Outcome.MET if concurrency <= most else Outcome.VIOLATED
            rate = min(concurrency, slots) / service
            return Finding(rate, outcome, concurrency / most)

        return probe

    @given(st.integers(1, 200))
    @relaxed
    def test_the_best_concurrency_is_found_within_an_eighth(self, most: int) -> None:
        found = find_concurrency(self.closed_loop(most, slots=1000), Effort(most_probes=20))
        assert found.rate is not None
        assert most * 100 / 1.13 - 100 <= found.rate <= most * 100
        assert found.ceiling is not None
        assert found.rate < found.ceiling

    def test_a_promise_that_one_at_a_time_breaks_has_no_rate(self) -> None:
        found = find_concurrency(
            lambda c: Finding(10.0 * c, Outcome.VIOLATED, 2.0 * c), Effort(most_probes=6)
        )
        assert found.rate is None
        assert found.margin == 2.0

    def test_it_stops_where_throughput_falls(self) -> None:
        probed: list[int] = []

        def probe(concurrency: int) -> Finding:
            probed.append(concurrency)
            return Finding(100.0 - concurrency, Outcome.MET, 0.1)

        assert find_concurrency(probe, Effort()).rate == 99.0
        assert probed == [1, 2, 4]


def test_one_rate_gets_its_chances_and_no_more() -> None:
    missed = scripted(Outcome.INCONCLUSIVE, Outcome.INCONCLUSIVE, Outcome.MET, repeat=True)
    assert try_rate(missed, 50.0, Effort(chances=3)).outcome is Outcome.MET
    never = scripted(Outcome.INCONCLUSIVE, repeat=True)
    assert try_rate(never, 50.0, Effort(chances=3)).outcome is Outcome.INCONCLUSIVE
