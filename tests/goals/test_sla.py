import math
import re
from collections import Counter
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.queues import Queue, md1, md1_share, mm1, mm1_share, rate_at
from tuner.errors import UnitError
from tuner.goals.sla import Bound, Sla, bound_ratio
from tuner.goals.verdict import SlaOutcome, judge, judge_as_loadgen
from tuner.stats.samples import Floats, Samples

LIMIT = 0.020
P99 = Sla.parse("p99<20ms")
relaxed = settings(deadline=None, max_examples=50)


def answered(intended: Floats, latency: Floats) -> Samples:
    return Samples(intended, intended, intended + latency, np.ones(len(intended), dtype=bool))


def independent(late: float, n: int, rng: np.random.Generator) -> Samples:
    """Exponential latencies of which a true share ``late`` exceeds the limit."""
    latency = rng.exponential(LIMIT / math.log(1 / late), n)
    return answered(np.cumsum(rng.exponential(1 / 500, n)), latency)


def stalling(late: float, n: int, rng: np.random.Generator) -> Samples:
    """A quick server that stops for 40 ms, so often that a true share ``late`` is late."""
    lasts = 0.040
    every = (lasts - LIMIT) / late
    at = np.cumsum(rng.exponential(1 / 200, n))
    starts = np.cumsum(rng.exponential(every, int(2 * at[-1] / every)))
    last = np.searchsorted(starts, at) - 1
    rest = np.where(last >= 0, starts[last] + lasts - at, 0.0)
    return answered(at, np.maximum(rest, 0.0) + rng.exponential(0.0005, n))


def sequential(samples: Samples, confidence: float, first: int = 1000) -> SlaOutcome:
    """Looked at again and again while it grows, as a probe is; what was said first."""
    n = first
    while True:
        verdict = judge(samples.take(np.arange(len(samples)) < n), P99, confidence)
        if verdict.outcome is not SlaOutcome.INCONCLUSIVE or n >= len(samples):
            return verdict.outcome
        n = int(1.5 * n)


def rates(outcomes: Iterable[SlaOutcome]) -> dict[SlaOutcome, float]:
    """The share of each outcome."""
    found = Counter(outcomes)
    return {outcome: found[outcome] / found.total() for outcome in SlaOutcome}


def stated(confidence: float, runs: int) -> float:
    """The error rate that a confidence allows, and three standard errors of counting it."""
    error = 1 - confidence
    return error + 3 * math.sqrt(error * (1 - error) / runs)


def fast(n: int = 5000) -> tuple[Floats, Floats]:
    """Ten seconds of requests that all take 5 ms."""
    return np.linspace(0, 10, n, endpoint=False), np.full(n, 0.005)


class TestParse:
    def test_one_bound(self) -> None:
        assert Sla.parse("p99<20ms").bounds == (Bound(0.99, 0.020),)

    @pytest.mark.parametrize("text", ["P99.9 <= 1.5s", " p99.9<1500ms "])
    def test_spaces_case_and_fractions(self, text: str) -> None:
        bound = Sla.parse(text).primary
        assert bound.percentile == pytest.approx(0.999)
        assert bound.limit == pytest.approx(1.5)
        assert bound.name == "p99.9"

    def test_several_bounds_are_sorted_and_the_highest_is_primary(self) -> None:
        sla = Sla.parse("p99<20ms,p50<5ms,p99<20ms")
        assert [bound.name for bound in sla.bounds] == ["p50", "p99"]
        assert str(sla) == "p50 ≤ 5 ms and p99 ≤ 20 ms"
        assert sla.primary.budget == pytest.approx(0.01)

    def test_errors_have_a_bound_of_their_own(self) -> None:
        sla = Sla.parse("p50<5ms, errors < 0.1 %, p99<20ms")
        assert [bound.name for bound in sla.bounds] == ["p50", "p99", "errors"]
        assert str(sla) == "p50 ≤ 5 ms and p99 ≤ 20 ms and errors ≤ 0.1 %"
        assert sla.primary.name == "p99"
        assert sla.longest == pytest.approx(0.02)

    def test_errors_alone_are_no_promise(self) -> None:
        with pytest.raises(UnitError, match="has no bound on latency"):
            Sla.parse("errors<1%")

    @pytest.mark.parametrize(
        "text",
        ["errors<0%", "errors<100%", "errors<1", "errors<x%", "p99<nan", "p99<0ms", "p99<-1ms"],
    )
    def test_a_bound_that_is_no_number_is_refused(self, text: str) -> None:
        with pytest.raises(UnitError):
            Sla.parse(text if text.startswith("p") else f"p99<20ms,{text}")

    @pytest.mark.parametrize("text", ["", "20ms", "p0<1ms", "p100<1ms", "p99>20ms", "mean<2ms"])
    def test_what_is_no_bound_is_refused_by_its_own_words(self, text: str) -> None:
        with pytest.raises(UnitError) as caught:
            Sla.parse(text)
        assert repr(text) in str(caught.value)

    def test_a_bound_without_a_unit_is_refused(self) -> None:
        with pytest.raises(UnitError, match="'20' needs a unit"):
            Sla.parse("p99<20")

    @given(st.sampled_from([50, 90, 95, 99, 99.9]), st.integers(1, 999))
    @relaxed
    def test_a_printed_promise_parses_back(self, percentile: float, milliseconds: int) -> None:
        sla = Sla.parse(f"p{percentile}<{milliseconds}ms")
        assert Sla.parse(str(sla).replace("≤", "<=")) == sla


