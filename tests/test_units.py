import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner.errors import UnitError
from tuner.units import (
    LONGEST,
    SHORTEST,
    exact_duration,
    exact_energy,
    exact_size,
    format_clock,
    format_duration,
    format_rate,
    format_size,
    parse_duration,
    parse_energy,
    parse_share,
    parse_size,
    whole_number,
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


@pytest.mark.parametrize("text", ["20GB", "20GiB", "1500MB", "512MiB", "64kB", "1KiB", "7B", "0B"])
def test_a_size_is_printed_in_the_unit_in_which_it_was_meant(text: str) -> None:
    assert exact_size(parse_size(text)) == text


@given(st.integers(0, 1 << 53))
@relaxed
def test_an_exact_size_parses_back(size: int) -> None:
    assert parse_size(exact_size(size)) == size


@pytest.mark.parametrize("text", ["80mJ", "0.5J", "2kJ", "1500J"])
def test_an_energy_is_printed_in_the_unit_in_which_it_was_meant(text: str) -> None:
    assert exact_energy(parse_energy(text)) == text


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


@pytest.mark.parametrize("parse", [parse_duration, parse_size, parse_share, parse_energy])
@pytest.mark.parametrize(
    "text",
    [
        *("9" * 400 + "s", "9" * 5000 + "B", "9" * 400, "9" * 400 + "%", "9" * 400 + "J"),
        *("²s", "٣GiB", "1" + " " * 100_000 + "x", "1" * 100_000 + "?", "x" * 100_000, "nan"),
    ],
    ids=lambda value: value[:8] if isinstance(value, str) else value.__name__,
)
def test_what_is_no_quantity_is_refused_in_few_words(
    parse: Callable[[str], float], text: str
) -> None:
    with pytest.raises(UnitError) as caught:
        parse(text)
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("8785h", "is longer than a year"),
        ("0." + "0" * 20 + "1us", "must be greater than zero"),
        ("0." + "0" * 400 + "1h", "must be greater than zero"),
    ],
)
def test_a_duration_can_be_told_from_zero_and_waited_for(text: str, words: str) -> None:
    with pytest.raises(UnitError, match=words):
        parse_duration(text)


@given(st.floats(SHORTEST, LONGEST))
@relaxed
def test_every_duration_is_printed_exactly(seconds: float) -> None:
    assert parse_duration(exact_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("007", 7), ("100", 100), ("101", None), ("9" * 5000, None), ("0" * 5000, 0)],
)
def test_whole_numbers_up_to_a_limit(text: str, number: int | None) -> None:
    assert whole_number(text, 100) == number


@pytest.mark.parametrize("text", ["", "-1", "+1", " 1", "1 ", "1.0", "1_0", "²", "٣", "x", "0x1"])
def test_what_is_no_whole_number(text: str) -> None:
    assert whole_number(text) is None
