"""The rules of thumb about the queue delay, judged by simulations of the tuned configuration."""

import math

from tuner.analysis.claim import Claim, unknown
from tuner.analysis.records import Delay
from tuner.units import format_duration, format_rate

_SHORT_DELAYS = (0.001, 0.002)
_LONG_DELAYS = (0.005, 0.01)
_SAME = 0.02
"""Simulated capacities nearer than that are the same."""


def short_delay(delays: tuple[Delay, ...]) -> Claim:
    """Waiting 1 to 2 ms adds to a lone request's latency, so where latency matters it is worth it
    only if it serves more than the shortest delay does: holds if by over 2 %. Simulated.
    """
    text = "a queue delay of 1 to 2 ms where latency matters"
    known = _simulated(delays)
    own = [d for d in known if _is_in(d, _SHORT_DELAYS)]
    shorter = [d for d in known if d.delay < _SHORT_DELAYS[0]]
    if not own or not shorter:
        return unknown(text, "no simulation of such a delay and of a shorter one")
    best, least = max(own, key=_capacity), min(shorter, key=lambda d: d.delay)
    gain = _capacity(best) / _capacity(least) if _capacity(least) else math.inf
    holds = gain > 1 + _SAME
    return Claim(
        text=text,
        measured=f"simulated: {_show_delay(best)}; {_show_delay(least)}",
        holds=holds,
        why=f"it serves {'more than' if holds else 'no more than'} {_name(least)}",
    )


def long_delay(delays: tuple[Delay, ...]) -> Claim:
    """Holds if the best delay of 5 to 10 ms serves as much as the best of all, to within 2 %, and
    more than the best of at most 2 ms by over 2 %: else a shorter one does as well. Simulated.
    """
    text = "a queue delay of 5 to 10 ms where throughput matters"
    known = _simulated(delays)
    own = [d for d in known if _is_in(d, _LONG_DELAYS)]
    shorter = [d for d in known if d.delay <= _SHORT_DELAYS[1]]
    if not own or not shorter:
        return unknown(text, "no simulation of such a delay and of a shorter one")
    best, short, most = (max(group, key=_capacity) for group in (own, shorter, known))
    is_best = _capacity(best) >= (1 - _SAME) * _capacity(most)
    is_more = _capacity(best) > (1 + _SAME) * _capacity(short)
    why = f"it serves more than {_name(short)}, and none serves more"
    if not is_more:
        why = f"{_name(short)} serves as much or more"
    elif not is_best:
        why = f"{_name(most)} serves more"
    return Claim(
        text=text,
        measured=f"simulated: {_show_delay(best)}; {_show_delay(short)}",
        holds=is_best and is_more,
        why=why,
    )


def _simulated(delays: tuple[Delay, ...]) -> list[Delay]:
    """All of them, if the promise is kept with any."""
    return list(delays) if any(map(_capacity, delays)) else []


def _is_in(delay: Delay, claimed: tuple[float, float]) -> bool:
    return claimed[0] - 1e-9 <= delay.delay <= claimed[1] + 1e-9


def _capacity(delay: Delay) -> float:
    """0 where the promise is kept at no rate."""
    return delay.capacity or 0.0


def _name(delay: Delay) -> str:
    return f"{format_duration(delay.delay)} of delay" if delay.delay else "no delay"


def _show_delay(delay: Delay) -> str:
    alone = "" if delay.p50 is None else f", p50 alone {format_duration(delay.p50)}"
    return f"{_name(delay)} {format_rate(delay.capacity)}{alone}"
