"""The look that all figures share: one color per meaning, the same in the page's style sheet."""

from collections.abc import Sequence
from html import escape
from math import ceil, floor, log10
from textwrap import wrap
from typing import Any

import plotly.graph_objects as go

from tuner.model.space import short_name

MS = 1000.0
"""Milliseconds in a second: the unit of latencies in figures."""
BASELINE = "#e08a00"
WINNER = "#1a86d0"
SLA = "#d8344f"
OTHERS = "#98a1ad"
PARTS = {
    "client": "#c97a6a",
    "queue": "#a978c9",
    "input": "#c9b458",
    "infer": "#3f9c6b",
    "output": "#7bb8a4",
    "rest": "#98a1ad",
}
STAGES = {
    "client": "#c97a6a",
    "parsing": "#e0a458",
    "tokenising": "#c9c058",
    "transport": "#5aa7c8",
    "queue": "#a978c9",
    "inference": "#3f9c6b",
    "serialisation": "#d98cae",
    "rest": "#98a1ad",
}
CAPACITY_SCALE = ["#b3b9c2", "#7aafd8", WINNER]
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'DejaVu Sans', sans-serif"
_INK = "#6b7480"
_GRID = "rgba(128, 138, 150, 0.25)"


def label(text: object) -> str:
    """Text for a figure, where Plotly would take ``<`` and ``&`` for markup."""
    return escape(str(text), quote=False)


def setting(path: str, width: int) -> str:
    """A setting's name in words, broken into lines of about that many characters."""
    name = short_name(path).replace("_microseconds", " (µs)").replace("_", " ")
    return "<br>".join(label(line) for line in wrap(name, width, break_long_words=False))


def layout(figure: go.Figure, height: int = 420, **changes: Any) -> go.Figure:
    """The common layout: no background of its own, the legend below the data, never on it."""
    figure.update_layout(
        template=go.layout.Template(),
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": FONT, "size": 13, "color": _INK},
        height=height,
        margin={"l": 64, "r": 20, "t": 34, "b": 56},
        legend={
            "orientation": "h",
            "traceorder": "normal",
            "x": 0,
            "y": 0,
            "yref": "container",
            "yanchor": "bottom",
        },
        hoverlabel={"align": "left", "namelength": -1},
        hovermode="closest",
    )
    figure.update_xaxes(**_axis())
    figure.update_yaxes(**_axis())
    figure.update_layout(**changes)
    return figure


def name_rows(figure: go.Figure, names: Sequence[str], row: int | None = None) -> None:
    """Rows by their number, the first on top, for two of them may have the same name."""
    figure.update_yaxes(
        tickvals=list(range(len(names))),
        ticktext=list(names),
        range=[len(names) - 0.5, -0.5],
        showgrid=False,
        zeroline=False,
        row=row,
        col=None if row is None else 1,
    )


def log_axis(low: float, high: float) -> dict[str, Any]:
    """A logarithmic axis for data in low..high > 0 that is labelled 1, 2, 5, 10, 20, ..."""
    decades = range(floor(log10(low)) - 1, ceil(log10(high)) + 1)
    ticks = [digit * 10.0**decade for decade in decades for digit in (1, 2, 5)]
    margin = 0.04 * max(log10(high / low), 0.1)
    return {
        "type": "log",
        "tickvals": ticks,
        "ticktext": [f"{tick:g}" for tick in ticks],
        "range": [log10(low) - margin, log10(high) + margin],
    }


def _axis() -> dict[str, Any]:
    return {
        "gridcolor": _GRID,
        "linecolor": _GRID,
        "zerolinecolor": _GRID,
        "automargin": True,
        "exponentformat": "none",
        "title": {"standoff": 10, "font": {"size": 13}},
    }
