"""Figures of several models: a request's way through a pipeline, and what two models share."""

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from tuner.analysis.steps import Span
from tuner.report import style


def steps_over_time(spans: Sequence[Span]) -> go.Figure | None:
    """A bar for each step, from when a request comes to it until it is done; None of no step."""
    if not spans:
        return None
    figure = go.Figure()
    rows = list(range(len(spans)))
    for part, offsets, widths in (
        ("queue", [span.start for span in spans], [span.queue for span in spans]),
        ("compute", [span.start + span.queue for span in spans], [s.compute for s in spans]),
    ):
        figure.add_bar(
            y=rows,
            x=[style.MS * width for width in widths],
            base=[style.MS * offset for offset in offsets],
            orientation="h",
            name=part,
            marker={"color": style.PARTS["infer" if part == "compute" else part]},
            customdata=[
                [style.label(s.model), style.MS * w] for s, w in zip(spans, widths, strict=True)
            ],
            hovertemplate="%{customdata[0]}: %{customdata[1]:.3g} ms<extra>" + part + "</extra>",
        )
    style.layout(figure, height=150 + 44 * len(spans), barmode="overlay", bargap=0.4)
    style.name_rows(figure, [style.label(span.model) for span in spans])
    figure.update_xaxes(title_text="mean time since the request came in (ms)", rangemode="tozero")
    figure.update_layout(margin={"b": 96})
    return figure


def shared_rates(
    frontier: Sequence[Mapping[str, float]], served: Mapping[str, float]
) -> go.Figure | None:
    """The rates of two models that are served together; ``served`` are those of the mix. None of
    other numbers of models.
    """
    if len(served) != 2 or not frontier:
        return None
    one, other = served
    figure = go.Figure()
    figure.add_scatter(
        x=[point[one] for point in frontier],
        y=[point[other] for point in frontier],
        mode="lines+markers",
        name="simulated limit",
        line={"color": style.OTHERS},
        hovertemplate=f"{style.label(one)} %{{x:,.0f}}/s<br>{style.label(other)} %{{y:,.0f}}/s"
        "<extra></extra>",
    )
    figure.add_scatter(
        x=[served[one]],
        y=[served[other]],
        mode="markers",
        name="the mix, measured",
        marker={"color": style.WINNER, "size": 13},
        hovertemplate=f"{style.label(one)} %{{x:,.0f}}/s<br>{style.label(other)} %{{y:,.0f}}/s"
        "<extra></extra>",
    )
    style.layout(figure)
    figure.update_xaxes(title_text=f"{style.label(one)} (requests/s)", rangemode="tozero")
    figure.update_yaxes(title_text=f"{style.label(other)} (requests/s)", rangemode="tozero")
    figure.update_layout(margin={"b": 96})
    return figure
