"""The kit for GPU machines, and a dry run of the stages from it: no network, no GPU, nothing else.

The environment has what such a machine has (PyTorch, numpy, pandas, grpcio, typer) and no more.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from benchmarks.kit import PRESENT
from tests.conftest import ROOT, need

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
DRY_RUN_SECONDS = 280
pytestmark = [pytest.mark.triton, pytest.mark.usefixtures("embedded_triton")]


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kit for this Python, hardly compressed."""
    file = tmp_path_factory.mktemp("kit") / "gpu-kit.tar.xz"
    command = [sys.executable, "benchmarks/kit.py", "--python", PYTHON, "--out", str(file)]
    done = subprocess.run([*command, "--level", "0"], cwd=ROOT, capture_output=True, text=True)
    # Hardly compressed, it may be larger than what may be carried: that is said, and no more.
    assert file.is_file(), done.stderr
    assert done.returncode == 0 or "more than 60 MB" in done.stderr, done.stderr
    return file


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the packages that a GPU machine has, linked from this one."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False)
    site = folder / "lib" / f"python{PYTHON}" / "site-packages"
    here = Path(sysconfig.get_paths()["purelib"])
    for name in _with_needs(PRESENT):
        for top in {Path(str(file)).parts[0] for file in metadata.files(name) or []} - {".."}:
            if top != "__pycache__" and not (site / top).exists():
                (site / top).symlink_to(here / top)
    return folder / "bin" / "python"


def _with_needs(names: tuple[str, ...]) -> Iterator[str]:
    seen: set[str] = set()
    waiting = list(names)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in seen:
            continue
        seen.add(name)
        yield name
        for line in metadata.requires(name) or []:
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)


def run_stages(
    python: Path, kit: Path | None, out: Path, *words: str
) -> "subprocess.CompletedProcess[str]":
    """benchmarks/gpu.sh in a network namespace of its own, where there is loopback alone."""
    need(shutil.which("unshare") is not None and shutil.which("ip") is not None, "no unshare or ip")
    inside = 'ip link set lo up && exec "$@"'
    return subprocess.run(
        ["unshare", "--map-root-user", "--net", "sh", "-c", inside, "sh",
         "benchmarks/gpu.sh", "--out", str(out), *words],
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/"),
            "PYTHON": str(python),
            "KIT": "" if kit is None else str(kit),
        },
        capture_output=True,
        text=True,
        timeout=DRY_RUN_SECONDS,
    )  # fmt: skip


def stage(out: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / f"{name}.json").read_text())
    return content


def test_the_kit_holds_what_the_machine_lacks(kit):
    with tarfile.open(kit) as archive:
        names = set(archive.getnames())
        choices = archive.extractfile("choices.txt").read().decode().split()
    packages = {line.partition("==")[0] for line in choices}
    assert {"nvidia-pytriton", "optuna", "plotly", "protobuf", "scipy", "pydantic"} <= packages
    assert not packages & set(PRESENT)
    assert all(version for _, _, version in (line.partition("==") for line in choices))
    stubs = {name.split("/")[3] for name in names if "python_backend_stubs/" in name}
    assert stubs == {PYTHON}
    assert "pytriton/tritonserver/bin/tritonserver" in names


@pytest.mark.timeout(DRY_RUN_SECONDS + 20)
def test_a_dry_run_goes_through_without_a_network(kit, bare_python, tmp_path):
    done = run_stages(bare_python, kit, tmp_path, "--dry-run", "bare", "search")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    for name in ("bare", "search"):
        result = stage(tmp_path, name)
        assert result["state"] == "complete"
        assert result["dry_run"] is True
        assert {row["state"] for row in result["rows"].values()} == {"measured"}
    assert stage(tmp_path, "bare")["rows"]["bert_base, eager"]["items_per_second"] > 0
    tuned = stage(tmp_path, "search")["rows"]["20 ms, tuned"]
    assert tuned["launches"] >= 2
    if tuned["capacity"] is not None:  # a bad minute of the machine may leave none
        assert tuned["server_ms"]["compute_infer"] > 0
        assert tuned["mean_batch"] >= 1
    assert "Plotly.newPlot" in (tmp_path / "search-report.html").read_text()
    assert stage(tmp_path, "search")["machine"]["nvidia-pytriton"] == metadata.version(
        "nvidia-pytriton"
    )


def test_without_a_gpu_every_row_says_that_it_awaits_one(tmp_path):
    done = run_stages(Path(sys.executable), None, tmp_path, "backend")
    assert done.returncode == 0, done.stderr
    result = stage(tmp_path, "backend")
    assert result["state"] == "awaits a GPU"
    assert "gpu" not in result["machine"]
    assert len(result["rows"]) == 6
    assert {row["state"] for row in result["rows"].values()} == {"awaits a GPU"}


def test_without_the_kit_it_says_how_to_get_it(tmp_path):
    done = run_stages(Path(sys.executable), tmp_path / "missing.tar.xz", tmp_path)
    assert done.returncode == 3
    assert "make gpu-kit" in done.stderr


def test_a_stage_that_there_is_not(tmp_path):
    done = run_stages(Path(sys.executable), None, tmp_path, "speed")
    assert done.returncode == 2
    assert "no stage is named speed" in done.stderr
