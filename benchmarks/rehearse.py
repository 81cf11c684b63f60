"""Rehearses the GPU machine on one without a GPU: ``python -m benchmarks.rehearse``.

``stages`` makes a new environment of Python 3.12 with what that machine has installed (PyTorch with
CUDA among it: some 6 GB), and runs the whole of ``benchmarks/gpu.sh`` from the packed kit in a
network namespace of its own, where nothing but loopback is there.

``search`` runs a search with all defaults where it is as slow to load a model as on a GPU: on an
emulated GPU, of which a library in NVML's place tells. It says how long that takes.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.gpu.result import read
from benchmarks.gpu.serve import PIN_VARIABLE
from benchmarks.gpu.stages import STAGES
from benchmarks.kit.machines import MACHINES
from benchmarks.kit.run import FORCED
from tuner.model.config import read_config, to_text
from tuner.records.results import best
from tuner.records.run import Run

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "build" / "rehearsal"
KIT = ROOT / "build" / "gpu-kit.tar.xz"
ALONE = ("unshare", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
"""Runs what follows where the network is loopback alone."""
FAKE_NVML = ROOT / "tests" / "nvml" / "fake_nvml.c"
CARD = {
    "driver": "580.0",
    "gpus": 1,
    "0.name": "an emulated GPU",
    "0.uuid": "GPU-0",
    "0.total": 80 * 2**30,
    "0.used": 2**29,
    "0.util": 50,
    "0.power": 300_000,
    "0.clock": 1700,
    "0.temperature": 50,
    "0.reasons": 0,
}
EMULATED = {"execution": "eager", "pipeline": "1"}
"""Parameters that the preset pytorch_gpu varies; the emulated model does not heed them."""


def main() -> None:
    arguments = _arguments()
    if arguments.what == "stages":
        sys.exit(stages(arguments.python, arguments.torch, arguments.stage))
    search(arguments.load_seconds)


def stages(python: str, torch: str, names: list[str]) -> int:
    """Run them from the kit, and print how long each took; the exit code of ``gpu.sh``."""
    if not KIT.is_file():
        subprocess.run([sys.executable, "-m", "benchmarks.kit"], check=True, cwd=ROOT)
    program = _environment(python, torch)
    out = FOLDER / "results"
    shutil.rmtree(out, ignore_errors=True)
    line = ["benchmarks/gpu.sh", "--dry-run", "--out", str(out), *names]
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as cache:  # numba compiles anew, as there
        environment = {"PYTHON": str(program), "PYTHONPATH": "", "NUMBA_CACHE_DIR": cache}
        done = subprocess.run(
            [*ALONE, *line],
            cwd=ROOT,
            env={**os.environ, **environment, FORCED: "1", **_divided()},
        )
    print(f"\n{'stage':<16} {'state':<12} seconds")
    for name in STAGES:
        content = read(out / f"{name}.json")
        if content is not None:
            print(f"{name:<16} {content['state']:<12} {content['seconds']:.0f}")
    print(f"{'all':<16} {'':<12} {time.monotonic() - began:.0f}")
    return done.returncode


def _divided() -> dict[str, str]:
    """Cores of their own, where ``auto`` would give none: here it is to be seen that it works."""
    first, *others = sorted(os.sched_getaffinity(0))
    return {PIN_VARIABLE: f"{first}:{others[0]}"} if len(others) in (1, 2) else {}


def _environment(python: str, torch: str) -> Path:
    """A Python with the newest of all packages that the machine has; made once."""
    folder = FOLDER / "env"
    program = folder / "bin" / "python"
    asked = f"{python} torch{torch}"
    complete = folder / "complete"
    if complete.is_file() and complete.read_text(encoding="utf-8") == asked:
        return program
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([python, "-m", "venv", str(folder)], check=True)
    names = sorted(MACHINES["scientific"].has - {"torch"})
    words = ["install", "--progress-bar", "off", f"torch{torch}", *names]
    subprocess.run([program, "-m", "pip", *words], check=True)
    complete.write_text(asked, encoding="utf-8")
    return program


def search(load_seconds: float) -> None:
    """A search by default on an emulated GPU that takes so long to load an instance."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model = shutil.copytree(ROOT / "model_repository" / "emulated_gpu", folder / "emulated_gpu")
        config = read_config(model)
        config.max_batch_size = 64
        for key, value in {**EMULATED, "load_seconds": f"{load_seconds:g}"}.items():
            config.parameters[key].string_value = value
        (model / "config.pbtxt").write_text(to_text(config), encoding="utf-8")
        words = ("--sla-p99", "50ms", "--space", "pytorch_gpu", "--launcher", "local")
        command = [sys.executable, "-m", "tuner", "search", str(model), *words]
        began = time.monotonic()
        done = subprocess.run(
            [*command, "--output", str(folder / "runs")], env=_with_card(folder), cwd=ROOT
        )
        seconds = time.monotonic() - began
        if done.returncode not in (0, 1):
            sys.exit(done.returncode)
        (run,) = map(Run, (folder / "runs").iterdir())
        winner = best(run.evaluations())
        how = "confirmed" if winner is not None and winner.phase == "confirm" else "not confirmed"
        print(f"{seconds:.0f} s with {load_seconds:g} s a load, {how}")


def _with_card(folder: Path) -> dict[str, str]:
    """The environment of a process that sees the emulated GPU."""
    library = folder / "libnvidia-ml.so.1"
    flags = ["-shared", "-fPIC", f"-Wl,-soname,{library.name}"]
    subprocess.run(["cc", *flags, str(FAKE_NVML), "-o", str(library)], check=True)
    state = folder / "card.txt"
    state.write_text("".join(f"{key} {value}\n" for key, value in CARD.items()), encoding="utf-8")
    path = os.pathsep.join(filter(None, (str(folder), os.environ.get("LD_LIBRARY_PATH"))))
    return {**os.environ, "LD_LIBRARY_PATH": path, "FAKE_NVML": str(state)}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.rehearse",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=("stages", "search"), nargs="?", default="stages")
    parser.add_argument("stage", nargs="*", help="of stages: these alone")
    parser.add_argument(
        "--python", default="python3.12", help="of stages: the Python to use; %(default)s"
    )
    parser.add_argument("--torch", default="", help="of stages: its version, as in ==2.11.0")
    parser.add_argument(
        "--load-seconds", type=float, default=8.0, help="of search: of an instance; %(default)s"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
