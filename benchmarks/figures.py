"""The figures of the documentation, out of result files: ``python -m benchmarks.figures``.

It takes a Chromium to turn them into pictures.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go

from benchmarks.load.bench import ROOT
from tuner.report import style

IMAGES = ROOT / "docs" / "images"
_WIDTH, _HEIGHT = 900, 420
_METHODS = {
    "simulation": ("tuner", style.WINNER),
    "tpe, replayed": ("TPE", style.BASELINE),
    "random, replayed": ("random search", style.OTHERS),
}


def simulated_against_measured() -> go.Figure:
    """Each configuration of benchmarks.simulator; a band of 5 % about the diagonal."""
    rows = _rows("simulator.json")
    found = {name: row for name, row in rows.items() if "simulated" in row}
    top = 1.08 * max(max(r["simulated"], r["measured"]) for r in found.values())
    figure = go.Figure(
        go.Scatter(
            x=[0, top, top, 0],
            y=[0, 0.95 * top, 1.05 * top, 0],
            fill="toself",
            mode="none",
            fillcolor="rgba(26, 134, 208, 0.15)",
            name="within 5 %",
        )
    )
    figure.add_trace(
        go.Scatter(
            x=[row["measured"] for row in found.values()],
            y=[row["simulated"] for row in found.values()],
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [max(r["rounds"]) - r["measured"] for r in found.values()],
                "arrayminus": [r["measured"] - min(r["rounds"]) for r in found.values()],
                "thickness": 1,
                "width": 3,
            },
            mode="markers",
            marker={"size": 9, "color": style.WINNER},
            name="a configuration, measured three times",
        )
    )
    style.layout(figure, height=_HEIGHT)
    figure.update_xaxes(title_text="measured capacity (requests/s)", range=[0, top])
    figure.update_yaxes(title_text="simulated capacity (requests/s)", range=[0, top])
    return figure


def what_was_measured() -> go.Figure:
    """Of one search: every candidate by its simulated capacity, the truth, and what it measured."""
    rows = _rows("steps.json")
    ranked = sorted(rows.values(), key=lambda row: -row["simulated"])
    places = list(range(1, len(ranked) + 1))
    figure = go.Figure(
        go.Scatter(
            x=places,
            y=[row["simulated"] for row in ranked],
            mode="lines",
            line={"color": style.OTHERS, "width": 2, "shape": "hvh"},
            name="simulated after the calibration",
        )
    )
    figure.add_trace(
        go.Scatter(
            x=places,
            y=[row["truth"] for row in ranked],
            mode="markers",
            marker={"symbol": "line-ew-open", "size": 12, "color": style.BASELINE},
            name="ground truth",
        )
    )
    pairs = [(place, row["measured"]) for place, row in zip(places, ranked, strict=True)
             if "measured" in row]  # fmt: skip
    at = np.array([each[2] or 0.0 for _, each in pairs])
    figure.add_trace(
        go.Scatter(
            x=[place for place, _ in pairs],
            y=at,
            error_y={
                "type": "data",
                "symmetric": False,
                "array": np.array([each[4] or 0.0 for _, each in pairs]) - at,
                "arrayminus": at - np.array([each[3] or 0.0 for _, each in pairs]),
                "thickness": 1.5,
                "width": 4,
            },
            mode="markers+text",
            text=[str(each[0]) for _, each in pairs],
            textposition="top right",
            marker={"size": 9, "color": style.WINNER},
            name="measured by the search, with the number of the trial",
        )
    )
    style.layout(figure, height=_HEIGHT)
    figure.update_xaxes(title_text="candidates, in the order of the simulation")
    figure.update_yaxes(title_text="capacity (requests/s)", rangemode="tozero")
    return figure


def requests_until_good() -> go.Figure:
    """Of each workload: requests until a search had a candidate within 2 % of the best."""
    rows = _rows("search.json")
    names = list(dict.fromkeys(label.split(", ")[0] for label in rows))
    figure = go.Figure()
    for method, (title, colour) in _METHODS.items():
        found = [rows.get(f"{name}, {method}") for name in names]
        figure.add_trace(
            go.Bar(
                x=names,
                y=[(row or {}).get("requests_to_good") for row in found],
                name=f"{title}",
                marker={"color": colour},
            )
        )
    style.layout(figure, height=_HEIGHT, barmode="group", bargap=0.3)
    figure.update_yaxes(title_text="requests sent", rangemode="tozero")
    return figure


FIGURES: dict[str, Callable[[], go.Figure]] = {
    "simulated": simulated_against_measured,
    "measured": what_was_measured,
    "requests": requests_until_good,
}


def _rows(name: str) -> dict[str, Any]:
    file = ROOT / "benchmarks" / "results" / name
    found = json.loads(file.read_text(encoding="utf-8"))["rows"]
    assert isinstance(found, dict)
    return found


def draw(figure: go.Figure, file: Path) -> None:
    """A picture of it, as a Chromium shows it."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        raise SystemExit("there is no Chromium here to draw with")
    figure.update_layout(paper_bgcolor="white", plot_bgcolor="white", width=_WIDTH)
    with tempfile.TemporaryDirectory() as name:
        page = Path(name) / "page.html"
        html = figure.to_html(include_plotlyjs=True, config={"staticPlot": True})
        page.write_text(html.replace("<body>", '<body style="margin:0">'), encoding="utf-8")
        subprocess.run(
            [
                *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
                *("--no-first-run", f"--user-data-dir={name}/profile"),
                *(f"--window-size={_WIDTH},{_HEIGHT}", "--virtual-time-budget=6000"),
                *(f"--screenshot={file}", page.as_uri()),
            ],
            check=True,
            capture_output=True,
        )


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[1:] or FIGURES:
        draw(FIGURES[name](), IMAGES / f"{name}.png")
        print(IMAGES / f"{name}.png", file=sys.stderr)


if __name__ == "__main__":
    main()
