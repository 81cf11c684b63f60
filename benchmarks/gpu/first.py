"""The first minute on a machine: whether all is there that the other stages need.

Every check is made, whatever the others found, so that one run tells all faults.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu import machine
from benchmarks.gpu.models import Workbench
from benchmarks.gpu.network import Reference, reference
from benchmarks.gpu.result import FAILED, Result
from benchmarks.gpu.serve import PIN, WORKERS, stub_environment
from tuner.client import TritonClient
from tuner.cores import parse_cores
from tuner.deployments.triton import Inputs, RunningTriton, TritonDeployment
from tuner.errors import TunerError
from tuner.load.arrivals import Arrivals, schedule
from tuner.load.generator import LoadGenerator
from tuner.load.target import Transport
from tuner.model.config import read_config
from tuner.model.space import Candidate
from tuner.servers import embedded
from tuner.servers.gpu import SILENCE, Gpus
from tuner.servers.local import LocalLauncher
from tuner.simulator import is_available

MODEL = "bert_base"
STARTUP_SECONDS = 45.0
PROBE_SECONDS = 2.0
PROBE_RATE = 200.0
"""Requests/s: a rate at which a card is far from busy."""
TEXTS = (1, 3, 8)
"""Rows of a request; 3 is no size that a CUDA graph is captured for, so it is padded."""
HALF_TOLERANCE, FLOAT_TOLERANCE = 5e-2, 1e-3
"""||out - reference|| / ||reference|| of twelve layers in half precision, and in single."""
PACKAGES = ("optuna", "sqlalchemy", "plotly", "tritonclient.grpc", "fastapi", "uvicorn", "limits")
_SQUARE = (
    "import torch; x = torch.ones((64, 64), device='cuda', dtype=torch.float16); "
    "print(float((x @ x)[0, 0]))"
)
"""In a process of its own: one that has computed on a GPU stays on it, as a stranger to others."""
_SMI = ("name", "driver_version", "memory.total", "persistence_mode", "mig.mode.current", "pstate")


Check = Callable[[], dict[str, Any]]


class Fault(Exception):
    """Something that the other stages need is missing or does not work."""


def run(bench: Workbench, result: Result, out: Path) -> None:
    """Make all checks that are planned; exits with 1 after telling the faults, if there are any."""
    with ExitStack() as stack:
        shared = Checks(bench, stack)
        checks: dict[str, Check] = {
            "packages": packages,
            "cores": cores,
            "driver": driver,
            "NVML": nvml,
            "Python stub": stub,
            "server": shared.server,
            "answers": lambda: shared.answers("eager"),
            "CUDA graphs": lambda: shared.answers("cuda_graphs"),
            "probe": shared.probe,
        }
        for name in result.planned:
            _make(result, name, checks[name])
    if result.failed:
        faults = ", ".join(result.failed)
        result.end(f"{FAILED}: {faults}")
        sys.exit(f"   faults: {faults}")


def _make(result: Result, name: str, check: Check) -> None:
    with result.row(name) as row:
        row |= check()
    print(f"   {name}: {result.summary(name)}", flush=True)


def packages() -> dict[str, Any]:
    """Import what the stages need, and let the simulator simulate."""
    faults = []
    for name in PACKAGES:
        try:
            __import__(name)
        except Exception as error:  # noqa: BLE001  whatever a broken package raises is told
            faults.append(f"{name}: {type(error).__name__}: {error}")
    faults += _simulate() if is_available() else []
    if faults:
        raise Fault("; ".join(faults))
    about = machine.describe()
    versions = {name: about[name] for name in machine.PACKAGES if name in about}
    return {**versions, "simulation": is_available()}


def _simulate() -> list[str]:
    try:
        from tuner.simulator.predict import play  # compiles: seconds, and only where numba is
        from tuner.simulator.scheduling import Scheduling
        from tuner.simulator.simulate import ServiceTimes

        service = ServiceTimes(np.full(9, 4e-3), exclusive=0.7)
        play(800.0, 1000, Scheduling(True, 8, (8,), instances=1), service)
    except Exception as error:  # noqa: BLE001  as above
        return [f"the simulator does not run: {type(error).__name__}: {error}"]
    return []


def cores() -> dict[str, Any]:
    """How the cores are divided."""
    division = parse_cores(PIN)
    found = {"cores": len(os.sched_getaffinity(0)), "load_processes": WORKERS}
    if division is None:
        return {**found, "divided": False}
    return {
        **found,
        **{name: sorted(getattr(division, name)) for name in ("server", "stubs", "load")},
    }


def driver() -> dict[str, Any]:
    """What nvidia-smi says, and whether PyTorch can compute on the card."""
    found: dict[str, Any] = {}
    faults = []
    program = shutil.which("nvidia-smi")
    if program is None:
        faults.append("there is no nvidia-smi")
    else:
        query = [program, f"--query-gpu={','.join(_SMI)}", "--format=csv,noheader"]
        said = subprocess.run(query, capture_output=True, text=True, timeout=20)
        if said.returncode != 0:
            faults.append(f"nvidia-smi: {(said.stderr or said.stdout).strip()}")
        else:
            first = said.stdout.strip().splitlines()[0].split(", ")
            found |= dict(zip(_SMI, first, strict=False))
    done = subprocess.run([sys.executable, "-c", _SQUARE], capture_output=True, text=True)
    if done.returncode != 0:
        faults.append(f"PyTorch does not compute on the GPU: {done.stderr.strip()[-300:]}")
    elif done.stdout.split() != ["64.0"]:
        faults.append(f"PyTorch computes wrong on the GPU: {done.stdout.strip()} in place of 64")
    if faults:
        raise Fault("; ".join(faults))
    return found


def nvml() -> dict[str, Any]:
    """The readings that a report has of a GPU."""
    with Gpus("all") as gpus:
        if not gpus.devices:
            raise Fault("; ".join(map(str, gpus.notes())) or "NVML shows no GPU")
        sample = gpus.sample(gpus.devices[0])
        found = {**gpus.describe(), "notes": [str(note) for note in gpus.notes()]}
    unread = [name for name, value in vars(sample).items() if value is None]
    if sample == SILENCE or unread:
        raise Fault(f"not read: {', '.join(unread)}")
    return {**found, **vars(sample), "throttled": list(sample.throttled)}


def stub() -> dict[str, Any]:
    """Which libpython Triton's Python stub runs with."""
    with tempfile.TemporaryDirectory() as scratch:
        binary = embedded.assemble(Path(scratch))
        place = Path(scratch) / "backends" / "python" / "triton_python_backend_stub"
        paths = (binary.environment["LD_LIBRARY_PATH"], os.environ.get("LD_LIBRARY_PATH"))
        libraries = os.pathsep.join(filter(None, paths))
        environment = {"LD_LIBRARY_PATH": libraries, "LD_TRACE_LOADED_OBJECTS": "1"}
        listed = subprocess.run([place], env=environment, capture_output=True, text=True)
    missing = [line.split()[0] for line in listed.stdout.splitlines() if "not found" in line]
    if missing:
        raise Fault(f"the stub lacks {', '.join(missing)}")
    lines = [line.split() for line in listed.stdout.splitlines() if "libpython" in line]
    interpreter = "the kit's" if stub_environment() else "the machine's"
    return {"libpython": lines[0][2] if lines else None, "modules": interpreter}


