"""The kit for GPU machines, and a dry run of the stages from it: no network, no GPU, nothing else.

The environment has what such a machine has, with a newer numpy, and no more. Where the system
has a Python of this version without a shared library, that one is used, as there.
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

from benchmarks.gpu.models import Workbench
from benchmarks.gpu.result import Result
from benchmarks.gpu.stages import STAGES
from benchmarks.kit.machines import MACHINES
from benchmarks.kit.manifest import MANIFEST, Manifest
from tests.conftest import ROOT, need

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
DRY_RUN_SECONDS = 280
MOST_TRAVELLING_BYTES = 60 * 2**20
MOST_TREE_BYTES = 12 * 2**20
NEWER = "numpy"
"""A machine has 2 of it; nvidia-pytriton keeps this environment below. Others fit both."""
pytestmark = [pytest.mark.triton, pytest.mark.usefixtures("embedded_triton")]


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kit for this Python, hardly compressed."""
    file = tmp_path_factory.mktemp("kit") / "gpu-kit.tar.xz"
    command = [sys.executable, "-m", "benchmarks.kit", "--python", PYTHON, "--out", str(file)]
    done = subprocess.run([*command, "--level", "0"], cwd=ROOT, capture_output=True, text=True)
    # Hardly compressed, it may be larger than what may be carried: that is said, and no more.
    assert file.is_file(), done.stderr
    assert done.returncode == 0 or "more than 40 MB" in done.stderr, done.stderr
    return file


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the packages that a GPU machine has."""
    folder = tmp_path_factory.mktemp("machine")
    system = shutil.which(f"python{PYTHON}", path="/usr/bin")
    if system is not None and _holds_its_library(system):
        subprocess.run([system, "-m", "venv", "--without-pip", str(folder)], check=True)
    else:
        venv.create(folder, with_pip=False)
    site = folder / "lib" / f"python{PYTHON}" / "site-packages"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
    (known,) = (
        need for need in map(Requirement, metadata.requires("numba") or ()) if need.name == NEWER
    )
    subprocess.run(
        [*pip, "--only-binary=:all:", "--target", str(site), f"{NEWER}>=2,{known.specifier}"],
        check=True,
        stderr=subprocess.DEVNULL,
    )
    here = Path(sysconfig.get_paths()["purelib"])
    for name in _with_needs(sorted(MACHINES["scientific"].has)):
        for top in {Path(str(file)).parts[0] for file in metadata.files(name) or []} - {".."}:
            if top != "__pycache__" and not (site / top).exists():
                (site / top).symlink_to(here / top)
    return folder / "bin" / "python"


def _holds_its_library(program: str) -> bool:
    """Whether the interpreter is in the program and not in a library: modules are then, too."""
    code = "import sys; sys.exit('math' not in sys.builtin_module_names)"
    return subprocess.run([program, "-c", code]).returncode == 0


def _with_needs(names: list[str]) -> Iterator[str]:
    """Those that are installed here, and what they ask for, but for the newer one."""
    seen: set[str] = set()
    waiting = list(names)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in seen or name == NEWER:
            continue
        seen.add(name)
        try:
            lines = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        yield name
        for line in lines:
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)


def _hidden_libraries(folder: Path) -> str:
    """Commands that hide the system's libpython: a library of another class is passed over."""
    other = folder / "other-class.so"
    other.write_bytes(b"\x7fELF\x01\x01\x01" + bytes(121))
    found = Path("/usr/lib").glob(f"*/libpython{PYTHON}.so*")
    files = {path.resolve() for path in found}
    return "".join(f"mount --bind {other} {file} && " for file in sorted(files))


