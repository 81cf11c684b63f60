"""The one place where quantities are parsed and printed; elsewhere seconds and bytes are numbers.

>>> parse_duration("20ms")
0.02
>>> format_duration(0.0125)
'12.5 ms'
>>> parse_size("2GiB")
2147483648
"""

import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal

from tuner.errors import UnitError
from tuner.text import shortened, shown

_SECONDS = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_BYTES = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
}
_JOULES = {"mJ": 1e-3, "J": 1.0, "kJ": 1e3}
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+) ?([A-Za-zµ°%]*)")
_DIGITS = re.compile(r"[0-9]+")
SHORTEST, LONGEST = 1e-15, 366 * 24 * 3600.0
"""Seconds: a duration between them can be told from zero and waited for, in whatever unit."""
_LARGEST = 1e18
"""Of any other quantity, in its base unit: an exabyte, and nothing is far from overflowing."""
LARGEST_NUMBER = 2**53
"""Whole numbers up to it are the same as floats."""


def parse_duration(text: str, likely: Sequence[str] = ("ms",)) -> float:
    """Seconds from ``20ms``, ``500us``, ``1.5s``, ``3m`` or ``1h``; the unit must be written.

    ``likely`` are the units that the error suggests if there is none.
    """
    value, unit = _split(text, "duration", f"20{likely[0]}")
    if unit not in _SECONDS:
        guess = " or ".join(f"{text.strip()}{each}" for each in likely)
        hint = f"unknown unit {shown(unit)}" if unit else shortened(f"did you mean {guess}?")
        raise UnitError(f"duration {shown(text)} needs a unit: us, ms, s, m or h; {hint}")
    seconds = value * _SECONDS[unit]
    if seconds < SHORTEST:
        raise UnitError(f"duration {shown(text)} must be greater than zero")
    if seconds > LONGEST:
        raise UnitError(f"duration {shown(text)} is longer than a year")
    return seconds


def parse_size(text: str) -> int:
    """Bytes from ``512MiB``, ``2GiB`` or ``1GB``; the unit must be written."""
    value, unit = _split(text, "size", "2GiB")
    if unit not in _BYTES:
        raise UnitError(f"size {shown(text)} needs a unit: one of {', '.join(_BYTES)}")
    return int(_bounded(value * _BYTES[unit], text, "size"))


def parse_share(text: str) -> float:
    """A share 0..1 from ``80%`` or ``0.8``."""
    value, unit = _split(text, "share", "80%")
    if unit not in ("", "%"):
        raise UnitError(
            f"share {shown(text)} has an unknown unit {shown(unit)}; write it like 80% or 0.8"
        )
    share = value / 100 if unit else value
    if share > 1:
        hint = f"; did you mean {text.strip()}%?" if not unit and value <= 100 else ""
        raise UnitError(f"share {shown(text)} is more than 100 %{shortened(hint)}")
    return share


def parse_power(text: str) -> float:
    """Watts from ``250W``; the unit must be written."""
    return _plain(text, "power", "250W", ("W",))


def parse_energy(text: str) -> float:
    """Joules from ``0.5J`` or ``80mJ``; the unit must be written."""
    value, unit = _split(text, "energy", "80mJ")
    if unit not in _JOULES:
        raise UnitError(f"energy {shown(text)} needs a unit: one of {', '.join(_JOULES)}")
    return _bounded(value * _JOULES[unit], text, "energy")


def parse_temperature(text: str) -> float:
    """Degrees Celsius from ``80C`` or ``80°C``; the unit must be written."""
    return _plain(text, "temperature", "80C", ("C", "°C"))


def parse_cores(text: str) -> float:
    """A number of cores from ``4`` or ``1.5cores``."""
    return _plain(text, "number of cores", "4", ("", "core", "cores"))


def parse_rate(text: str) -> float:
    """Requests per second from ``800/s``; the unit must be written."""
    number, _, per = text.strip().partition("/")
    if per.strip() != "s":
        raise UnitError(f"rate {shown(text)} needs a unit; write it like 800/s")
    return _plain(number, "rate", "800/s", ("",))


def whole_number(text: str, most: int = LARGEST_NUMBER) -> int | None:
    """The number that ASCII digits spell; None for any other text, and for more than ``most``.

    ``int`` takes other scripts' digits and fails at thousands of them, and ``isdigit`` takes
    characters that ``int`` does not.
    """
    if _DIGITS.fullmatch(text) is None or len(text.lstrip("0")) > len(str(most)):
        return None
    number = int(text.lstrip("0") or "0")
    return number if number <= most else None


