"""The records of a run: what they hold, how they are written and read.

A run is a folder: ``experiment.yaml``, ``study.db``, ``evaluations.jsonl`` (one line per
evaluation, appended and flushed), ``windows.jsonl`` (what service times are fitted to),
``outcome.json`` (how the search ended), ``probes/`` (raw samples), ``logs/``, ``winner/``,
``report.html``. Records are immutable; ``format`` is raised when their meaning changes.
"""

import fcntl
import math
import os
import re
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, Literal, TextIO, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tuner.errors import RunError, StorageError
from tuner.space import Candidate, ValueField

FORMAT = 3
PERCENTILES = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}


class Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")


class ServerTimes(Record):
    """Differences of Triton's statistics over one probe.

    Seconds are means per request; ``batches`` counts executions by batch size, ``batch_seconds``
    are the mean seconds that one of them took (input, infer and output together).
    """

    requests: int
    executions: int
    queue: float
    compute_input: float
    compute_infer: float
    compute_output: float
    batches: dict[int, int] = Field(default_factory=dict)
    batch_seconds: dict[int, float] = Field(default_factory=dict)

    @property
    def mean_batch(self) -> float | None:
        """Mean items per execution; None where the server does not tell the batches' sizes."""
        executions = sum(self.batches.values())
        items = sum(size * number for size, number in self.batches.items())
        return items / executions if executions else None


class GpuReading(Record):
    """The GPUs that the server uses, over one probe; None where a value is unknown.

    Means over time and GPUs: utilisation 0..1, power in watts, clock (of the SMs) in MHz.
    ``memory`` is the peak in bytes, a mean over the GPUs; ``temperature`` is that of the hottest
    in °C. ``throttled`` says why clocks were lowered at any moment, ``others`` which processes were
    on the GPUs before the server. ``devices`` is the number of GPUs; None means that Triton's own
    metrics were the source, which know neither peaks nor what follows ``power``.
    """

    utilisation: float | None
    memory: int | None
    power: float | None
    devices: int | None = None
    clock: float | None = None
    temperature: float | None = None
    throttled: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


class HostReading(Record):
    """What a probe took of the machine; None where the server's processes cannot be seen.

    ``cpu`` is the mean number of cores that the server used, ``memory`` the most bytes that it held
    at one of the looks, ``client_cores`` the mean number of cores that the load processes used.
    ``stolen`` is the share of the busy time of tuner's machine that its hypervisor gave to others.
    """

    cpu: float | None
    memory: int | None
    client_cores: float | None
    stolen: float | None = None


class BoundCount(Record):
    """``late`` of a probe's requests broke one bound of the Sla, which allows a share ``budget``.

    They say as much about the true share as n / ``effect`` independent requests.
    """

    bound: str
    budget: float
    late: int
    effect: float


Interval = tuple[float, float | None]
"""The central 95 % of what may be true; None above where the data leave it open."""


class ProbeRecord(Record):
    """One measurement of one candidate at one rate, or at one concurrency.

    ``rate`` (requests/s) is the planned one; latencies are seconds from the intended send, None
    where there is no data and inf where failed requests reach that percentile. ``violations`` of
    ``n`` requests were late or failed, for the bound that decided; ``bounds`` has all of them.
    ``client_limited`` marks a probe that broke a bound only because the client was late: it says
    nothing of the server. ``round`` counts those of a confirmation from 0. ``load`` is
    "closed" or the text of an Arrivals; requests held ``items`` in the mean. ``mean`` is the mean
    latency of the good replies, ``client_wait`` the part of it before their requests were sent.
    """

    purpose: Literal["unloaded", "capacity", "proof", "measure"]
    load: str
    rate: float | None
    concurrency: int | None
    seed: int
    seconds: float
    n: int
    errors: int
    violations: int
    latency: dict[str, float | None]
    latency_interval: dict[str, Interval] = Field(default_factory=dict)
    mean: float | None = None
    client_wait: float | None = None
    throughput: float | None
    throughput_interval: Interval | None = None
    bounds: tuple[BoundCount, ...] = ()
    round: int = 0
    outcome: Literal["met", "violated", "inconclusive"]
    remedy: str | None
    confidence: float
    margin: float | None
    lateness_p99: float | None
    client_limited: bool
    client_cpu: float | None = None
    server: ServerTimes | None = None
    gpu: GpuReading | None = None
    host: HostReading | None = None
    samples: str | None = None
    items: float = 1.0


class Window(Record):
    """A moment in which a server was kept busy by so many requests outstanding: what the service
    times are fitted to. ``settings`` are the candidate's, on ``instances`` in all; ``throughput``
    is in requests/s, which held ``items`` in the mean; ``mean`` and
    ``latency`` seconds from the send, ``memory`` and ``gpu_memory`` the peaks in bytes.
    """

    settings: dict[str, ValueField]
    instances: int
    concurrency: int
    items: float
    throughput: float
    mean: float
    latency: dict[str, float | None]
    server: ServerTimes
    memory: int | None = None
    gpu_memory: int | None = None

    @property
    def candidate(self) -> Candidate:
        return Candidate.of(dict(self.settings))


