"""A configuration of Model Analyzer, imported and searched with on the embedded Triton."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.e2e.conftest import Outcome, no_server_left
from tuner.model.config import parse_config
from tuner.records.run import Run

pytestmark = [pytest.mark.triton, pytest.mark.usefixtures("embedded_triton")]


def test_an_imported_configuration_is_searched_with(
    tuner: Callable[..., Outcome], repository: Path, tmp_path: Path
) -> None:
    configuration = {
        "model_repository": str(repository),
        "triton_launch_mode": "local",
        "checkpoint_directory": str(tmp_path / "checkpoints"),
        "run_config_search_mode": "brute",
        "override_output_model_repository": True,
        "profile_models": {
            "emulated_gpu": {
                "objectives": ["perf_throughput"],
                "constraints": {"perf_latency_p99": {"max": 400}},
                "model_config_parameters": {
                    "max_batch_size": [4, 16],
                    "instance_group": [{"kind": "KIND_CPU", "count": [1, 2]}],
                    "dynamic_batching": {"max_queue_delay_microseconds": [0]},
                },
            }
        },
    }
    (tmp_path / "analyzer.yaml").write_text(yaml.safe_dump(configuration))
    done = tuner("import", "analyzer.yaml", "--to", "tuning", "--json")
    assert done.code == 0, done.err
    (command,) = done.result["commands"]
    words = command.split()[1:]
    with no_server_left(tmp_path):
        searched = tuner(*words, "--timeout", "90s", "--confirm", "none", "-q", "--json")
    assert searched.code == 0, searched.err
    run = Run.open(tmp_path / searched.result["run"])
    (bound,) = run.manifest().experiment.sla.bounds
    assert (bound.percentile, bound.limit) == (0.99, 0.4)
    sizes = {each.settings["max_batch_size"] for each in run.evaluations() if not each.baseline}
    assert sizes, "no candidate but the baseline"
    assert sizes <= {4, 16}
    winner = parse_config((run.winner / "emulated_gpu/config.pbtxt").read_text(), "winner")
    assert winner.max_batch_size in (4, 8, 16)
