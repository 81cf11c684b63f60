"""Runs stages, each in a process of its own and within its time: ``python -m benchmarks.gpu``."""

import argparse
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.gpu.models import Workbench
from benchmarks.gpu.result import AWAITS, FAILED, MEASURED, Result, read, set_state
from benchmarks.gpu.stages import STAGES

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "gpu"
DRY = ROOT / "build" / "gpu-dry"
GRACE_SECONDS = 15.0
FIRST = "first"
_PR_SET_PDEATHSIG = 1


def main() -> None:
    for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # SIGINT: ignored below "&"
        signal.signal(sign, signal.default_int_handler)
    arguments = _arguments()
    out: Path = (arguments.out or (DRY if arguments.dry_run else RESULTS)).resolve()
    if arguments.inside:
        _measure(arguments.stages[0], out, arguments.dry_run)
        return
    failed = []
    for name in arguments.stages:
        if not _supervise(name, out, arguments.dry_run):
            failed.append(name)
        if failed == [FIRST]:
            sys.exit(f"the stage {FIRST} found faults: mend them before the others are run")
    if failed:
        sys.exit(f"not all of these came to their end: {', '.join(failed)}")


def _arguments() -> argparse.Namespace:
    lines = [f"  {name:<10} at most {s.seconds:>3} s   {s.what}" for name, s in STAGES.items()]
    parser = argparse.ArgumentParser(
        prog="benchmarks/gpu.sh",
        description="Measures tuner and its models on a GPU; every stage leaves a JSON file.",
        epilog="stages, all of them by default, in this order:\n" + "\n".join(lines),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("stages", nargs="*", metavar="STAGE", help="run these alone")
    parser.add_argument(
        "--out", type=Path, help="benchmarks/results/gpu, or build/gpu-dry of a dry run"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="small models on a processor; figures mean nothing"
    )
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    unknown = [name for name in arguments.stages if name not in STAGES]
    if unknown:
        parser.error(f"no stage is named {', '.join(unknown)}; see --help")
    arguments.stages = arguments.stages or list(STAGES)
    return arguments


def _supervise(name: str, out: Path, dry: bool) -> bool:
    """Run a stage; False where it failed or was ended for its time. Its file says which."""
    stage = STAGES[name]
    print(f"== {name}: {stage.what}, at most {stage.seconds} s", flush=True)
    command = [sys.executable, "-m", "benchmarks.gpu", name, "--out", str(out), "--inside"]
    if dry:
        command.append("--dry-run")
    with subprocess.Popen(command, cwd=ROOT, start_new_session=True) as process:
        try:
            state = "failed" if process.wait(stage.seconds) else ""
        except subprocess.TimeoutExpired:
            state = f"ended after its {stage.seconds} s"
        except KeyboardInterrupt:
            _end(process)
            raise
        _end(process)
    file = out / f"{name}.json"
    content = read(file)
    if state and not (content and content["state"].startswith(FAILED)):
        set_state(file, state)
    print(f"   {(read(file) or {'state': 'left nothing'})['state']}: {file}", flush=True)
    return not state


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ctrl-C for a stage that is still at work, then the end for whatever it started."""
    if process.poll() is None:
        _signal(process, signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_SECONDS)
    _signal(process, signal.SIGKILL)
    process.wait()


def _signal(process: "subprocess.Popen[bytes]", sign: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, sign)


def _measure(name: str, out: Path, dry: bool) -> None:
    from benchmarks.gpu import machine  # PyTorch: seconds that --help can do without

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)  # no stage outlives the command
    stage = STAGES[name]
    file = out / f"{name}.json"
    result = Result(file, name, stage.what, machine.describe(), dry)
    rows = stage.rows(dry)
    if not dry and not machine.may_have_gpu():
        if any(row["state"] == MEASURED for row in (read(file) or {"rows": {}})["rows"].values()):
            print(f"   no GPU here; {file} keeps what was measured elsewhere")
        else:
            result.plan(rows, AWAITS)
            result.end(AWAITS)
        if name == FIRST:
            sys.exit("   there is no GPU: no nvidia-smi, no driver, and PyTorch sees none")
        return
    result.plan(rows)
    with tempfile.TemporaryDirectory(prefix="tuner-gpu-") as folder:
        bench = Workbench(Path(folder), dry)
        bench.prepare()
        try:
            stage.run(bench, result, out)
        except KeyboardInterrupt:
            result.end("interrupted")
            sys.exit(130)
    result.end("complete")


if __name__ == "__main__":
    main()
