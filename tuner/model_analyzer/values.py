"""Lists and ranges as Model Analyzer writes them."""

from collections.abc import Mapping
from typing import Any

from tuner.errors import UsageError
from tuner.text import shown
from tuner.units import whole_number

_MOST = 1000
"""Values of a range."""


def names(raw: Any, place: str) -> list[str]:
    """Of ``a,b`` or a list; UsageError for anything else."""
    listed = raw.split(",") if isinstance(raw, str) else raw
    if not isinstance(listed, list | tuple) or not all(isinstance(each, str) for each in listed):
        raise UsageError(f"{place}: {shown(raw)} is no list of names")
    return [each.strip() for each in listed if each.strip()]


def numbers(raw: Any, place: str) -> list[int]:
    """Of one number, ``1,2``, a list, or ``{start, stop, step}``, ends included."""
    if isinstance(raw, Mapping):
        start, stop, step = raw.get("start", 1), raw.get("stop"), raw.get("step", 1)
        wanted = (_number(start, place), _number(stop, place), _number(step, place))
        if not wanted[2] or wanted[1] < wanted[0] or (wanted[1] - wanted[0]) // wanted[2] > _MOST:
            raise UsageError(f"{place}: the range {dict(raw)} has no, or too many, values")
        return list(range(wanted[0], wanted[1] + 1, wanted[2]))
    listed = raw.split(",") if isinstance(raw, str) else raw if isinstance(raw, list) else [raw]
    if not listed:
        raise UsageError(f"{place}: the list is empty")
    return [_number(each, place) for each in listed]


def _number(raw: Any, place: str) -> int:
    value = whole_number(str(raw).strip()) if not isinstance(raw, bool) else None
    if value is None:
        raise UsageError(f"{place}: {shown(raw)} is no whole number")
    return value


def mapping(raw: Any, place: str) -> Mapping[str, Any]:
    """Empty where nothing is written."""
    if raw is None:
        return {}
    if not isinstance(raw, Mapping) or not all(isinstance(key, str) for key in raw):
        raise UsageError(f"{place}: {shown(raw)} is no mapping of names")
    return raw
