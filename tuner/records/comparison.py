"""``comparison.json`` in the folder of a run: the results of a comparison besides its evaluations.

Each deployment is evaluated as the candidates of a search are: its evaluations are those of its
``trial``, and their probes tell rates, latencies, cores, memory, GPU and where the time went.
"""

from typing import Literal

from pydantic import Field, ValidationError

from tuner.documents import fault, read_bytes
from tuner.errors import DocumentError, RunError, StorageError
from tuner.records.results import Record
from tuner.records.run import Run, write_text

FILE = "comparison.json"
UNBATCHED = "triton-unbatched"
"""The name of a deployment that shows what batching does: the tuned instances without it."""
Kind = Literal["naive", "fastapi", "triton", "hybrid", "service"]
"""FastAPI with the naive implementation; FastAPI, optimized; Triton alone; FastAPI in front of
Triton; a service of the user's."""
Sends = Literal["text", "tensors", "own"]
"""What a client sends: the input of the model's own processing; tensors; or what a service of the
user's expects."""
STAGES = (
    "client",
    "parsing",
    "tokenising",
    "transport",
    "queue",
    "inference",
    "serialisation",
    "rest",
)
"""The stages of a request, in order: the client's lateness; the service's reading and validation of
the request; its pre-processing; the way to Triton and back, Triton's own front end included; the
wait in the queue; the computation, input and output copies included; the service's post-processing
and writing of the answer; and the rest, which is not counted: network, HTTP server, client."""


class Swap(Record):
    """The model replaced by another version of it, while ``rate`` requests/s came in.

    ``seconds`` passed from the request for the change until every answer came from the new one.
    ``lost`` of ``requests`` were answered with an error or not at all; ``worst`` is the longest
    latency of those that were answered meanwhile, ``usual`` the p99 before it began, in seconds.
    """

    how: str
    rate: float
    seconds: float | None
    requests: int
    lost: int
    worst: float | None = None
    usual: float | None = None
    failure: str | None = None


class Deployed(Record):
    """One deployment: ``what`` describes how it was run, ``config`` is Triton's config.pbtxt if
    there is one. ``cold_start`` is the seconds from the launch to the first answer.
    """

    name: str
    title: str
    kind: Kind
    what: str
    sends: Sends
    trial: int
    tuned: bool = False
    batching: bool = False
    """Whether requests of different clients are batched together."""
    config: str | None = None
    cold_start: float | None = None
    swap: Swap | None = None


class Delay(Record):
    """The tuned configuration with another queue delay, in seconds: ``capacity`` in requests/s;
    ``p50`` one request at a time. Simulated, not measured.
    """

    delay: float
    capacity: float | None
    p50: float | None


class Comparison(Record):
    """``encode_seconds`` is what one request's tokenising took a client of tensors, where the model
    has a pre-processing of its own. ``cores`` are the machine's, ``gpu`` its name if it has one.
    ``tuned_run`` is the search that the tuned configuration came from. ``simulated`` has the
    capacities (requests/s) that the simulator gives to deployments, by name, as far as it knows.
    """

    format: int = 1
    model: str
    sla: str
    load: str
    cores: int
    gpu: str | None = None
    encode_seconds: float | None = None
    tuned_run: str | None = None
    target_rate: float | None = None
    deployments: tuple[Deployed, ...]
    simulated: dict[str, float] = Field(default_factory=dict)
    delays: tuple[Delay, ...] = ()


def write_comparison(run: Run, comparison: Comparison) -> None:
    """Write the whole file or nothing; StorageError if it cannot be written."""
    path = run.folder / FILE
    try:
        write_text(path, comparison.model_dump_json(indent=1) + "\n", private=True)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from error


def read_comparison(run: Run) -> Comparison:
    """RunError if there is none, or this version cannot read it."""
    path = run.folder / FILE
    try:
        return Comparison.model_validate_json(read_bytes(path))
    except ValidationError as error:
        raise RunError(f"{path}: not a comparison in format 1: {fault(error)}") from error
    except DocumentError as error:
        raise RunError(
            f"cannot read {path}: {error}; 'tuner compare' writes this file when it starts"
        ) from error