Cause = Literal["out of memory", "refused", "timed out", "died"]
"""What kind of failure it was: no memory left, be it the GPU's or the machine's; the server refused
the model or its configuration; it took too long to start or load; it ended or stopped answering.
"""


class Outcome(Record):
    """How a search ended: ``reason`` in words; how many ``candidates`` the space has (None: no end
    of them, or too many), and how many were ``simulated`` and ``measured``. ``missed`` is the
    probability, as far as simulation and measurements tell, that a candidate which was not measured
    is better by more than the share ``by``; None where nothing was simulated.
    """

    reason: str
    candidates: int | None
    simulated: int
    measured: int
    by: float
    missed: float | None


class State(StrEnum):
    OK = "ok"
    """The Sla is met at some rate: there is a capacity."""
    INFEASIBLE = "infeasible"
    """The Sla is not met at any rate that was tried, down to one request at a time."""
    BEATEN = "beaten"
    """It was left once it could not win any more; its capacity lies from ``low`` to ``high``."""
    FAILED = "failed"
    """The candidate could not be measured; ``failure`` says why, ``cause`` what kind it is."""


class Evaluation(Record):
    """All that is known of one candidate.

    ``capacity`` is the highest rate (requests/s) at which the Sla is met, as all probes together
    tell; the truth lies between ``low`` and ``high`` with 95 %. ``recommended`` is the rate to
    operate at, a little below. ``steepness`` is that of the share of late requests there (d ln odds
    / d ln rate). ``by_round`` has the capacity and its standard error (of the logarithm) of each
    round of a confirmation. ``margin`` is the largest ratio of percentile to bound of
    the probe that tells the capacity or, where there is none, came nearest to the Sla.
    ``relaunched`` says that its server was launched for it, and not changed to it in place.
    """

    format: int = FORMAT
    trial: int
    phase: Literal["search", "again", "confirm", "measure"]
    baseline: bool
    settings: dict[str, ValueField]
    config: str
    state: State
    failure: str | None = None
    cause: Cause | None = None
    capacity: float | None = None
    low: float | None = None
    high: float | None = None
    recommended: float | None = None
    steepness: float | None = None
    by_round: tuple[tuple[float, float], ...] = ()
    margin: float | None = None
    client_limited: bool = False
    started: str
    seconds: float
    launch_seconds: float | None = None
    relaunched: bool = True
    probes: tuple[ProbeRecord, ...] = ()

    @property
    def candidate(self) -> Candidate:
        return Candidate.of(dict(self.settings))

    @property
    def estimate(self) -> float | None:
        """The capacity or, of what was left behind, the middle of what it may be."""
        if self.state is State.BEATEN and self.low and self.high:
            return math.sqrt(self.low * self.high)
        return self.capacity

    @property
    def label(self) -> str:
        return str(self.candidate)

    def proof(self) -> ProbeRecord | None:
        """The probe with the highest rate that was shown, by itself, to keep the Sla."""
        met = [p for p in self.probes if p.outcome == "met" and p.purpose in ("proof", "measure")]
        return max(met, key=lambda p: p.rate or p.throughput or 0.0, default=None)

    @property
    def items(self) -> float:
        """Mean items per request of the load."""
        return self.probes[0].items if self.probes else 1.0

    def at_capacity(self) -> ProbeRecord | None:
        """The probe that shows how it is to operate near capacity: the proof or, where there is
        none, the one nearest to capacity whose samples kept the Sla.
        """
        if self.capacity is None:
            return None
        kept = [
            p
            for p in self.probes
            if p.purpose != "unloaded"
            and p.margin is not None
            and p.margin <= 1
            and p.outcome != "violated"
        ]
        at = self.capacity
        nearest = min(kept, key=lambda p: abs((p.rate or p.throughput or 0.0) - at), default=None)
        return self.proof() or nearest

    def verdict(self) -> ProbeRecord | None:
        """The last probe that was to settle whether a rate keeps the Sla, whatever it said."""
        asked = [p for p in self.probes if p.purpose in ("proof", "measure")]
        return self.proof() or (asked[-1] if asked else None)

    def unloaded(self) -> ProbeRecord | None:
        """One request at a time."""
        return next((p for p in self.probes if p.purpose == "unloaded"), None)


def best(evaluations: list[Evaluation]) -> Evaluation | None:
    """The winner: the highest capacity, as confirmed where anything was confirmed; None if none.

    Where every confirmation failed there is no winner.
    """
    again = any(e.phase == "confirm" for e in evaluations)
    confirmed = [e for e in evaluations if e.phase == "confirm" and e.capacity is not None]
    searched = [e for e in evaluations if e.phase == "search" and e.capacity is not None]
    found = confirmed if again else searched
    return max(found, key=lambda e: e.capacity or 0.0, default=None)


def baseline(evaluations: list[Evaluation]) -> Evaluation | None:
    """The model as found: as confirmed, if it was."""
    own = [e for e in evaluations if e.baseline]
    confirmed = [e for e in own if e.phase == "confirm"]
    return next(iter(confirmed or own), None)