class Checks:
    """Those that share a server; each says so where there is none."""

    def __init__(self, bench: Workbench, stack: ExitStack) -> None:
        self._bench = bench
        self._stack = stack
        self._running: RunningTriton | None = None
        self._log = bench.folder / "first.log"
        self._texts: Reference | None = None

    def server(self) -> dict[str, Any]:
        """Triton with the model, on the GPU unless this is a dry run."""
        bench, stack = self._bench, self._stack
        launcher = stack.enter_context(
            LocalLauncher(environment=stub_environment(), cores=parse_cores(PIN))
        )
        gpus = stack.enter_context(Gpus(launcher.gpus()))
        deployment = TritonDeployment(
            launcher,
            bench.repository / MODEL,
            read_config(bench.repository / MODEL),
            Transport.GRPC,
            Inputs(file=bench.texts),
            STARTUP_SECONDS,
            gpus,
            opens="model",
        )
        with self._explained():
            self._running = stack.enter_context(deployment.start(None, self._log))
        control = self._running.control
        kinds = [group["kind"] for group in control.config(MODEL)["instance_group"]]
        metrics = control.metrics() or ""
        found = {
            "seconds": round(self._running.launch_seconds, 1),
            "kind": kinds[0],
            "gpu_metrics": "nv_gpu_" in metrics,
        }
        if not bench.dry and set(kinds) != {"KIND_GPU"}:
            raise Fault(f"Triton runs, but not on the GPU: {found}; {self._tail()}")
        return found

    def answers(self, execution: str) -> dict[str, Any]:
        """The same logits as the network gives on the processor in single precision."""
        running = self._served()
        began = running.statistics()
        if execution != "eager":
            with self._explained():
                running.change(Candidate.of({"parameters[execution]": execution}))
        texts = self._texts = self._texts or reference(self._bench, MODEL, max(TEXTS))
        half = not self._bench.dry
        worst = 0.0
        with TritonClient(str(running.server.endpoints.grpc), MODEL, timeout=30.0) as client:
            for count in TEXTS:
                ids, mask, expected = texts.first(min(count, self._bench.batches[-1]))
                got = client.infer({"input_ids": ids, "attention_mask": mask})["logits"]
                worst = max(worst, float(np.linalg.norm(got - expected) / np.linalg.norm(expected)))
        if not worst <= (HALF_TOLERANCE if half else FLOAT_TOLERANCE):
            raise Fault(f"{execution}: the logits differ by {worst:.2g} of their norm")
        times = running.times_since(began) if execution == "eager" else None
        infer = times.compute_infer if times else None
        return {"error": float(f"{worst:.2g}"), "infer_ms": infer and round(1e3 * infer, 2)}

    def probe(self) -> dict[str, Any]:
        """Two seconds of load, and what is read while they last."""
        running = self._served()
        rate = 20.0 if self._bench.dry else PROBE_RATE
        rng = np.random.default_rng(0)
        times = schedule(Arrivals.parse("constant"), rate, PROBE_SECONDS, rng)
        before = running.statistics()
        with LoadGenerator(WORKERS, parse_cores(PIN)) as generator, running.watch_gpus() as watch:
            generator.aim(running.target)
            load = generator.open_loop(times, drain=2.0)
            reading = running.gpu(watch)
        samples, server = load.samples, running.times_since(before)
        if not samples.ok.all():
            raise Fault(
                f"{int((~samples.ok).sum())} of {len(samples.ok)} requests failed: {load.messages}"
            )
        latency = 1e3 * (samples.done - samples.intended)
        late = 1e3 * (samples.sent - samples.intended)
        found: dict[str, Any] = {
            "requests": len(latency),
            "p50_ms": round(float(np.quantile(latency, 0.5)), 2),
            "p99_ms": round(float(np.quantile(latency, 0.99)), 2),
            "sent_late_p99_ms": round(float(np.quantile(late, 0.99)), 3),
            "client_cpu_us_per_request": round(1e6 * load.cpu / len(latency), 1),
        }
        if server is not None:
            found["infer_ms"] = round(1e3 * (server.compute_infer or 0.0), 2)
        if reading is not None:
            found["gpu"] = reading.model_dump(mode="json")
        elif not self._bench.dry:
            raise Fault("the GPU was not read during the probe")
        return found

    def _served(self) -> RunningTriton:
        if self._running is None:
            raise Fault("not tried: there is no server")
        return self._running

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """What the server said last goes with its failure."""
        try:
            yield
        except TunerError as error:
            raise Fault(f"{error}; {self._tail()}") from error

    def _tail(self) -> str:
        text = self._log.read_text(encoding="utf-8", errors="replace") if self._log.exists() else ""
        return "the log ends: " + " / ".join(text.splitlines()[-4:])
