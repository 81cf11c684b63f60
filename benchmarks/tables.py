"""Writes the tables of docs/benchmarks.md out of the result files: ``python -m benchmarks.tables``.

A table stands between ``<!-- gpu:STAGE -->``, ``<!-- load:NAME -->``, ``<!-- simulator -->``,
``<!-- gateway -->``, ``<!-- faults -->``, ``<!-- fuzz -->``, ``<!-- search -->``,
``<!-- search_default -->``, ``<!-- peers -->``, ``<!-- together -->``, ``<!-- peers_together -->``
or ``<!-- tracing -->`` and ``<!-- end -->``; all else in the page is left.
"""

import math
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.faults.table import render as render_faults
from benchmarks.gpu.result import CUT_SHORT, MEASURED, read
from benchmarks.load.table import render as render_load
from benchmarks.together_table import render_peers_together, render_together, render_tracing

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
RESULTS = ROOT / "benchmarks" / "results" / "gpu"
LOAD_RESULTS = ROOT / "benchmarks" / "results" / "load"
GATEWAY = ROOT / "benchmarks" / "results" / "gateway.json"
FAULTS = ROOT / "benchmarks" / "results" / "faults.json"
FUZZ = ROOT / "benchmarks" / "results" / "fuzz.json"
SIMULATOR = ROOT / "benchmarks" / "results" / "simulator.json"
_LOAD_PLACE = re.compile(r"(<!-- load:(\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_PLACE = re.compile(r"(<!-- gpu:([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_SEED = re.compile(r"(.*), seed \d+(.*)")
DEFAULTS = ROOT / "benchmarks" / "results" / "search_default.json"
SEARCHES = ROOT / "benchmarks" / "results" / "search.json"
PEERS = ROOT / "benchmarks" / "results" / "peers.json"
TOGETHER = {
    "together": render_together,
    "peers_together": render_peers_together,
    "tracing": render_tracing,
}
Row = dict[str, Any]
Cell = Callable[[Row], str]


def main() -> None:
    text = PAGE.read_text(encoding="utf-8")
    written = fill_load(fill(text, RESULTS), LOAD_RESULTS)
    written = fill_one(written, "simulator", SIMULATOR, render_simulator)
    written = fill_one(written, "gateway", GATEWAY, render_gateway)
    written = fill_one(written, "faults", FAULTS, render_faults)
    written = fill_one(written, "fuzz", FUZZ, render_fuzz)
    written = fill_one(written, "search", SEARCHES, render_search)
    written = fill_one(written, "search_default", DEFAULTS, render_default)
    written = fill_one(written, "peers", PEERS, render_peers)
    for name, render_one in TOGETHER.items():
        file = ROOT / "benchmarks" / "results" / f"{name}.json"
        written = fill_one(written, name, file, partial(_with_about, render_one))
    PAGE.write_text(written, encoding="utf-8")
    print(f"{PAGE}: {'new tables' if written != text else 'nothing new'}", file=sys.stderr)


def fill(text: str, results: Path) -> str:
    """The page with every table as the result files have it."""

    def table(place: re.Match[str]) -> str:
        found = read(results / f"{place[2]}.json")
        body = "Not measured yet.\n" if found is None else render(found)
        return place[1] + body + place[3]

    return _PLACE.sub(table, text)


def fill_load(text: str, results: Path) -> str:
    """The page with every table of the load generator's benchmarks."""

    def table(place: re.Match[str]) -> str:
        found = read(results / f"{place[2]}.json")
        return (
            place[1] + ("Not measured yet.\n" if found is None else render_load(found)) + place[3]
        )

    return _LOAD_PLACE.sub(table, text)


def fill_one(text: str, name: str, file: Path, render: Callable[[dict[str, Any]], str]) -> str:
    """The page with the table that a whole result file is."""
    found = read(file)
    body = "Not measured yet.\n" if found is None else render(found)
    place = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    return place.sub(lambda match: match[1] + body + match[2], text)


def _about(result: dict[str, Any]) -> str:
    about = result["machine"]
    return (
        f"{about['processor']} with {about['cores']} cores, {result['date']}; "
        f"`{result['command']}`."
    )


def _with_about(render_one: Callable[[dict[str, Any]], str], result: dict[str, Any]) -> str:
    notes = "".join(f"\n- {note[:1].upper()}{note[1:]}." for note in result["notes"])
    return f"{_about(result)}\n\n{render_one(result)}" + (f"{notes}\n" if notes else "")


def render_search(result: dict[str, Any]) -> str:
    """A row for each workload and method; how many searches came to a good one."""
    heads = (
        "",
        "found, % of the best",
        "worst",
        "candidates measured",
        "launches",
        "s (of them the proof)",
        "stolen",
        "requests",
    )
    heads += ("until within 2 %",)
    lines = [_about(result), "", _line(list(heads)), _line(["---", *["---:"] * (len(heads) - 1)])]
    for name, row in result["rows"].items():
        until = row["requests_to_good"]
        cells = [
            name,
            f"{100 * row['quality']:.1f}",
            f"{100 * row['worst']:.1f}",
            f"{row['measured']:g} of {row['trials']:g}",
            f"{row['launches']:g}" if "launches" in row else "",
            f"{row['seconds']:.0f} ({row['proof']:.0f})" if "seconds" in row else "",
            f"{100 * row['stolen']:.2f} %" if "stolen" in row else "",
            f"{row['requests']:,.0f}",
            f"{until:,} ({row['good']} of {row['seeds']})"
            if until
            else f"never ({row['good']} of {row['seeds']})",
        ]
        lines.append(_line(cells))
    lines += ["", *(f"- {note[:1].upper()}{note[1:]}." for note in result["notes"])]
    return "\n".join(lines) + "\n"


def render_default(result: dict[str, Any]) -> str:
    """A row for each workload, of its searches, and one for all emulated ones."""
    heads = (
        *("", "searches", "s", "candidates measured", "found, % of the best", "worst"),
        *("stated / measured again", "recommended rate kept", "requests until within 2 %"),
        "TPE takes",
    )
    lines = [_about(result), "", _line(list(heads)), _line(["---", *["---:"] * (len(heads) - 1)])]
    groups: dict[str, list[Row]] = {}
    peers: dict[str, float | None] = {}
    for name, row in result["rows"].items():
        if row.get("searches"):
            lines.append(_line(_of_all(name, row)))
        elif name.endswith(", TPE"):
            peers[name.removesuffix(", TPE")] = row["requests_to_good"]
        elif (match := _SEED.fullmatch(name)) is not None:
            groups.setdefault(match[1] + match[2], []).append(row)
    lines += [
        _line(_of_workload(name, rows, peers.get(name.partition(",")[0])))
        for name, rows in groups.items()
    ]
    lines += ["", *(f"- {note[:1].upper()}{note[1:]}." for note in result["notes"])]
    return "\n".join(lines) + "\n"


def _of_all(name: str, row: Row) -> list[str]:
    error = "" if row["error"] is None else f"off by {100 * row['error']:.1f} % in the median"
    return [
        name,
        f"{row['searches']}",
        f"{row['seconds']:.0f} (worst workload {row['seconds_of_worst_workload']:.0f})",
        f"{row['trials']:g}",
        "" if row["quality"] is None else f"{100 * row['quality']:.1f}",
        "" if row["quality_at_least"] is None else f"{100 * row['quality_at_least']:.1f}",
        error,
        "" if row["kept"].endswith("of 0") else row["kept"],
        "",
        "",
    ]


def _of_workload(name: str, rows: list[Row], peer: float | None) -> list[str]:
    seconds = sorted(row["seconds"] for row in rows)
    qualities = [row["quality"] for row in rows if row["quality"] is not None]
    ratios = [row["ratio"] for row in rows if row.get("ratio")]
    tests = [row["test"] for row in rows if row.get("test")]
    until = median(row["requests_to_good"] or math.inf for row in rows)
    return [
        name,
        f"{len(rows)}",
        f"{median(seconds):.0f} ({seconds[0]:.0f} to {seconds[-1]:.0f})",
        f"{median(row['trials'] for row in rows):g}",
        f"{100 * median(qualities):.1f}" if qualities else "",
        f"{100 * min(qualities):.1f}" if qualities else "",
        ", ".join(f"{ratio:.2f}" for ratio in ratios),
        f"{tests.count('met')} of {len(tests)}" if tests else "",
        "never" if math.isinf(until) else f"{until:,.0f}",
        f"{peer / until:.1f} times" if peer and math.isfinite(until) else "",
    ]


def render_peers(result: dict[str, Any]) -> str:
    """A row for each tool."""
    heads = ("", "winner", "re-measured, /s", "rounds, /s", "measurements", "s")
    lines = [_about(result), "", _line(list(heads)), _line(["---", "---", *["---:"] * 4])]
    for name, row in result["rows"].items():
        rounds = ", ".join(f"{rate:,.0f}" for rate in row["rounds"])
        rate = "" if row["capacity"] is None else f"{row['capacity']:,.0f}"
        cells = [name, row["winner"], rate, rounds]
        lines.append(_line([*cells, str(row["measured"]), f"{row['seconds']:.0f}"]))
    lines += ["", *(f"- {note[:1].upper()}{note[1:]}." for note in result["notes"])]
    return "\n".join(lines) + "\n"


def render_fuzz(result: dict[str, Any]) -> str:
    """A row for each reader; what failed in it below."""
    heads = ("", "inputs", "refused, %", "seconds", "slowest, ms of CPU", "memory, MiB", "foreign")
    lines = [_about(result), "", _line(list(heads)), _line(["---", *["---:"] * (len(heads) - 1)])]
    for name, row in result["rows"].items():
        cells = [name, f"{row['inputs']:,}", f"{100 * row['refused'] / row['inputs']:.0f}"]
        cells += [f"{row['seconds']:,.0f}", f"{row['slowest_ms']:,.0f}"]
        cells += [f"{row['peak_mib']:,} (+{row['more_mib']:,})", f"{row['foreign']:,}"]
        lines.append(_line(cells))
    lines.append("")
    for name, row in result["rows"].items():
        lines += [
            f"- {name}, input {each['number']:,}: {each['kind']} at {each['place']}."
            for each in row["failures"]
        ]
    lines += [f"- {note[:1].upper()}{note[1:]}." for note in result["notes"]]
    return "\n".join(lines) + "\n"


def render_gateway(result: dict[str, Any]) -> str:
    """A row for each model: capacities, and p50 of both."""
    heads = ("", "Triton, gRPC, /s", "gateway, /s", "share", "one at a time", "added")
    heads += ("at half", "added", "gateway's CPU")
    lines = [_about(result), "", _line(list(heads)), _line(["---", *["---:"] * (len(heads) - 1)])]
    for name, row in result["rows"].items():
        cells = [name, f"{row['direct_capacity']:,}", f"{row['hybrid_capacity']:,}"]
        cells.append(f"{100 * row['share']:.0f} %")
        for when in ("alone", "at_half"):
            direct, hybrid = row[f"direct_{when}_ms"], row[f"hybrid_{when}_ms"]
            cells += [f"{direct:.2f} to {hybrid:.2f} ms", f"{row[f'overhead_{when}_ms']:.2f} ms"]
        lines.append(_line([*cells, f"{row['gateway_cpu_us']} µs"]))
    lines += ["", *(f"- {note[:1].upper()}{note[1:]}." for note in result["notes"])]
    return "\n".join(lines) + "\n"


def render_simulator(result: dict[str, Any]) -> str:
    """Speed and errors in words, and a row for each configuration."""
    rows = dict(result["rows"])
    speed, whole = rows.pop("speed")["requests_per_second"], rows.pop("all")
    heads = ("", "simulated, /s", "measured, /s", "rounds, /s", "ratio", "batch", "p50", "p99")
    lines = [
        _about(result),
        "",
        "- Speed of one core, requests/s: "
        + "; ".join(f"{rate / 1e6:.1f} million ({name})" for name, rate in speed.items())
        + ".",
        f"- Capacity: median error {whole['median_error']} %, rank correlation "
        f"{whole['rank_correlation']}. At the lowest rate probed, median errors are "
        f"{whole['median_error_mean_batch']} % of the mean batch, {whole['median_error_p50']} % of "
        f"p50 and {whole['median_error_p99']} % of p99.",
        "",
        _line(list(heads)),
        _line(["---", *["---:"] * (len(heads) - 1)]),
    ]
    for name, row in rows.items():
        rounds = ", ".join(f"{rate:,}" for rate in row["rounds"])
        ratios = [f"{row[key]:.2f}" if key in row else "" for key in ("mean_batch", "p50", "p99")]
        cells = [name, f"{row['simulated']:,}", f"{row['measured']:,}", rounds]
        lines.append(_line([*cells, f"{row['ratio']:.2f}", *ratios]))
    lines += ["", *(f"- {note}." for note in result["notes"])]
    return "\n".join(lines) + "\n"


def render(result: dict[str, Any]) -> str:
    """One stage as a Markdown table, with the machine above it and what is missing named."""
    columns = _COLUMNS.get(result["stage"], _SERVED)
    lines = [_machine(result), "", _line(["", *columns]), _line(["---", *["---:"] * len(columns)])]
    for name, row in result["rows"].items():
        if row["state"] == MEASURED:
            cells = [cell(row) for cell in columns.values()]
        elif row["state"] == CUT_SHORT and "capacity" in row:
            name = f"{name} (cut short)"
            cells = [cell(row) for cell in columns.values()]
        else:
            cells = [row["state"].splitlines()[0], *[""] * (len(columns) - 1)]
        lines.append(_line([name, *cells]))
    return "\n".join(lines) + "\n"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _machine(result: dict[str, Any]) -> str:
    about = result["machine"]
    where = about.get("gpu", "no GPU")
    dry = " **A dry run: these figures mean nothing.**" if result["dry_run"] else ""
    notes = "".join(f" {note}." for note in about.get("notes", []))
    return (
        f"{where}, {about['processor']} with {about['cores']} cores, {result['started'][:10]}; "
        f"{result['state']}.{notes}{dry}"
    )


def _number(*path: str, factor: float = 1.0, digits: int = 0, unit: str = "") -> Cell:
    def cell(row: Row) -> str:
        value: Any = row
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        return "" if value is None else f"{value * factor:,.{digits}f}{unit}"

    return cell


def _capacity(row: Row) -> str:
    if row.get("capacity") is None:
        failed = row.get("outcome") == "failed" and f"failed: {row.get('failure', '')}"
        return str(row.get("cause") or failed or "not at any rate").splitlines()[0]
    limited = " (client-limited)" if row.get("client_limited") else ""
    return f"{row['capacity']:,.0f}/s{limited}"


def _throttled(row: Row) -> str:
    return ", ".join((row.get("gpu") or {}).get("throttled", ()))


_GPU: dict[str, Cell] = {
    "GPU": _number("gpu", "utilisation", factor=100, unit=" %"),
    "memory": _number("gpu", "memory", factor=2**-30, digits=1, unit=" GiB"),
    "power": _number("gpu", "power", unit=" W"),
    "throttled": _throttled,
}
_BARE: dict[str, Cell] = {
    "items/s": _number("items_per_second"),
    "batch": _number("batch"),
    "TFLOP/s": _number("tflops", digits=1),
    "ready in": _number("seconds_to_prepare", digits=1, unit=" s"),
    **_GPU,
}
_SERVED: dict[str, Cell] = {
    "capacity": _capacity,
    "p50": _number("p50_ms", digits=2, unit=" ms"),
    "p99": _number("p99_ms", digits=2, unit=" ms"),
    "mean batch": _number("mean_batch", digits=1),
    "queue": _number("server_ms", "queue", digits=2, unit=" ms"),
    "infer": _number("server_ms", "compute_infer", digits=2, unit=" ms"),
    "of bare": _number("of_bare", factor=100, unit=" %"),
    "search / this": _number("search_against_this", digits=2),
    **_GPU,
    "configuration": lambda row: str(row.get("configuration", "")),
}


def _told(row: Row) -> str:
    """A check's figures in a line."""
    figures = {key: value for key, value in row.items() if key not in ("state", "gpu")}
    return ", ".join(f"{key} {value}" for key, value in figures.items() if value is not None)


_COLUMNS = {"first": {"found": _told}, "bare": _BARE}


if __name__ == "__main__":
    main()
