import hashlib
import os
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from tuner.errors import UsageError
from tuner.load.arrivals import Arrivals, schedule, trace
from tuner.load.arrivals.piecewise import RateProfile, Stretch

relaxed = settings(deadline=None, max_examples=60)
TRACE = np.array([0.0, 0.1, 0.15, 2.0, 2.01, 2.02, 7.5])
TEXTS = ("poisson", "constant", "gamma:0.3", "gamma:2", "piecewise:1x0.2s,0x50ms,4-0x0.1s")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("traces")
    (folder / "times.csv").write_text("user,Timestamp\n" + "".join(f"u,{t + 5}\n" for t in TRACE))
    (folder / "rates.csv").write_text("seconds,rate\n5,10\n1,50\n2,0\n")
    return folder


@pytest.fixture(
    params=[*TEXTS, "trace:times.csv", "trace:rates.csv"], ids=lambda text: text.replace(":", " ")
)
def arrivals(request: pytest.FixtureRequest, folder: Path) -> Arrivals:
    kind, colon, rest = request.param.partition(":")
    return Arrivals.parse(f"trace:{folder / rest}" if kind == "trace" else kind + colon + rest)


def parsed(folder: Path, content: str | bytes) -> Arrivals:
    file = folder / "trace.txt"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return Arrivals.parse(f"trace:{file}")


def gaps_from_zero(text: str, rate: float, seconds: float, seed: int) -> np.ndarray:
    times = schedule(Arrivals.parse(text), rate, seconds, np.random.default_rng(seed))
    return np.diff(np.concatenate(([0.0], times)))


