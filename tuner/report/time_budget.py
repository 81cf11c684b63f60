"""Where the time of a run went: a bar for the page, a line for the terminal."""

from tuner.records.phases import TimeBudget
from tuner.report.html import Html, facts, join, tag, text
from tuner.units import format_clock

_SHADES = ("#5b6672", "#c98a1b", "#8a63b8", "#2f7fc1", "#2b9a6b", "#17705f", "#9ea8b4")
"""Of the phases in their order; between grey ones for what is not measuring."""


def budget_line(budget: TimeBudget) -> str:
    """``Time 2:40: start 0:03, calibration 0:08, …``; minutes and seconds."""
    shown = ", ".join(f"{name} {format_clock(seconds)}" for name, seconds in _shown(budget))
    return f"Time {format_clock(budget.total)}: {shown}; of which {_parts(budget)}."


def budget_bar(budget: TimeBudget) -> Html:
    """The phases one after the other, each as wide as its share of the time."""
    spans, rows = [], []
    for (name, seconds), shade in zip(budget.phases(), _SHADES, strict=True):
        share = 100 * seconds / budget.total
        if share:
            said = f"{name} {format_clock(seconds)} ({share:.0f} %)"
            style = f"width:{share:.2f}%;background:{shade}"
            spans.append(tag("span", title=said, style=style))
            key = tag("span", style=f"background:{shade}")
            rows.append(tag("li", key, text(said)))
    whole = f"{format_clock(budget.total)} of all sessions"
    pairs = (("time", whole), ("of which", _parts(budget)))
    bar = tag("div", *spans, class_="budget", role="img", aria_label=budget_line(budget))
    return join((tag("h3", text("Time")), bar, tag("ul", *rows, class_="keys"), facts(pairs)))


def _shown(budget: TimeBudget) -> list[tuple[str, float]]:
    return [(name, seconds) for name, seconds in budget.phases() if seconds >= 0.5]


def _parts(budget: TimeBudget) -> str:
    launches, warm_up = format_clock(budget.launches), format_clock(budget.warm_up)
    return f"launches {launches}, warm-up {warm_up}"
