import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner.errors import UnitError
from tuner.units import (
    format_clock,
    format_duration,
    format_rate,
    format_size,
    parse_duration,
    parse_size,
)

relaxed = settings(deadline=None)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("20ms", 0.020),
        ("500us", 500e-6),
        ("500µs", 500e-6),
        ("1.5s", 1.5),
        (".5s", 0.5),
        ("3m", 180.0),
        ("3min", 180.0),
        ("1h", 3600.0),
        (" 20 ms ", 0.020),
    ],
)
def test_durations_parse_to_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["20", "", " ", "ms", "-5ms", "0ms", "0.0s", "20 parsecs", "20MS", "1e3ms", "5,5ms"]
)
def test_a_duration_that_is_none_is_refused_by_its_own_words(text: str) -> None:
    with pytest.raises(UnitError) as caught:
        parse_duration(text)
    assert repr(text) in str(caught.value)


def test_a_forgotten_unit_is_guessed_and_an_unknown_one_is_named() -> None:
    with pytest.raises(UnitError, match="did you mean 20ms"):
        parse_duration("20")
    with pytest.raises(UnitError, match="unknown unit 'parsecs'"):
        parse_duration("20 parsecs")


@given(st.floats(1e-6, 1e6))
@relaxed
def test_a_printed_duration_parses_back_within_three_digits(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, rel=0.0051)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (math.nan, "-"),
        (math.inf, "no answer"),
        (0.0, "0 ms"),
        (0.0125, "12.5 ms"),
        (250e-6, "250 µs"),
        (0.99949, "999 ms"),
        (0.9996, "1 s"),
        (120.0, "120 s"),
    ],
)
def test_durations_print_in_the_unit_that_fits(seconds: float | None, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "size"),
    [("1B", 1), ("1kB", 1000), ("1GB", 10**9), ("512MiB", 512 << 20), ("1.5 GiB", 3 << 29)],
)
def test_sizes_parse_to_bytes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "20", "-1GiB", "2 gigs", "GiB"])
def test_a_size_that_is_none_is_refused_by_its_own_words(text: str) -> None:
    with pytest.raises(UnitError) as caught:
        parse_size(text)
    assert repr(text) in str(caught.value)


@given(st.integers(0, 1 << 45))
@relaxed
def test_a_printed_size_parses_back_within_three_digits(size: int) -> None:
    assert parse_size(format_size(size)) == pytest.approx(size, rel=0.0051)


@pytest.mark.parametrize(
    ("rate", "text"),
    [(None, "-"), (0.0, "0/s"), (0.123456, "0.123/s"), (12.34, "12.3/s"), (12345.6, "12,346/s")],
)
def test_rates_keep_three_digits(rate: float | None, text: str) -> None:
    assert format_rate(rate) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.4, "0:59"), (59.6, "1:00"), (605, "10:05"), (-3, "0:00")]
)
def test_the_clock_counts_minutes_and_never_goes_below_zero(seconds: float, text: str) -> None:
    assert format_clock(seconds) == text
