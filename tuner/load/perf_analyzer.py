"""Load from Triton's perf_analyzer, if installed; has the interface of LoadGenerator."""

import base64
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tuner.cores import Cores, run_on
from tuner.errors import InputDataError, LauncherUnavailable, LoadFailed
from tuner.load.generator import LoadResult, Watch
from tuner.load.hiccups import HiccupMeter
from tuner.load.target import Target, Tensor
from tuner.scratch import owned_environment, scratch_folder
from tuner.stats.samples import Floats, Samples
from tuner.stats.stalls import Stall

VARIABLE = "TUNER_PERF_ANALYZER"
_VERSION = re.compile(r"Version (\d+\.\d+\S*)")
_REQUEST = re.compile(
    rb'\{"timestamp":(\d{1,19}),.*?"response_timestamps":\[((?:\d{1,19}(?:,\d{1,19})*)?)\]',
    re.DOTALL,
)


@dataclass(frozen=True)
class PerfAnalyzerSettings:
    """How the program is called and awaited."""

    windows: int = 3
    """Measurement windows of a closed loop: it calls nothing stable before it has seen three."""
    spread: int = 1_000_000
    """Per cent by which windows may differ: any, so that it ends after these."""
    grace: float = 40.0
    """Seconds beyond a run: it reads inputs first, and writes its export last."""
    poll_interval: float = 0.02
    """Seconds between looks at whether it has ended: small beside its start."""
    version_timeout: float = 20.0
    """Seconds for ``--version``, after which the program counts as hung."""
    complaint_lines: int = 4
    """Last lines of its log that an error shows: the ones that tell why it ended."""
    complaint_text: int = 600
    """Characters of these, as they go into one message."""


SETTINGS = PerfAnalyzerSettings()


def find() -> str | None:
    """The program that TUNER_PERF_ANALYZER names, or the one on the PATH."""
    return shutil.which(os.environ.get(VARIABLE) or "perf_analyzer")


def version(binary: str) -> str:
    """Its version; LauncherUnavailable if it does not run."""
    try:
        done = subprocess.run(
            [binary, "--version"],
            capture_output=True,
            text=True,
            timeout=SETTINGS.version_timeout,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LauncherUnavailable(f"cannot run {binary}: {error}") from error
    match = _VERSION.search(done.stdout + done.stderr)
    if match is None:
        output = (done.stderr or done.stdout).strip()[-300:] or f"exit code {done.returncode}"
        raise LauncherUnavailable(f"{binary} is not a working perf_analyzer: {output}")
    return match[1]


class PerfAnalyzer:
    """Runs perf_analyzer once per probe and reads its profile export.

    It says nothing while it runs, so no probe ends early. A failed request ends it: LoadFailed.
    """

    def __init__(
        self, workers: int = 1, cores: Cores | None = None, meter: HiccupMeter | None = None
    ) -> None:
        self.meter = meter
        binary = find()
        if binary is None:
            raise LauncherUnavailable(
                f"perf_analyzer was not found: put it on the PATH, set {VARIABLE} to its path, "
                "or use --load-engine tuner"
            )
        self._binary = binary
        self.version = version(binary)
        self.workers = workers
        self._cores = cores.load if cores else frozenset()
        shm = Path("/dev/shm")
        self._scratch = scratch_folder("load", shm if shm.is_dir() else None)
        self._folder = Path(self._scratch.name)
        self._target: Target | None = None

    def aim(self, target: Target) -> None:
        """Where the following runs go. InputDataError if its inputs cannot be written down."""
        (self._folder / "inputs.json").write_text(json.dumps(input_data(target)), encoding="utf-8")
        self._target = target

    def stalls(self) -> tuple[Stall, ...]:
        """None: its samples do not tell when it began."""
        return ()

    def open_loop(
        self, times: Floats, drain: float, horizon: float = 0.0, watch: Watch | None = None
    ) -> LoadResult:
        """Send at these times (seconds from the start, ascending); ``watch`` is not asked."""
        if len(times) == 0:
            return LoadResult(Samples.empty(), 0.0, False)
        intervals = np.diff(np.round(times * 1e6), prepend=0.0).astype(np.int64)
        # It refuses an interval of zero.
        intervals = np.maximum(intervals, 1)
        file = self._folder / "intervals"
        file.write_text("".join(f"{interval}\n" for interval in intervals), encoding="ascii")
        arguments = ["--request-intervals", str(file), "--request-count", str(len(times))]
        export, cpu = self._run(arguments, self.workers, float(times[-1]) + drain)
        planned = np.cumsum(intervals) * 1e-6
        return LoadResult(match(*parse(export), planned), cpu, False)

    def closed_loop(
        self,
        concurrency: int,
        seconds: float,
        drain: float,
        horizon: float = 0.0,
        watch: Watch | None = None,
    ) -> LoadResult:
        """Run at a fixed concurrency."""
        arguments = [
            *("--concurrency-range", str(concurrency), "--max-trials", str(SETTINGS.windows)),
            *("--measurement-interval", str(max(1, round(1e3 * seconds / SETTINGS.windows)))),
            *("--stability-percentage", str(SETTINGS.spread)),
        ]
        export, cpu = self._run(arguments, min(self.workers, concurrency), seconds + drain)
        sent, done = parse(export)
        start = float(sent[0])
        ok = ~np.isnan(done)
        return LoadResult(Samples(sent - start, sent - start, done - start, ok), cpu, False)

    def close(self) -> None:
        self._scratch.cleanup()

    def __enter__(self) -> "PerfAnalyzer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, arguments: list[str], threads: int, seconds: float) -> tuple[bytes, float]:
        """The profile export, and the seconds of CPU that the whole process took."""
        target = self._target
        if target is None or target.source is None:
            raise InputDataError("perf_analyzer needs a target that knows its model and inputs")
        export, log = self._folder / "export.json", self._folder / "log"
        export.unlink(missing_ok=True)
        command = [
            *(self._binary, "-m", target.source.model, "-u", target.address),
            *("-i", target.protocol.value, "--input-data", str(self._folder / "inputs.json")),
            *(("-x", target.source.version) if target.source.version else ()),
            *("--async", "--max-threads", str(threads), *arguments),
            *("--profile-export-file", str(export)),
        ]
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                env=owned_environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=partial(run_on, self._cores),
            )
        cpu = _wait(process, seconds + SETTINGS.grace)
        if cpu is None:
            raise LoadFailed(f"perf_analyzer did not end within {seconds + SETTINGS.grace:.0f} s")
        if process.returncode != 0 or not export.is_file():
            message = complaint(log.read_text(encoding="utf-8", errors="replace"))
            raise LoadFailed(f"perf_analyzer ended with {process.returncode}: {message}")
        return export.read_bytes(), cpu


