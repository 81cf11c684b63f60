"""The tables of mixes and pipelines, and of the trace of a pipeline, in Markdown."""

from typing import Any

Row = dict[str, Any]


def render_together(result: dict[str, Any]) -> str:
    """A row for each mix and pipeline: medians of its searches."""
    heads = (
        "workload",
        "found, of the best",
        "worst",
        "time",
        "measured",
        "simulated capacity off by",
        "rank correlation",
    )
    rows = [
        [
            name,
            _percent(row["quality"]),
            _percent(row["worst"]),
            f"{row['seconds']:.0f} s",
            f"{row['trials']:g}",
            _percent(row["error"]),
            "-" if row["rank_correlation"] is None else f"{row['rank_correlation']:.2f}",
        ]
        for name, row in result["rows"].items()
    ]
    return _table(heads, rows)


def render_peers_together(result: dict[str, Any]) -> str:
    """A row for each workload: both tools' times and what they found."""
    heads = (
        *("workload", "Model Analyzer", "tuner", "time of the time", "found"),
        *("by perf_analyzer", "as it was"),
    )
    rows = [
        [
            name,
            f"{row['analyzer_seconds']:.0f} s, {_rate(row['analyzer_capacity'])}",
            f"{row['tuner_seconds']:.0f} s, {_rate(row['tuner_capacity'])}",
            _percent(row["tuner_seconds"] / row["analyzer_seconds"]),
            _times(row["tuner_capacity"], row["analyzer_capacity"]),
            _by_perf_analyzer(row.get("by_perf_analyzer", {})),
            _rate(row["baseline_capacity"]),
        ]
        for name, row in result["rows"].items()
    ]
    return _table(heads, rows)


def _by_perf_analyzer(rates: dict[str, float]) -> str:
    return _times(rates.get("tuner"), rates.get("analyzer"))


def render_tracing(result: dict[str, Any]) -> str:
    """A row for each step: the server's statistics and its trace."""
    heads = ("step", "queue", "traced", "compute", "traced", "together, of the trace", "requests")
    rows = [
        [
            name,
            f"{row['queue_ms']:.2f} ms",
            f"{row['queue_traced_ms']:.2f} ms",
            f"{row['compute_ms']:.2f} ms",
            f"{row['compute_traced_ms']:.2f} ms",
            _percent(row["ratio"]),
            f"{row['traced']:,}",
        ]
        for name, row in result["rows"].items()
    ]
    return _table(heads, rows)


def _table(heads: tuple[str, ...], rows: list[list[str]]) -> str:
    lines = [list(heads), ["---", *["--:"] * (len(heads) - 1)], *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _rate(rate: float | None) -> str:
    return "none" if not rate else f"{rate:,.0f}/s"


def _times(one: float | None, other: float | None) -> str:
    return "-" if not one or not other else f"{one / other:.2f} ×"
