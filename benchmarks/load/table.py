"""A result of the load generator's benchmarks as a Markdown table."""

from typing import Any

_COLUMNS = {
    "cpu_us": "CPU per request, µs",
    "per_core": "requests/s per core",
    "against": "against perf_analyzer",
    "against_own": "against tuner's own",
    "throughput": "requests/s",
    "p50_ms": "p50, ms",
    "p99_ms": "p99, ms",
    "batch": "mean batch",
    "limit": "limit, /s",
    "rate": "sent, /s",
    "steal": "stolen, %",
    "late_p50_us": "late p50, µs",
    "late_p99_us": "late p99, µs",
    "ks_p": "KS p-value",
    "ks_d": "KS distance D",
    "late": "late, %",
    "late_rest": "late of the rest, %",
    "honest_met": "as it happened: met, %",
    "honest_violated": "as it happened: violated, %",
    "met": "met, %",
    "violated": "violated, %",
    "open": "open, %",
    "undecidable": "undecidable, %",
    "left_out": "left out, %",
    "excused": "met only without, %",
    "repeat": "to be repeated, %",
    "naive_met": "LoadGen's rule: met, %",
    "requests": "requests",
    "of_fixed": "of a fixed-size test's",
    "wrong": "wrong one ahead, %",
    "held": "interval holds the ratio, %",
    "winner_held": "and the capacity, %",
    "error": "stated capacity off by, %",
    "recommended": "recommended, % of capacity",
    "kept": "recommended kept, %",
    "settled": "settled, %",
    "pass": "pass, %",
    "fail": "fail, %",
    "inconclusive": "inconclusive, %",
    "played": "rounds",
    "capacity": "capacity, /s",
    "cv": "coefficient of variation, %",
    "interval": "stated interval, %",
    "seconds": "seconds",
    "alone_ms": "p50 of one at a time, ms",
    "sent": "requests sent",
    "at_once": "at a time, most",
    "goodput": "goodput, % of capacity",
    "recovery": "recovery, s",
    "memory_before": "memory at first, MiB",
    "memory_after": "memory at last, MiB",
    "per_trial": "per trial, KiB",
    "peak": "peak memory, MiB",
}


def render(result: dict[str, Any]) -> str:
    """Medians, with the smallest and largest round in brackets; the machine above, notes below."""
    rows = result["rows"]
    columns = [key for key in _COLUMNS if any(key in row for row in rows.values())]
    about = result["machine"]
    lines = [
        f"{about['processor']} with {about['cores']} cores, {result['date']}; "
        f"`{result['command']}`.",
        "",
        _line(["", *(_COLUMNS[key] for key in columns)]),
        _line(["---", *["---:"] * len(columns)]),
        *(_line([name, *(_cell(row.get(key)) for key in columns)]) for name, row in rows.items()),
        "",
        *(f"- {note}." for note in result["notes"]),
    ]
    return "\n".join(lines) + "\n"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, dict):
        return f"{value:,}"
    spread = f" ({value['least']:,} to {value['most']:,})" if "least" in value else ""
    return f"{value['median']:,}{spread}"
