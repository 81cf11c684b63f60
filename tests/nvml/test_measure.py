"""Whole measurements on a machine with a GPU in NVML's words, and without one."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.nvml.conftest import FakeNvml, gpu, machine
from tuner.records.results import Evaluation
from tuner.records.run import Run

pytestmark = [pytest.mark.triton, pytest.mark.usefixtures("embedded_triton")]
Measured = tuple[Run, Evaluation, str]


@pytest.fixture
def measure(repository: Path, tmp_path: Path) -> Callable[..., Measured]:
    """Measures the emulated model at a low rate, with this environment."""

    def run(environment: dict[str, str]) -> Measured:
        model = shutil.copytree(repository / "emulated_gpu", tmp_path / "models/emulated_gpu")
        words = (str(model), "--sla-p99", "2s", "--rate", "150", "--launcher", "local")
        done = subprocess.run(
            [sys.executable, "-m", "tuner", "measure", *words],
            cwd=tmp_path,
            env={**environment, "COLUMNS": "200"},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        (folder,) = (tmp_path / "reports").iterdir()
        found = Run.open(folder)
        (evaluation,) = found.evaluations()
        return found, evaluation, done.stderr

    return run


def text_of(run: Run) -> str:
    page = run.report.read_text(encoding="utf-8")
    body = page[page.index("<body") : page.index("<script", page.index("<body"))]
    return re.sub(r"<[^>]+>", " ", body).replace("\N{NO-BREAK SPACE}", " ")


def test_a_gpu_that_throttles_and_is_shared_is_told_everywhere(
    measure: Callable[..., Measured], nvml: FakeNvml
) -> None:
    nvml.says(machine(gpu(reasons=0x24, processes=os.getpid()), gpu("1")))
    run, evaluation, lines = measure({**nvml.environment, "CUDA_VISIBLE_DEVICES": "0"})
    probe = evaluation.at_capacity()
    assert probe is not None
    assert probe.gpu is not None
    assert (probe.gpu.devices, probe.gpu.memory, probe.gpu.temperature) == (1, 2**29, 71.0)
    means = (probe.gpu.utilisation, probe.gpu.power, probe.gpu.clock)
    assert means == pytest.approx((0.8, 61.0, 1740.0))
    assert probe.gpu.throttled == ("power cap", "thermal")
    (other,) = probe.gpu.others
    assert other.endswith(f"(pid {os.getpid()})")

    environment = run.manifest().environment
    assert environment.gpu == "NVIDIA L4"
    assert environment.gpu_count == 1
    assert environment.gpu_memory == "24 GiB"
    assert environment.gpu_driver == "550.54.15"
    assert f"GPU 0 is in use by {other}" in environment.notes[0]

    assert f"note: GPU 0 is in use by {other}" in lines
    assert "met (0 of " in lines
    assert ", GPU throttled (power cap, thermal)" in lines

    report = text_of(run)
    assert "the GPU lowered its clock (power cap, thermal)" in report
    assert f"shared its GPU with {other}" in report
    for words in ("80 %", "512 MiB", "61 W", "1,740 MHz", "71 °C"):
        assert words in report


def test_without_a_gpu_nothing_is_said_of_one(
    measure: Callable[..., Measured], nvml: FakeNvml
) -> None:
    nvml.says(machine(gpu(reasons=0x24)))
    run, evaluation, lines = measure({**nvml.environment, "CUDA_VISIBLE_DEVICES": ""})
    assert all(probe.gpu is None for probe in evaluation.probes)
    environment = run.manifest().environment.model_dump(exclude_none=True)
    assert not any(name.startswith("gpu") for name in environment)
    assert "throttled" not in lines
    assert "GPU" not in text_of(run).replace("--gpus", "")