def run_stages(
    python: Path,
    kit: Path | None,
    out: Path,
    *words: str,
    hide: bool = False,
) -> "subprocess.CompletedProcess[str]":
    """benchmarks/gpu.sh in namespaces of its own, where there is loopback alone and, to ``hide``
    it, no libpython of the system's.
    """
    need(shutil.which("unshare") is not None and shutil.which("ip") is not None, "no unshare or ip")
    out.mkdir(exist_ok=True)
    hidden = _hidden_libraries(out.parent) if hide else ""
    inside = f'ip link set lo up && {hidden}exec "$@"'
    return subprocess.run(
        ["unshare", "--map-root-user", "--net", "--mount", "sh", "-c", inside, "sh",
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
        names = archive.getnames()
        manifest = Manifest.parse(archive.extractfile(MANIFEST).read())
    assert names[0] == MANIFEST
    assert manifest.python == PYTHON
    carried = {package.name for package in manifest.packages if package.version is not None}
    assert {"nvidia-pytriton", "optuna", "plotly", "pydantic", "aiohttp", "packaging"} <= carried
    has = MACHINES["scientific"]
    assert carried & has.has <= has.spares | {"packaging"}
    assert {name.split("/")[1] for name in names if name.startswith("packages/")} == carried
    stubs = {name.split("/")[5] for name in names if "python_backend_stubs/" in name}
    assert stubs == {PYTHON}
    assert "packages/nvidia-pytriton/pytriton/tritonserver/bin/tritonserver" in names
    if manifest.libpython is not None:
        assert f"python/lib/{manifest.libpython}" in names
        assert f"python/lib/python{PYTHON}/os.py" in names


def test_tree_and_kit_can_travel(kit):
    """Also with what this kit has more for being hardly compressed."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True)
    files = [ROOT / name.decode() for name in listed.stdout.split(b"\0") if name]
    tree = sum(file.lstat().st_size for file in files if file.is_symlink() or file.is_file())
    assert tree <= MOST_TREE_BYTES
    assert tree + kit.stat().st_size <= MOST_TRAVELLING_BYTES


@pytest.mark.timeout(DRY_RUN_SECONDS + 20)
def test_a_dry_run_goes_through_without_a_network(kit, machine, tmp_path):
    out = tmp_path / "out"
    done = run_stages(machine, kit, out, "--dry-run", "first", "search", hide=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    if _holds_its_library(str(machine)):
        assert "uses the kit's libpython" in done.stdout
    taken = dict(line.split()[:2] for line in done.stdout.split("Python stub:")[0].splitlines()[1:])
    assert taken["numpy"] == taken["numba"] == taken["torch" if "torch" in taken else "scipy"]
    assert taken["numpy"] == "machine"
    assert taken["optuna"] == taken["nvidia-pytriton"] == taken["packaging"] == "kit"
    for name in ("first", "search"):
        result = stage(out, name)
        assert result["state"] == "complete"
        assert result["dry_run"] is True
        assert {row["state"] for row in result["rows"].values()} == {"measured"}
    assert stage(out, "first")["rows"]["answers"]["error"] < 1e-3
    assert "calibrating" in done.stdout  # the simulation takes part
    tuned = stage(out, "search")["rows"]["20 ms, tuned"]
    assert tuned["launches"] >= 1  # no more where nothing left is worth another launch
    if "requests" in tuned:  # a bad minute of the machine may leave no probe that meets the SLA
        assert tuned["server_ms"]["compute_infer"] > 0
        assert tuned["mean_batch"] >= 1
    assert 'class="plot"' in (out / "search-report.html").read_text()
    about = stage(out, "search")["machine"]
    assert about["nvidia-pytriton"] == metadata.version("nvidia-pytriton")
    assert about["numpy"].startswith("2.")


def test_a_machine_that_lacks_what_is_not_carried_is_told_at_once(kit, tmp_path):
    venv.create(tmp_path / "empty", with_pip=False)
    done = run_stages(tmp_path / "empty" / "bin" / "python", kit, tmp_path / "out", "first")
    assert done.returncode == 3
    listed = done.stderr.split("nor in the kit:")[1]
    for name in ("numpy", "pandas", "scipy", "typer"):
        assert f"  {name} " in listed
    assert "numba                absent" in done.stdout
    assert not list((tmp_path / "out").iterdir())


def test_the_first_stage_tells_all_faults_of_a_machine(tmp_path, monkeypatch):
    """A driver that does not answer, and none that PyTorch could use; the model is a small one."""
    from benchmarks.gpu import first  # PyTorch: seconds
    from benchmarks.gpu import machine as machine_here

    smi = tmp_path / "bin" / "nvidia-smi"
    smi.parent.mkdir()
    smi.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed' >&2; exit 9\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", str(smi.parent), prepend=os.pathsep)
    Workbench(tmp_path, dry=True).prepare()
    config = tmp_path / "models" / first.MODEL / "config.pbtxt"
    config.write_text(config.read_text().replace("max_batch_size: 4", "max_batch_size: 8"))
    result = Result(tmp_path / "first.json", "first", "", machine_here.describe(), dry=False)
    result.plan(STAGES["first"].rows(False))
    with pytest.raises(SystemExit, match="faults: driver, NVML, server"):
        first.run(Workbench(tmp_path, dry=False), result, tmp_path)
    found = stage(tmp_path, "first")
    rows = found["rows"]
    assert "NVIDIA-SMI has failed" in rows["driver"]["state"]
    assert "PyTorch does not compute" in rows["driver"]["state"]
    assert rows["NVML"]["state"].startswith("failed")
    assert "not on the GPU" in rows["server"]["state"]
    assert rows["packages"]["state"] == rows["Python stub"]["state"] == "measured"
    assert rows["answers"]["error"] < 5e-2
    assert found["state"].startswith("failed: driver, NVML, server")


def test_without_a_gpu_the_first_stage_fails_and_no_other_is_run(tmp_path):
    done = run_stages(Path(sys.executable), None, tmp_path / "out", "first", "bare")
    assert done.returncode == 1
    assert "there is no GPU" in done.stderr
    assert "mend them before" in done.stderr
    assert not (tmp_path / "out" / "bare.json").exists()
    states = {row["state"] for row in stage(tmp_path / "out", "first")["rows"].values()}
    assert states == {"awaits a GPU"}


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
