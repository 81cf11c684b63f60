"""A figure with its words, as pages and notebooks show it."""

from dataclasses import dataclass

import plotly.graph_objects as go


@dataclass(frozen=True)
class Drawing:
    """``name`` is stable; ``reading`` says how to read the figure, ``missing`` why it is None."""

    name: str
    title: str
    reading: str
    figure: go.Figure | None
    missing: str