def _wait(process: "subprocess.Popen[bytes]", seconds: float) -> float | None:
    """Its CPU seconds; None if it had to be killed. It is gone either way."""
    deadline = time.monotonic() + seconds
    try:
        while time.monotonic() < deadline:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                process.returncode = os.waitstatus_to_exitcode(status)
                return usage.ru_utime + usage.ru_stime
            time.sleep(SETTINGS.poll_interval)
        return None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def complaint(log: str) -> str:
    """The lines that say why it ended: errors before the usage text, without what is harmless."""
    text = log.partition("Usage: ")[0]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    relevant = [line for line in lines if not line.startswith("WARNING: data type")]
    return (
        " ".join(relevant[-SETTINGS.complaint_lines :])[-SETTINGS.complaint_text :]
        or "it printed nothing"
    )


def parse(export: bytes) -> tuple[Floats, Floats]:
    """Send and last response of each request (seconds of the wall clock), in order of sending.

    Outputs stand in the export as they came, so that it need not be UTF-8, nor JSON: the numbers
    are picked out of it. A quote within a string is escaped, hence no output can pass for them.
    """
    rows = [
        (int(sent), max(map(int, replies.split(b","))) if replies else None)
        for sent, replies in _REQUEST.findall(export)
    ]
    if not rows:
        raise LoadFailed("perf_analyzer recorded no request")
    rows.sort(key=lambda row: row[0])
    # Nanoseconds since 1970 lose digits as floats: seconds count from the first send.
    first = rows[0][0]
    sent = np.array([row[0] - first for row in rows]) * 1e-9
    done = np.array([np.nan if row[1] is None else row[1] - first for row in rows]) * 1e-9
    return sent, done


def match(sent: Floats, done: Floats, planned: Floats) -> Samples:
    """Requests beside their plan, in order; the most punctual one counts as sent on time.

    perf_analyzer does not tell when its schedule began, hence lateness that all share is not seen.
    What was planned and not recorded counts as never sent.
    """
    n = min(len(sent), len(planned))
    start = float(np.min(sent[:n] - planned[:n]))
    rows = {name: np.full(len(planned), np.nan) for name in ("sent", "done")}
    rows["sent"][:n] = sent[:n] - start
    rows["done"][:n] = done[:n] - start
    return Samples(planned, rows["sent"], rows["done"], ~np.isnan(rows["done"]))


def input_data(target: Target) -> dict[str, Any]:
    """The target's pool in perf_analyzer's JSON format."""
    source = target.source
    if source is None:
        raise InputDataError("perf_analyzer needs a target that knows its model and inputs")
    return {
        "data": [
            {tensor.name: _content(tensor, source.batched) for tensor in inputs}
            for inputs in source.pool
        ]
    }


def _content(tensor: Tensor, batched: bool) -> dict[str, Any]:
    shape = list(tensor.array.shape[1 if batched else 0 :])
    if tensor.datatype != "BYTES":
        return {"content": {"b64": base64.b64encode(tensor.raw()).decode()}, "shape": shape}
    try:
        texts = [bytes(text).decode() for text in tensor.array.ravel()]
    except UnicodeDecodeError as error:
        raise InputDataError(
            f"input {tensor.name} contains bytes that are not UTF-8, which perf_analyzer cannot "
            "read; use --load-engine tuner"
        ) from error
    return {"content": texts, "shape": shape}
