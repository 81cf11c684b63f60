"""The look that all figures share: one colour per meaning, the same in the page's style sheet."""

from html import escape
from typing import Any

import plotly.graph_objects as go

BASELINE = "#e08a00"
WINNER = "#1a86d0"
SLA = "#d8344f"
OTHERS = "#98a1ad"
STAGES = {
    "queue": "#a978c9",
    "input": "#c9b458",
    "infer": "#3f9c6b",
    "output": "#7bb8a4",
    "network and client": "#98a1ad",
}
CAPACITY_SCALE = ["#b3b9c2", "#7aafd8", WINNER]
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'DejaVu Sans', sans-serif"
_INK = "#6b7480"
_GRID = "rgba(128, 138, 150, 0.25)"


def label(text: object) -> str:
    """Text for a figure, where Plotly would take ``<`` and ``&`` for markup."""
    return escape(str(text), quote=False)


def layout(figure: go.Figure, height: int = 420, **changes: Any) -> go.Figure:
    """The common layout: no background of its own, the legend above the data, never on it."""
    figure.update_layout(
        template=go.layout.Template(),
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": FONT, "size": 13, "color": _INK},
        height=height,
        margin={"l": 64, "r": 20, "t": 16, "b": 56},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        hoverlabel={"align": "left", "namelength": -1},
        hovermode="closest",
    )
    figure.update_xaxes(**_axis())
    figure.update_yaxes(**_axis())
    figure.update_layout(**changes)
    return figure


def _axis() -> dict[str, Any]:
    return {
        "gridcolor": _GRID,
        "linecolor": _GRID,
        "zerolinecolor": _GRID,
        "automargin": True,
        "exponentformat": "none",
        "title": {"standoff": 10},
    }
