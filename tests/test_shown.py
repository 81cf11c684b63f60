"""What others wrote is quoted short, whatever it is."""

from pathlib import Path

import pytest

from tuner.text import shortened, shown


@pytest.mark.parametrize("value", ["20", b"x", 3, 2.5, None, True, [1, 2], {"a": (1,)}, "é\n"])
def test_what_is_short_is_shown_as_it_is(value: object) -> None:
    assert shown(value) == repr(value)


@pytest.mark.parametrize(
    "value",
    [
        *("x" * 10**6, 10**5000, [["x" * 10**5] * 100] * 100, {"x" * 1000: "y" * 1000}),
        *(list(range(10**5)), Path("x" * 10**5), b"x" * 10**5),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_long_is_cut(value: object) -> None:
    assert len(shown(value)) <= 203


def test_both_ends_are_kept() -> None:
    assert shown("a" + "x" * 1000 + "b").startswith("'ax")
    assert shown("a" + "x" * 1000 + "b").endswith("xb'")
    assert shortened("a" * 200) == "a" * 200


def test_what_refers_to_itself_is_shown() -> None:
    within: list[object] = []
    within.append(within)
    assert len(shown(within)) < 50