def queues(kind: str, limit_in_services: float) -> tuple[Queue, float]:
    """A queue, and the rate at which exactly 1 % of its requests are late."""
    service = LIMIT / limit_in_services
    make, share = (mm1, mm1_share) if kind == "M/M/1" else (md1, md1_share)
    return make(service), rate_at(lambda rate: share(rate, service, LIMIT), 0.01, 1 / service)


@pytest.mark.slow
class TestErrorRates:
    """Over 4,000 runs with known truth; ``python -m benchmarks.load verdicts`` has longer ones."""

    CELLS = (("M/M/1", 10.0), ("M/M/1", 40.0), ("M/D/1", 10.0), ("M/D/1", 40.0))
    RUNS = 500

    def said(self, load: float, confidence: float) -> dict[SlaOutcome, float]:
        """Of queues at ``load`` times their capacity."""
        rng = np.random.default_rng(5)
        cells = [queues(*cell) for cell in self.CELLS]
        return rates(
            sequential(queue(load * rate, 5000, rng), confidence)
            for queue, rate in cells
            for _ in range(self.RUNS)
        )

    def test_met_is_rarely_said_just_over_the_capacity(self) -> None:
        assert self.said(1.01, 0.95)[SlaOutcome.MET] <= stated(0.95, 4 * self.RUNS)

    def test_violated_is_rarely_said_just_under_the_capacity(self) -> None:
        assert self.said(0.99, 0.95)[SlaOutcome.VIOLATED] <= stated(0.95, 4 * self.RUNS)

    def test_independent_requests_are_judged_as_stated_too(self) -> None:
        rng = np.random.default_rng(5)
        over = rates(sequential(independent(0.0101, 5000, rng), 0.95) for _ in range(300))
        under = rates(sequential(independent(0.0099, 5000, rng), 0.95) for _ in range(300))
        assert over[SlaOutcome.MET] <= stated(0.95, 300)
        assert under[SlaOutcome.VIOLATED] <= stated(0.95, 300)

    def test_met_is_rarely_said_of_a_server_that_stalls(self) -> None:
        """1.01 % of the requests are late, all of them in stalls; the others are far below."""
        rng = np.random.default_rng(5)
        over = rates(sequential(stalling(0.0101, 5000, rng), 0.95, 2500) for _ in range(300))
        assert over[SlaOutcome.MET] <= stated(0.95, 300)

    def test_a_slow_patch_far_below_the_limit_says_nothing_of_the_limit(self) -> None:
        """A tenth of the run is three times as slow as the rest, a sixth of the limit."""
        intended, latency = fast(2000)
        latency = np.where(intended < 1, latency / 5, latency / 15)
        verdict = judge(answered(intended, latency), P99, 0.99)
        assert (verdict.outcome, verdict.decided.effect) == (SlaOutcome.MET, 1.0)

    def test_clear_cases_are_decided(self) -> None:
        rng = np.random.default_rng(5)
        assert (
            rates(judge(independent(0.002, 3000, rng), P99, 0.95).outcome for _ in range(50))[
                SlaOutcome.MET
            ]
            > 0.9
        )
        assert (
            rates(judge(independent(0.03, 3000, rng), P99, 0.95).outcome for _ in range(50))[
                SlaOutcome.VIOLATED
            ]
            > 0.9
        )

    def test_the_rule_of_loadgen_is_wrong_far_more_often_in_a_queue(self) -> None:
        """Why it is an option and not the default."""
        queue, rate = queues("M/D/1", 40.0)
        rng = np.random.default_rng(5)
        verdicts = [judge_as_loadgen(queue(1.01 * rate, 5000, rng), P99, 0.95) for _ in range(100)]
        assert rates(v.outcome for v in verdicts)[SlaOutcome.MET] > 0.3