def _plain(text: str, what: str, example: str, known: tuple[str, ...]) -> float:
    value, unit = _split(text, what, example)
    if unit not in known:
        wrong = f"unknown unit {shown(unit)}" if unit else "it needs a unit"
        raise UnitError(f"{what} {shown(text)}: {wrong}; write it like {example}")
    return _bounded(value, text, what)


def _bounded(value: float, text: str, what: str) -> float:
    if value > _LARGEST:
        raise UnitError(f"{what} {shown(text)} is too large")
    return value


def _split(text: str, what: str, example: str) -> tuple[float, str]:
    match = _QUANTITY.fullmatch(" ".join(text.split()))
    if match is None:
        raise UnitError(f"{what} {shown(text)} is not valid; write it like {example}")
    return float(match[1]), match[2]


def format_duration(seconds: float | None) -> str:
    """Three significant digits in the unit that fits; ``-`` where there is no data."""
    if seconds is None or math.isnan(seconds):
        return "-"
    if math.isinf(seconds):
        return "no answer"
    if seconds == 0:
        return "0 ms"
    for unit, scale in (("µs", 1e-6), ("ms", 1e-3), ("s", 1.0)):
        if seconds < 1000 * scale * 0.9995 or unit == "s":
            return f"{_three_digits(seconds / scale)} {unit}"
    raise AssertionError("unreachable")


def format_clock(seconds: float) -> str:
    """Whole seconds as ``m:ss``, for elapsed and remaining time."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    return f"{minutes}:{rest:02d}"


def format_rate(per_second: float | None) -> str:
    """Requests per second, three significant digits below 1000 and whole numbers above."""
    if per_second is None:
        return "-"
    if per_second >= 1000:
        return f"{per_second:,.0f}/s"
    return f"{_three_digits(per_second)}/s"


def format_size(size: int) -> str:
    for unit in ("GiB", "MiB", "KiB"):
        if size >= _BYTES[unit]:
            return f"{_three_digits(size / _BYTES[unit])} {unit}"
    return f"{size} B"


def format_energy(joules: float) -> str:
    """Three significant digits in the unit that fits."""
    for unit in ("kJ", "J"):
        if joules >= _JOULES[unit]:
            return f"{_three_digits(joules / _JOULES[unit])} {unit}"
    return f"{_three_digits(1e3 * joules)} mJ"


def format_number(value: float) -> str:
    """Three significant digits."""
    return _three_digits(value)


def format_cores(cores: float) -> str:
    """``1.4 cores``, three significant digits."""
    number = _three_digits(cores)
    return f"{number} core" if number == "1" else f"{number} cores"


def exact_size(size: float) -> str:
    """``20GiB`` or ``20GB``: in the unit with the smallest whole number; ``parse_size`` gives it
    back.
    """
    numbers = {unit: size // scale for unit, scale in _BYTES.items() if size % scale == 0}
    unit = min(numbers, key=numbers.__getitem__, default="B")
    return f"{_digits(numbers.get(unit, size))}{unit}"


def exact_duration(seconds: float) -> str:
    """The shortest text that ``parse_duration`` turns into the very same number."""
    return _shortest(seconds, {unit: _SECONDS[unit] for unit in ("us", "ms", "s", "m", "h")}, "s")


def exact_share(share: float) -> str:
    percent = float(f"{100 * share:.12g}")
    return f"{_digits(percent)}%" if percent / 100 == share else _digits(share)


def exact_power(watts: float) -> str:
    return f"{_digits(watts)}W"


def exact_energy(joules: float) -> str:
    """The shortest text that ``parse_energy`` turns into the very same number."""
    return _shortest(joules, _JOULES, "J")


def exact_temperature(celsius: float) -> str:
    return f"{_digits(celsius)}C"


def exact_cores(cores: float) -> str:
    return _digits(cores)


def _shortest(value: float, units: Mapping[str, float], base: str) -> str:
    numbers = {unit: float(f"{value / scale:.12g}") for unit, scale in units.items()}
    same = [f"{_digits(n)}{unit}" for unit, n in numbers.items() if n * units[unit] == value]
    return min(same, key=len, default=f"{_digits(value)}{base}")


def _digits(value: float) -> str:
    """All digits of the number, with no exponent and no zeros behind the point."""
    text = f"{Decimal(repr(value)):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _three_digits(value: float) -> str:
    if value == 0:
        return "0"
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
