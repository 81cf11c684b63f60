"""The stalls of the machine, over the time in which was measured."""

from collections.abc import Sequence

import plotly.graph_objects as go

from tuner.analysis.stalls import stalls_of
from tuner.goals.sla import Sla
from tuner.records.results import Evaluation, ProbeRecord
from tuner.report import style
from tuner.report.wording import undisturbed_words
from tuner.stats.stalls import Stall, merged
from tuner.units import format_duration, format_rate

_COLOURS = {"machine stalled": style.BASELINE, "core used by others": style.OTHERS}
_DECIDED = "verdict decided by stalls"


def stalls_over_time(evaluations: Sequence[Evaluation], sla: Sla | None) -> go.Figure | None:
    """The length of each stall against seconds of probing, one probe after another; where stalls
    decided, a band. None where no stall was seen.
    """
    probes = [p for e in evaluations for p in e.probes if p.seconds > 0]
    if not any(p.stalls for p in probes):
        return None
    figure = go.Figure()
    lengths, begin = [], 0.0
    rows: dict[str, list[tuple[float, float, str]]] = {name: [] for name in _COLOURS}
    for probe in probes:
        for name, stall in _drawn(probe):
            at = min(max(stall.start, 0.0), probe.seconds)
            rows[name].append((begin + at, stall.seconds * style.MS, _hover(probe, stall)))
            lengths.append(stall.seconds * style.MS)
        if probe.undisturbed is not None and probe.undisturbed.decides:
            band = {"fillcolor": style.SLA, "opacity": 0.12, "line_width": 0}
            figure.add_vrect(x0=begin, x1=begin + probe.seconds, **band)
        begin += probe.seconds
    for name, marks in rows.items():
        if marks:
            figure.add_trace(_marks(name, marks))
    if any(p.undisturbed is not None and p.undisturbed.decides for p in probes):
        square = {"symbol": "square", "size": 12, "color": style.SLA, "opacity": 0.3}
        figure.add_trace(
            go.Scatter(x=[None], y=[None], mode="markers", name=_DECIDED, marker=square)
        )
    if sla is not None:
        limit = sla.primary.limit * style.MS
        lengths.append(limit)
        figure.add_hline(y=limit, line={"color": style.SLA, "width": 2, "dash": "dash"})
    style.layout(figure, height=380)
    figure.update_xaxes(title_text="seconds of probing", range=[0, begin])
    figure.update_yaxes(
        title_text="length of stall (ms)", **style.log_axis(min(lengths), max(lengths))
    )
    return figure


def _drawn(probe: ProbeRecord) -> list[tuple[str, Stall]]:
    """One mark for all cores that stalled together."""
    stalls, found = stalls_of(probe), []
    for name, foreign in zip(_COLOURS, (False, True), strict=True):
        some = [s for s in stalls if (s.core is None) is foreign]
        stretches = merged(some, longest=None)
        found += [(name, Stall(start, end - start)) for start, end in stretches if end > start]
    return found


def _hover(probe: ProbeRecord, stall: Stall) -> str:
    at = f" at {format_rate(probe.rate)}" if probe.rate is not None else ""
    lines = [
        f"{format_duration(stall.seconds)}, {format_duration(max(stall.start, 0.0))} into a "
        f"probe{at}",
        f"{probe.outcome} with all requests",
    ]
    return "<br>".join(filter(None, (*lines, undisturbed_words(probe))))


def _marks(name: str, marks: list[tuple[float, float, str]]) -> go.Scatter:
    return go.Scatter(
        x=[x for x, *_ in marks],
        y=[y for _, y, _ in marks],
        mode="markers",
        name=name,
        marker={"color": _COLOURS[name], "size": 7},
        customdata=[text for *_, text in marks],
        hovertemplate="%{customdata}<extra></extra>",
    )