class TestJudge:
    def test_no_samples_are_inconclusive_and_never_met(self) -> None:
        verdict = judge(Samples.empty(), P99, 0.95)
        assert verdict.outcome is SlaOutcome.INCONCLUSIVE
        assert not verdict.met
        assert "higher rate" in str(verdict.remedy)

    def test_of_bounds_that_are_all_met_the_one_most_used_up_decides(self) -> None:
        rng = np.random.default_rng(1)
        at = np.linspace(0, 20, 20_000)
        samples = answered(at, rng.uniform(0, 0.010, len(at)))
        some_late = judge(samples, Sla.parse("p50<8ms,p99<20ms"), 0.95)
        assert (some_late.outcome, some_late.decided.bound.name) == (SlaOutcome.MET, "p50")
        more_late = judge(samples, Sla.parse("p50<9.9ms,p99<9.95ms"), 0.95)
        assert (more_late.outcome, more_late.decided.bound.name) == (SlaOutcome.MET, "p99")

    def test_too_few_good_requests_ask_for_as_many_as_would_do(self) -> None:
        times, latency = fast()
        verdict = judge(answered(times[:200], latency[:200]), P99, 0.95)
        assert verdict.outcome is SlaOutcome.INCONCLUSIVE
        needed = re.search(r"about (\d+) would", str(verdict.remedy))
        assert needed is not None
        enough = int(needed[1])
        assert 300 < enough < 600
        assert judge(answered(times[:enough], latency[:enough]), P99, 0.95).met

    def test_a_rate_at_the_bound_is_not_promised_an_answer(self) -> None:
        times, latency = fast()
        latency[::100] = 0.03
        verdict = judge(answered(times, latency), P99, 0.95)
        assert verdict.outcome is SlaOutcome.INCONCLUSIVE
        assert "too close to the capacity" in str(verdict.remedy)

    def test_a_latency_at_the_limit_keeps_the_promise(self) -> None:
        limit = 1 / 64  # sums of binary fractions are exact
        samples = answered(np.arange(5000) / 512, np.full(5000, limit))
        verdict = judge(samples, Sla((Bound(0.99, limit),)), 0.99)
        assert verdict.met
        assert verdict.decided.late == 0

    def test_errors_count_as_violations(self) -> None:
        times, latency = fast()
        ok = np.random.default_rng(0).random(len(times)) > 0.05
        verdict = judge(Samples(times, times, times + latency, ok), P99, 0.95)
        assert verdict.outcome is SlaOutcome.VIOLATED
        assert verdict.decided.late == np.count_nonzero(~ok)
        assert verdict.decided.n == len(times)

    def test_requests_that_were_never_sent_count_as_violations(self) -> None:
        times, _ = fast()
        never = np.full(len(times), np.nan)
        verdict = judge(Samples(times, never, never, np.zeros(len(times), dtype=bool)), P99, 0.95)
        assert verdict.outcome is SlaOutcome.VIOLATED

    @pytest.mark.parametrize("seconds", [0.2, 0.5, 0.9])
    def test_one_stall_shorter_than_a_second_is_to_be_repeated(self, seconds: float) -> None:
        times, latency = fast()
        latency[(times >= 4) & (times < 4 + seconds)] = 0.5
        verdict = judge(answered(times, latency), P99, 0.95)
        assert verdict.outcome is SlaOutcome.INCONCLUSIVE
        assert verdict.repeat
        assert "repeat" in str(verdict.remedy)

    def test_a_stall_does_not_excuse_the_rest(self) -> None:
        times, latency = fast()
        latency[(times >= 4) & (times < 4.5)] = 0.5
        latency[np.random.default_rng(0).random(len(times)) < 0.03] = 0.030
        assert judge(answered(times, latency), P99, 0.95).outcome is SlaOutcome.VIOLATED

    def test_a_longer_outage_is_a_violation(self) -> None:
        times, latency = fast()
        latency[(times >= 4) & (times < 7)] = 0.5
        assert judge(answered(times, latency), P99, 0.95).outcome is SlaOutcome.VIOLATED

    @pytest.mark.parametrize("slope", [0.005, 0.05, 0.5])
    def test_a_growing_queue_is_a_violation(self, slope: float) -> None:
        times, latency = fast()
        assert judge(answered(times, latency + slope * times), P99, 0.95).outcome is (
            SlaOutcome.VIOLATED
        )

    def test_the_worst_bound_decides(self) -> None:
        times, latency = fast()
        samples = answered(times, latency)
        both = judge(samples, Sla.parse("p50<4ms,p99<20ms"), 0.95)
        assert both.outcome is SlaOutcome.VIOLATED
        assert both.decided.bound.name == "p50"
        # enough requests for p99, too few for p99.99
        open_tail = judge(samples, Sla.parse("p99<20ms,p99.99<30ms"), 0.95)
        assert open_tail.outcome is SlaOutcome.INCONCLUSIVE
        assert open_tail.decided.bound.name == "p99.99"

    @given(st.integers(0, 400), st.integers(0, 2**32 - 1), st.floats(0, 1))
    @relaxed
    def test_met_and_violated_agree_with_the_samples_at_face_value(
        self, n: int, seed: int, late: float
    ) -> None:
        rng = np.random.default_rng(seed)
        latency = np.where(rng.random(n) < late, 2 * LIMIT, LIMIT / 2)
        samples = answered(np.sort(rng.uniform(0, 5, n)), latency)
        verdict = judge(samples, P99, 0.95)
        ratio = bound_ratio(samples, P99)
        if verdict.outcome is SlaOutcome.MET:
            assert ratio is not None
            assert ratio <= 1
        if verdict.outcome is SlaOutcome.VIOLATED:
            assert ratio is not None
            assert ratio > 1
        assert (verdict.remedy is not None) == (verdict.outcome is SlaOutcome.INCONCLUSIVE)