class TestEveryProcess:
    def test_the_text_is_given_back(self, arrivals: Arrivals) -> None:
        assert Arrivals.parse(str(arrivals)) == arrivals
        assert {arrivals: 1}[Arrivals.parse(str(arrivals))] == 1

    def test_the_seed_alone_decides(self, arrivals: Arrivals) -> None:
        first, again, other = (
            schedule(arrivals, 100.0, 5.0, np.random.default_rng(seed)) for seed in (1, 1, 2)
        )
        np.testing.assert_array_equal(first, again)
        assert first[0] != other[0]

    @pytest.mark.parametrize("seconds", [0.37, 2.0])
    def test_the_mean_rate_is_the_one_asked_for_at_any_length(
        self, arrivals: Arrivals, seconds: float
    ) -> None:
        rng = np.random.default_rng(4)
        counts = [len(schedule(arrivals, 50.0, seconds, rng)) for _ in range(600)]
        error = np.std(counts) / np.sqrt(len(counts))
        assert np.mean(counts) == pytest.approx(50 * seconds, abs=4 * error + 1e-9)

    @given(rate=st.floats(0.1, 2000), duration=st.floats(0.01, 5), seed=st.integers(0, 2**32 - 1))
    @settings(relaxed, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_times_ascend_within_the_duration(
        self, arrivals: Arrivals, rate: float, duration: float, seed: int
    ) -> None:
        times = schedule(arrivals, rate, duration, np.random.default_rng(seed))
        assert np.all(np.diff(times) >= 0)
        assert np.all((times >= 0) & (times < duration))

    @pytest.mark.parametrize(("rate", "duration"), [(0, 1), (-1, 1), (1, 0), (float("nan"), 1)])
    def test_no_rate_or_no_time_is_refused(
        self, arrivals: Arrivals, rate: float, duration: float
    ) -> None:
        with pytest.raises(ValueError, match="must be greater than zero"):
            schedule(arrivals, rate, duration, np.random.default_rng(0))


class TestRenewal:
    def test_poisson_gaps_are_exponential(self) -> None:
        gaps = gaps_from_zero("poisson", 200.0, 50.0, seed=3)
        assert stats.kstest(gaps, "expon", args=(0, 1 / 200)).pvalue > 0.01

    def test_poisson_gaps_do_not_depend_on_each_other(self) -> None:
        gaps = gaps_from_zero("poisson", 200.0, 50.0, seed=3)
        assert abs(np.corrcoef(gaps[:-1], gaps[1:])[0, 1]) < 4 / np.sqrt(len(gaps))

    def test_poisson_counts_have_the_mean_and_variance_of_their_rate(self) -> None:
        rng = np.random.default_rng(4)
        counts = [len(schedule(Arrivals.POISSON, 50.0, 2.0, rng)) for _ in range(2000)]
        assert np.mean(counts) == pytest.approx(100, abs=4 * np.sqrt(100 / 2000))
        assert np.var(counts) == pytest.approx(100, rel=0.15)

    def test_constant_arrivals_are_evenly_spaced(self) -> None:
        times = schedule(Arrivals.CONSTANT, 40.0, 5.0, np.random.default_rng(0))
        assert np.diff(times) == pytest.approx(1 / 40)
        assert 0 <= times[0] < 1 / 40

    @pytest.mark.parametrize("variation", [0.2, 1.0, 3.0])
    def test_gamma_gaps_are_gamma(self, variation: float) -> None:
        gaps = gaps_from_zero(f"gamma:{variation}", 200.0, 50.0, seed=5)[1:]
        law = stats.gamma(variation**-2, 0, variation**2 / 200)
        least = 1e-9  # gaps below get lost where a double holds their sum
        above = gaps[gaps > least]
        assert stats.binomtest(len(above), len(gaps), law.sf(least)).pvalue > 0.01
        assert stats.kstest(above, lambda x: 1 - law.sf(x) / law.sf(least)).pvalue > 0.01
        assert np.std(gaps) / np.mean(gaps) == pytest.approx(variation, rel=0.1)

    @pytest.mark.parametrize("variation", [0.2, 3.0])
    def test_the_first_gamma_gap_is_that_of_a_random_moment(self, variation: float) -> None:
        """Its density is that a gap is longer, over the mean gap."""
        gaps = stats.gamma(variation**-2, 0, variation**2)
        points = np.linspace(0, 60, 200_001)
        below = integrate.cumulative_simpson(gaps.sf(points), x=points, initial=0)
        rng, process = np.random.default_rng(6), Arrivals.parse(f"gamma:{variation}")
        first = [schedule(process, 1.0, 200.0, rng)[0] for _ in range(1000)]
        assert stats.kstest(first, lambda x: np.interp(x, points, below)).pvalue > 0.01


class TestPiecewise:
    @pytest.mark.parametrize(
        ("text", "edges", "shares"),
        [
            ("piecewise:1x500ms,3x100ms", [0, 0.5, 0.6], [5 / 8, 3 / 8]),
            ("piecewise:1-3x1s", [0, 0.25, 0.5, 0.75, 1], [5 / 32, 7 / 32, 9 / 32, 11 / 32]),
            ("piecewise:2-0x1s", [0, 0.25, 0.5, 0.75, 1], [7 / 16, 5 / 16, 3 / 16, 1 / 16]),
            ("piecewise:0-2x1s,2x1s", [0, 0.5, 1, 2], [1 / 12, 3 / 12, 8 / 12]),
            ("piecewise:0x1s,1x1s", [0, 1, 2], [0, 1]),
        ],
    )
    def test_counts_by_stretch_are_those_expected(
        self, text: str, edges: list[float], shares: list[float]
    ) -> None:
        profile = Arrivals.parse(text).process.profile  # type: ignore[attr-defined]
        period = edges[-1]
        phase = np.random.default_rng(7).random() * period  # as the process draws it
        times = schedule(Arrivals.parse(text), 500.0, 20 * period, np.random.default_rng(7))
        counts, _ = np.histogram((times + phase) % period, edges)
        expected = np.array(shares) * 500 * 20 * period
        assert profile.seconds == pytest.approx(period)
        assert counts[expected == 0].sum() == 0
        some = expected > 0
        chi_square = np.sum((counts - expected)[some] ** 2 / expected[some])
        assert stats.chi2.sf(chi_square, some.sum()) > 0.01

    def test_within_a_stretch_it_is_poisson(self) -> None:
        times = schedule(
            Arrivals.parse("piecewise:1x10s,2x10s"), 300.0, 20.0, np.random.default_rng(8)
        )
        phase = np.random.default_rng(8).random() * 20
        at = np.sort((times + phase) % 20)
        for begin, rate in ((0, 200), (10, 400)):
            gaps = np.diff(at[(at >= begin) & (at < begin + 10)])
            assert stats.kstest(gaps, "expon", args=(0, 1 / rate)).pvalue > 0.01

    @given(
        st.lists(
            st.tuples(st.floats(0, 9), st.floats(0, 9), st.floats(0.01, 9)), min_size=1, max_size=5
        ).filter(lambda parts: any(a + b > 0.01 for a, b, _ in parts)),
        st.floats(0.001, 3.999),
    )
    @relaxed
    def test_the_inverse_undoes_the_cumulative_rate(
        self, parts: list[tuple[float, float, float]], amount: float
    ) -> None:
        profile = RateProfile(tuple(Stretch(*part) for part in parts))
        seconds = float(profile.inverse(np.array([amount]))[0])
        assert profile.cumulative(seconds) == pytest.approx(amount, abs=1e-6)

    def test_a_probe_lasts_a_period_at_any_rate(self) -> None:
        arrivals = Arrivals.parse("piecewise:1x5s, 3-1x500ms")
        assert arrivals.least_seconds(1) == arrivals.least_seconds(100) == pytest.approx(5.5)
        assert Arrivals.POISSON.least_seconds(1) == Arrivals.parse("gamma:2").least_seconds(1) == 0
        assert arrivals.own_rate is None


class TestTrace:
    def test_gaps_keep_their_ratios(self, folder: Path) -> None:
        """From a random point on, around the end of the file, where a mean gap lies."""
        arrivals = Arrivals.parse(f"trace:{folder / 'times.csv'}")
        mean = TRACE[-1] / (len(TRACE) - 1)
        assert arrivals.own_rate == pytest.approx(1 / mean)
        gaps = [*np.diff(TRACE), mean]
        for seed in range(20):
            times = schedule(arrivals, 10.0, 3.0, np.random.default_rng(seed))
            found = np.diff(times) * 10 * mean
            starts = [np.roll(gaps, -i) for i in range(7)]
            begin = np.argmin([abs(start - found[:7]).max() for start in starts])
            expected = np.resize(np.roll(gaps, -begin), len(found))
            np.testing.assert_allclose(found, expected, atol=1e-9)

    def test_probes_start_at_different_points(self, folder: Path) -> None:
        arrivals = Arrivals.parse(f"trace:{folder / 'times.csv'}")
        firsts = {
            round(np.diff(schedule(arrivals, 10.0, 3.0, np.random.default_rng(seed)))[0], 9)
            for seed in range(30)
        }
        assert len(firsts) >= 3

    def test_a_period_is_the_whole_trace(self, folder: Path) -> None:
        assert Arrivals.parse(f"trace:{folder / 'times.csv'}").least_seconds(10) == 0.7
        rates = Arrivals.parse(f"trace:{folder / 'rates.csv'}")
        assert rates.own_rate == pytest.approx(100 / 8)
        assert rates.least_seconds(12.5) == pytest.approx(8)
        assert rates.least_seconds(125) == pytest.approx(0.8)

    def test_rates_are_squeezed_in_time(self, folder: Path) -> None:
        arrivals = Arrivals.parse(f"trace:{folder / 'rates.csv'}")
        times = schedule(arrivals, 1250.0, 8.0, np.random.default_rng(9))
        phase = np.random.default_rng(9).random() * 8
        counts, _ = np.histogram((times * 100 + phase) % 8, [0, 5, 6, 8])
        assert counts[2] == 0
        expected = np.array([5000, 5000])
        assert stats.chi2.sf(np.sum((counts[:2] - expected) ** 2 / expected), 2) > 0.01

    @pytest.mark.parametrize(
        "content",
        [
            "3\n1\n2\n",
            "1.0\n\n# pause\n2\n3e0",
            "\ufefftime\r\n1\r\n2\r\n3\r\n",
            'id,timestamp\n"a,b",3\nc,1\nd,2\n',
            "seconds,timestamp\n9,1\n9,2\n9,3\n",
        ],
    )
    def test_ways_to_write_times(self, tmp_path: Path, content: str) -> None:
        assert parsed(tmp_path, content).process.offsets.tolist() == [0, 1, 2]  # type: ignore[attr-defined]

    def test_the_order_of_columns_does_not_matter(self, tmp_path: Path) -> None:
        assert parsed(tmp_path, "rate, Seconds\n10,5\n0,5").own_rate == 5

    def test_the_file_is_part_of_what_it_is(self, tmp_path: Path) -> None:
        first = parsed(tmp_path, "1\n2\n")
        assert first.sha256 == hashlib.sha256(b"1\n2\n").hexdigest()
        assert first != parsed(tmp_path, "1\n3\n")
        assert Arrivals.POISSON.sha256 is None

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ("", "is empty"),
            ("# nothing\n\n", "is empty"),
            ("timestamp\n", "holds 0 requests"),
            ("7\n", "holds 1 request;"),
            ("7\n7\n7\n", "all 3 requests are at 7 s"),
            ("1\n-2\n", "line 2: -2 must be zero or positive"),
            ("1\nnan\n", "line 2: nan must be zero or positive"),
            ("timestamp\n1\ninf\n", "line 3: inf must be zero or positive"),
            ("1\n2\nsoon\n", "line 3: 'soon' is not a number"),
            ("id,time\na,1\nb\n", "line 3: '' is not a number"),
            ("start\n1\n2\n", "line 1: 'start' is neither a time in seconds nor a header"),
            ("2024-01-01T00:00:00\n", "is neither a time in seconds nor a header"),
            ("timestamp,time\n1,2\n", "is neither"),
            ("timestamp,seconds,rate\n1,2,3\n", "is neither"),
            ("5,10\n1,50\n", "2 columns without names; add a header"),
            ("seconds,rate\n5,0\n1,0\n", "no rate above zero"),
            ("seconds,rate\n", "no rate above zero"),
            ("seconds,rate\n0,3\n", "line 2: a step must be longer than 0 s"),
            ("seconds,rate\n1,-3\n", "line 2: -3 must be zero or positive"),
            ("seconds,rate\n1,x\n", "line 2: 'x' is not a number"),
            (b"\x00\x01\x02", "is not text"),
            (b"\xff\xfe\x80", "it is not UTF-8 text"),
        ],
    )
    def test_what_is_wrong_is_said(self, tmp_path: Path, content: str | bytes, words: str) -> None:
        with pytest.raises(UsageError) as caught:
            parsed(tmp_path, content)
        assert words in str(caught.value)
        assert "trace.txt" in str(caught.value)

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ("1\n1e25\n", "line 2: 1e25 exceeds 1e+24"),
            ("seconds,rate\n1,1e13\n", "1e13 exceeds 1e+12"),
            ("1\n1.0000000001\n", "all 2 requests are at 1 s"),
            ("seconds,rate\n1e-10,3\n", "a step must be longer than 0 s"),
            ("seconds,rate\n1,1e-300\n", "no rate above zero"),
            ("1" * 1_100_000, "line 1 is longer than 1,048,576"),
            ('"' + "1\n" * 100_000, "field larger than field limit"),
        ],
    )
    def test_what_would_overflow_or_has_no_end_is_refused(
        self, tmp_path: Path, content: str, words: str
    ) -> None:
        with pytest.raises(UsageError) as caught:
            parsed(tmp_path, content)
        assert words in str(caught.value)

    def test_more_requests_than_are_replayed_are_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(trace, "LIMITS", trace.TraceLimits(requests=3, stretches=2))
        assert parsed(tmp_path, "1\n2\n3\n").own_rate == 1.0
        with pytest.raises(UsageError, match="more than 3 requests; use a part of it"):
            parsed(tmp_path, "1\n2\n3\n4\n")
        with pytest.raises(UsageError, match="more than 2 stretches"):
            parsed(tmp_path, "seconds,rate\n1,1\n1,1\n1,1\n")

    def test_a_large_file_is_not_in_memory_as_a_whole(self, tmp_path: Path) -> None:
        comment = "# " + "x" * 998 + "\n"
        (tmp_path / "trace.txt").write_text("1\n" + comment * 20_000 + "2\n")
        tracemalloc.start()
        try:
            arrivals = Arrivals.parse(f"trace:{tmp_path / 'trace.txt'}")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert arrivals.own_rate == 1.0
        assert peak < 2 << 20  # of 20 MB

    def test_a_pipe_is_read_once(self, tmp_path: Path) -> None:
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        writer = threading.Thread(target=pipe.write_text, args=("1\n2\n",))
        writer.start()
        try:
            assert Arrivals.parse(f"trace:{pipe}").sha256 == hashlib.sha256(b"1\n2\n").hexdigest()
        finally:
            writer.join()

    def test_no_such_file_or_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"cannot read the trace .*nowhere\.csv: No such file"):
            Arrivals.parse(f"trace:{tmp_path / 'nowhere.csv'}")
        with pytest.raises(UsageError, match="Is a directory"):
            Arrivals.parse(f"trace:{tmp_path}")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("poison", "did you mean 'poisson'"),
        ("gama:3", "did you mean 'gamma'"),
        ("", "choose poisson, constant, gamma:CV"),
        ("poisson:3", "write poisson alone"),
        ("constant:", "write constant alone"),
        ("closed", "is a closed loop"),
        ("gamma", "as in gamma:3"),
        ("gamma:0", "as in gamma:3"),
        ("gamma:x", "as in gamma:3"),
        ("gamma:-1", "as in gamma:3"),
        ("gamma:nan", "as in gamma:3"),
        ("gamma:inf", "as in gamma:3"),
        ("piecewise:", "the step '' is not valid"),
        ("piecewise:1x5s,3", "the step '3' is not valid"),
        ("piecewise:-1x5s", "is not valid"),
        ("piecewise:1x5", "did you mean 5ms?"),
        ("piecewise:1x0s", "must be greater than zero"),
        ("piecewise:0x5s,0-0x1s", "all rates are zero"),
        ("trace:", "names no file"),
        ("trace:a\0b", "not a valid file name"),
        ("trace:" + "a" * 300, "File name too long"),
        ("piecewise:1e9x5s", "is not valid"),
        ("piecewise:9999999999x5s", "the relative rate '9999999999' must be zero, or from"),
        ("piecewise:0." + "0" * 20 + "1x5s", "must be zero, or from"),
        ("piecewise:1x99999h", "is longer than a year"),
        ("piecewise:" + "1x1s," * 1000 + "1x1s", "at most 1,000 steps"),
        ("gamma:" + "9" * 5000, "as in gamma:3"),
        ("x" * 10**6, "is unknown"),
    ],
)
def test_texts_that_do_not_parse(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        Arrivals.parse(text)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 1000
