"""What a simulation expects of one configuration, drawn."""

from collections.abc import Mapping

import plotly.graph_objects as go

from tuner.report import style


def latency_percentiles(latency: Mapping[str, float | None]) -> go.Figure:
    """Seconds by the name of the percentile; None, which is no limit, is left out."""
    known = {name: 1000 * value for name, value in latency.items() if value is not None}
    bars = go.Bar(x=list(known), y=list(known.values()), marker_color=style.WINNER)
    figure = go.Figure(bars)
    figure.update_layout(xaxis_title="percentile", yaxis_title="latency, ms")
    return figure


def batch_shares(batches: Mapping[int, float]) -> go.Figure:
    """Shares of executions by batch size."""
    sizes = sorted(batches)
    bars = go.Bar(x=sizes, y=[batches[size] for size in sizes], marker_color=style.WINNER)
    figure = go.Figure(bars)
    figure.update_layout(
        xaxis_title="batch size", yaxis_title="share of executions", yaxis_tickformat=".0%"
    )
    return figure