class TestErrors:
    BOTH = Sla.parse("p90<20ms,errors<1%")

    def test_a_bound_on_errors_is_broken_by_errors_that_the_percentile_would_forgive(self) -> None:
        times, latency = fast()
        ok = np.random.default_rng(0).random(len(times)) > 0.03
        verdict = judge(Samples(times, times, times + latency, ok), self.BOTH, 0.95)
        assert verdict.outcome is SlaOutcome.VIOLATED
        assert verdict.decided.bound.name == "errors"

    def test_late_answers_are_no_errors(self) -> None:
        times, latency = fast()
        latency[np.random.default_rng(0).random(len(times)) < 0.03] = 0.03
        assert judge(answered(times, latency), self.BOTH, 0.95).met

    def test_what_is_not_answered_yet_is_no_error_until_the_end(self) -> None:
        times, latency = fast()
        done, ok = times + latency, np.ones(len(times), dtype=bool)
        done[::20], ok[::20] = np.nan, False
        samples = Samples(times, times, done, ok)
        counts = {c.bound.name: c for c in judge(samples, self.BOTH, 0.95, final=False).counts}
        assert counts["errors"].late == 0
        assert judge(samples, self.BOTH, 0.95).decided.bound.name == "errors"


class TestBoundRatio:
    def test_no_data_has_none(self) -> None:
        assert bound_ratio(Samples.empty(), P99) is None

    def test_it_is_the_largest_ratio_over_all_bounds(self) -> None:
        times, latency = fast()
        samples = answered(times, latency)
        assert bound_ratio(samples, P99) == pytest.approx(0.25)
        assert bound_ratio(samples, Sla.parse("p50<10ms,p99<20ms")) == pytest.approx(0.5)

    def test_failures_in_the_percentile_make_it_infinite(self) -> None:
        times, latency = fast()
        latency[:100] = np.inf
        assert bound_ratio(answered(times, latency), P99) == math.inf