def closest(evaluations: list[Evaluation]) -> Evaluation | None:
    """Where nothing meets the Sla, the candidate that came nearest; None if none was measured."""
    measured = [e for e in evaluations if e.margin is not None]
    return min(measured, key=lambda e: e.margin or 0.0, default=None)


class Run:
    """The folder of one run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.experiment_file = folder / "experiment.yaml"
        self.evaluations_file = folder / "evaluations.jsonl"
        self.windows_file = folder / "windows.jsonl"
        self.outcome_file = folder / "outcome.json"
        self.study_file = folder / "study.db"
        self.logs = folder / "logs"
        self.probes = folder / "probes"
        self.winner = folder / "winner"
        self.report = folder / "report.html"
        self._lock: TextIO | None = None

    @classmethod
    def create(cls, folder: Path, experiment: dict[str, Any]) -> "Run":
        """A new run's folder with its experiment; StorageError where that cannot be."""
        run = cls(folder)
        try:
            run.logs.mkdir(parents=True, exist_ok=True)
            if run.experiment_file.exists():
                raise StorageError(f"another tuner has just begun a run in {folder}")
            run.probes.mkdir(exist_ok=True)
            write_text(run.experiment_file, yaml.safe_dump(experiment, sort_keys=False))
        except OSError as error:
            raise StorageError(_cannot_write(folder, error)) from error
        return run

    @classmethod
    def open(cls, folder: Path) -> "Run":
        """An existing run; RunError where the folder is none."""
        run = cls(folder)
        if not run.experiment_file.is_file():
            raise RunError(f"{folder} is not a run of tuner: it has no experiment.yaml")
        return run

    def lock(self) -> bool:
        """Claim the run for this process; False where another one is at work on it."""
        if self._lock is None:
            try:
                self._lock = (self.folder / ".lock").open("w")
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.unlock()
                return False
            except OSError as error:
                raise StorageError(_cannot_write(self.folder, error)) from error
        return True

    def unlock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def experiment(self) -> dict[str, Any]:
        try:
            content = yaml.safe_load(self.experiment_file.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise RunError(f"cannot read {self.experiment_file}: {error}") from error
        if not isinstance(content, dict):
            raise RunError(f"{self.experiment_file} does not hold an experiment")
        return content

    def append(self, evaluation: Evaluation) -> None:
        """Add a record and flush it to disk, so that a killed run keeps it."""
        _append(self.evaluations_file, [evaluation])

    def append_windows(self, windows: list[Window]) -> None:
        """Add what a server showed while it was kept busy."""
        if windows:
            _append(self.windows_file, windows)

    def evaluations(self) -> list[Evaluation]:
        """All records in order; a last line that a kill cut short is left out."""
        return list(_read(self.evaluations_file, Evaluation))

    def write_outcome(self, outcome: Outcome) -> None:
        try:
            write_text(self.outcome_file, outcome.model_dump_json(indent=1) + "\n")
        except OSError as error:
            raise StorageError(_cannot_write(self.outcome_file, error)) from error

    def outcome(self) -> Outcome | None:
        """How the search ended; None where it has not yet, or nothing is known of it."""
        try:
            return Outcome.model_validate_json(self.outcome_file.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise RunError(f"{self.outcome_file}: {error.errors()[0]['msg']}") from error

    def windows(self) -> list[Window]:
        """All windows in order; none in runs of before there were any."""
        return list(_read(self.windows_file, Window))


R = TypeVar("R", bound=Record)


def _append(path: Path, records: Sequence[Record]) -> None:
    lines = b"".join(record.model_dump_json().encode() + b"\n" for record in records)
    try:
        with path.open("ab+") as file:
            _drop_cut_line(file)
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StorageError(_cannot_write(path, error)) from error


def _read(path: Path, kind: type[R]) -> Iterator[R]:
    if not path.exists():
        return
    *lines, _cut = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, 1):
        try:
            yield kind.model_validate_json(line)
        except ValidationError as error:
            raise RunError(f"{path}:{number}: {_unreadable(line, error)}") from error


def _unreadable(line: bytes, error: ValidationError) -> str:
    found = re.search(rb'"format":(\d+)', line)
    if found is not None and int(found[1]) != FORMAT:
        return (
            f"a record of format {int(found[1])}, where this version of tuner reads format {FORMAT}"
        )
    return f"not a record of format {FORMAT}: {error.errors()[0]['msg']}"


def _drop_cut_line(file: BinaryIO) -> None:
    """Shorten a file of lines to its last whole one: a kill may have cut the next."""
    file.seek(0)
    whole = file.read().rfind(b"\n") + 1
    file.truncate(whole)
    file.seek(whole)


def write_text(path: Path, text: str) -> None:
    """Write a whole file or none of it: a new file takes the old one's place at the end."""
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def _cannot_write(path: Path, error: OSError) -> str:
    return f"cannot write {path}: {error.strerror}; make room or choose another --output"
