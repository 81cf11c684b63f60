"""A Grafana dashboard of the deployed model, with capacity and SLA of the run drawn in."""

import json
from typing import Any

from tuner.monitoring.metrics import found
from tuner.records.run import Run

_SOURCE = {"type": "prometheus", "uid": "${source}"}
_GREEN, _ORANGE, _RED = "green", "orange", "red"
_WIDTH, _HEIGHT = 12, 8
_WINDOW = "$__rate_interval"
Panel = dict[str, Any]


def dashboard(run: Run) -> str:
    """As JSON, to import; its variables choose the data source, and the pods' label ``instance``.

    Triton counts requests and sums their durations: what it shows is a mean, which lies below any
    percentile of the SLA.
    """
    manifest, winner = run.manifest(), found(run)
    experiment = manifest.experiment
    models = experiment.mix.models if experiment.mix else (manifest.model_name,)
    chosen = f'model=~"{"|".join(models)}"'
    each = winner.recommended or winner.capacity or 0.0
    bounds = [bound.limit for bound in experiment.sla.bounds if not bound.on_errors]
    count = f"rate(nv_inference_request_success{{{chosen}}}[{_WINDOW}])"
    panels = [
        _panel(
            "Requests/s of each server",
            [(f"sum by (instance) ({count})", "{{instance}}")],
            "reqps",
            [(each, _ORANGE), (winner.capacity or each, _RED)],
            "Orange: the rate that tuner recommends for one server. Red: its capacity.",
        ),
        _panel(
            "Mean latency in the server",
            [(_mean("nv_inference_request_duration_us", chosen), "{{model}}")],
            "s",
            [(min(bounds), _RED)] if bounds else [],
            "Red: the SLA's lowest bound. A mean lies below any percentile.",
        ),
        _panel(
            "Mean time in the queue",
            [(_mean("nv_inference_queue_duration_us", chosen), "{{model}}")],
            "s",
            [],
            "It rises first where the rate comes near the capacity.",
        ),
        _panel(
            "Mean batch",
            [
                (
                    f"sum by (model) (rate(nv_inference_count{{{chosen}}}[{_WINDOW}])) / sum by "
                    f"(model) (rate(nv_inference_exec_count{{{chosen}}}[{_WINDOW}]))",
                    "{{model}}",
                )
            ],
            "short",
            [],
            "Items per execution.",
        ),
        _panel(
            "Failed requests/s",
            [
                (
                    f"sum by (model) (rate(nv_inference_request_failure{{{chosen}}}[{_WINDOW}]))",
                    "{{model}}",
                )
            ],
            "reqps",
            [],
            "",
        ),
        _panel(
            "GPU utilization",
            [("avg by (gpu_uuid) (nv_gpu_utilization)", "{{gpu_uuid}}")],
            "percentunit",
            [],
            "",
        ),
    ]
    for place, panel in enumerate(panels):
        x, y = _WIDTH * (place % 2), _HEIGHT * (place // 2)
        panel |= {"id": place + 1, "gridPos": {"x": x, "y": y, "w": _WIDTH, "h": _HEIGHT}}
    return json.dumps(
        {
            "title": f"{manifest.model_name}: Triton within {experiment.sla.text}",
            "uid": None,
            "tags": ["triton", "tuner"],
            "schemaVersion": 39,
            "time": {"from": "now-1h", "to": "now"},
            "refresh": "30s",
            "templating": {
                "list": [
                    {
                        "name": "source",
                        "label": "Data source",
                        "type": "datasource",
                        "query": "prometheus",
                    }
                ]
            },
            "panels": panels,
        },
        indent=1,
    )


def _mean(counter: str, chosen: str) -> str:
    """Seconds per request, out of microseconds."""
    total = f"sum by (model) (rate({counter}{{{chosen}}}[{_WINDOW}]))"
    count = f"sum by (model) (rate(nv_inference_request_success{{{chosen}}}[{_WINDOW}]))"
    return f"{total} / {count} / 1e6"


def _panel(
    title: str,
    queries: list[tuple[str, str]],
    unit: str,
    lines: list[tuple[float, str]],
    text: str,
) -> Panel:
    steps = [{"color": _GREEN, "value": None}, *({"color": c, "value": v} for v, c in lines)]
    style = {"mode": "line" if lines else "off"}
    return {
        "type": "timeseries",
        "title": title,
        "description": text,
        "datasource": _SOURCE,
        "targets": [
            {
                "refId": chr(65 + n),
                "expr": expression,
                "legendFormat": legend,
                "datasource": _SOURCE,
            }
            for n, (expression, legend) in enumerate(queries)
        ],
        "fieldConfig": {
            "defaults": {
                "unit": unit,
                "min": 0,
                "thresholds": {"mode": "absolute", "steps": steps},
                "custom": {"thresholdsStyle": style},
            },
            "overrides": [],
        },
    }
