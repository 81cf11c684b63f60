"""Triton with one model, configured as a candidate says."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tritonclient.utils import triton_to_np_dtype

from tuner.deadline import Deadline
from tuner.deployments.base import FIRST_ANSWER_SECONDS, Running
from tuner.deployments.memory import check_shares_memory, output_bytes, shared_tensors
from tuner.errors import LauncherUnavailable, ServerFailed
from tuner.load.batches import BatchMix
from tuner.load.clients import ask_once
from tuner.load.inputs import make_inputs, read_inputs
from tuner.load.target import Target, Tensor, http_body, make_target
from tuner.load.transport import Transport
from tuner.model.config import completed, from_json, render, to_json
from tuner.model.paths import get_path
from tuner.model.space import DYNAMIC_BATCHING, INSTANCE_COUNT, MAX_BATCH_SIZE, Candidate
from tuner.records.results import GpuReading, ServerTimes
from tuner.servers.base import Launcher, Server, ServerSpec, raise_if_ended
from tuner.servers.causes import out_of_memory
from tuner.servers.connection import fault, refusal
from tuner.servers.control import Control
from tuner.servers.gpu import Gpus
from tuner.servers.gpu_watch import GpuWatch
from tuner.servers.host_watch import HostWatch
from tuner.servers.readings import gpu_reading, server_times

_GPU_MEMORY_SHARE = 0.8
"""Of a GPU's memory that several servers may need together: more of it is taken under load."""
_LENGTH_BYTES = 4
"""Before each string goes its length."""
_SCHEDULER = "scheduling_choice"
_AS_GIVEN = ("--disable-auto-complete-config",)


@dataclass(frozen=True)
class Inputs:
    """Where the content of requests comes from: a file, or made up from a seed and shapes."""

    seed: int = 0
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    file: Path | None = None
    batches: BatchMix = field(default_factory=BatchMix)

    def pool(self, metadata: dict[str, Any], batched: bool) -> list[list[Tensor]]:
        if self.file is not None:
            return read_inputs(self.file, metadata, batched, self.shapes, self.batches, self.seed)
        rng = np.random.default_rng(self.seed)
        return make_inputs(metadata, batched, self.shapes, rng, batches=self.batches)


class Contents(Protocol):
    """What requests hold."""

    @property
    def batches(self) -> BatchMix:
        """Items per request."""

    def pool(self, metadata: dict[str, Any], batched: bool) -> list[list[Tensor]]:
        """The inputs of each request, for a model of this metadata."""


@dataclass(frozen=True)
class FixedInputs:
    """Requests that were made elsewhere, one item each."""

    tensors: tuple[tuple[Tensor, ...], ...]
    batches: BatchMix = field(default_factory=BatchMix)

    def pool(self, metadata: dict[str, Any], batched: bool) -> list[list[Tensor]]:
        return [list(inputs) for inputs in self.tensors]


class RunningTriton(Running):
    """One Triton server with the model loaded.

    ``others`` were on its GPUs before it was started. Where its statistics are not ``counted``,
    they say nothing. ``shares_gpu`` says whether tuner has other servers on its GPUs now.
    """

    def __init__(
        self,
        server: Server,
        control: Control,
        model: str,
        target: Target,
        launch_seconds: float,
        gpus: Gpus,
        others: frozenset[str],
        items: float = 1.0,
        counted: bool = True,
        change: Callable[[Candidate], None] | None = None,
        shares_gpu: Callable[[], bool] = lambda: False,
    ) -> None:
        self._shares_gpu = shares_gpu
        self._counted = counted
        self._change = change
        self.target = target
        self.items = items
        self.launch_seconds = launch_seconds
        self.server = server
        self.control = control
        self._model = model
        self._gpus = gpus
        self._others = others

    def change(self, candidate: Candidate) -> None:
        if self._change is None:
            super().change(candidate)
        else:
            self._change(candidate)

    def towards(self, protocol: Transport) -> "RunningTriton":
        """The same server, addressed by this protocol. It must offer it."""
        address, source = getattr(self.server.endpoints, protocol), self.target.source
        assert address is not None
        assert source is not None
        pool = [list(inputs) for inputs in source.pool]
        other = copy(self)
        other.target = make_target(
            protocol,
            address,
            source.model,
            pool,
            source.batched,
            tls=protocol in self.server.endpoints.tls,
            security=self.server.endpoints.security,
        )
        return other

    def raise_if_gone(self) -> None:
        raise_if_ended(self.server)

    def raise_if_full(self, messages: tuple[str, ...]) -> None:
        """A batch that does not fit is not slow but wrong: the candidate would fail in production,
        too, at whatever rate fills such a batch.
        """
        for line in filter(None, map(out_of_memory, messages)):
            raise ServerFailed(f"requests fail under load: {line}")

    def raise_if_refused(self, messages: tuple[str, ...]) -> None:
        """As when a token has expired: that is no candidate's fault."""
        for reason in filter(None, map(refusal, messages)):
            raise LauncherUnavailable(reason)

    def statistics(self) -> dict[str, Any]:
        return self.control.statistics(self._model) if self._counted else {}

    def times_since(self, before: dict[str, Any]) -> ServerTimes | None:
        return server_times(before, self.statistics())

    def watch_gpus(self) -> GpuWatch:
        pids = self.server.pids() if self._shares_gpu() else None
        return GpuWatch(self._gpus, self._others, pids)

    def watch_host(self) -> HostWatch:
        return HostWatch(self.server)

    def pids(self) -> tuple[int, ...]:
        return self.server.pids()

    def gpu(self, watch: GpuWatch) -> GpuReading | None:
        """What was read or, where NVML tells nothing, what Triton's metrics say at this moment."""
        reading = watch.reading()
        if reading is not None:
            return reading
        text = self.control.metrics()
        return gpu_reading(text) if text else None


@dataclass(frozen=True)
class _Requests:
    """The inputs of each request, their items, and a body for each of these numbers."""

    metadata: dict[str, Any]
    batched: bool
    pool: list[list[Tensor]]
    sizes: list[int]
    bodies: dict[int, tuple[bytes, int]]


class TritonDeployment:
    """Starts a server per candidate through a launcher; the model as found is candidate None."""

    def __init__(
        self,
        launcher: Launcher,
        model: Path,
        config: Any,
        protocol: Transport,
        inputs: Contents,
        startup_timeout: float = 120.0,
        gpus: Gpus | None = None,
        shared_memory: bool = False,
        deadline: Deadline | None = None,
    ) -> None:
        """A launch takes ``startup_timeout`` seconds at most, and no longer than the deadline."""
        if shared_memory:
            check_shares_memory(launcher)
        self._shared_memory = shared_memory
        self._launcher = launcher
        self._model = model
        self._config = config
        self._protocol = protocol
        self._inputs = inputs
        self._timeout = startup_timeout
        self._deadline = deadline or Deadline()
        self._gpus = gpus or Gpus("none")
        self._complete: set[str | None] = set()
        self._servers: list[Server] = []

    @property
    def gpu_count(self) -> int:
        """The GPUs that its servers see."""
        return len(self._gpus.devices)

    def runs_side_by_side(self, memory: Sequence[int | None]) -> bool:
        """Whether these servers may run at once: on GPUs, if all of them leave some memory free."""
        if not self._launcher.starts_several():
            return False
        room = [gpu.memory for gpu in self._gpus.devices]
        known = [size for size in memory if size is not None]
        if not room:
            return True
        if None in room or len(known) < len(memory):
            return False
        return sum(known) <= _GPU_MEMORY_SHARE * min(size for size in room if size is not None)

    def config_of(self, candidate: Candidate) -> Any:
        """The candidate's ModelConfig."""
        return render(self._config, candidate)

    @contextmanager
    def start(
        self, candidate: Candidate | None, log: Path, as_served: bool = True
    ) -> Iterator[RunningTriton]:
        """Launch, load, and wait for the first answer to an inference.

        Where it need not be all ``as_served``, Triton is told not to complete the configuration, if
        an earlier launch has shown that it had nothing to add: it starts a process, or loads the
        model once more, only to find that out.
        Raises ServerFailed for what is the candidate's fault, LauncherUnavailable and
        InputDataError for what would fail every other candidate, too.
        """
        began = time.monotonic()
        args = () if as_served or not self._is_complete(candidate) else _AS_GIVEN
        self._deadline.require()
        timeout = self._deadline.bound(self._timeout)
        spec = ServerSpec(self._model.parent, self._model.name, log, timeout, args)
        others = self._gpus.users() - self._gpus.names(self._own_pids())
        self._check_batches(candidate)
        with (
            self._launcher.launch(spec) as server,
            Control(server) as control,
            ExitStack() as stack,
        ):
            address = self._address_of(server)
            in_force = self._load(control, candidate)
            requests = self._requests(control, in_force)
            answers = _ask(control, self._model.name, requests.bodies)
            target = self._target(requests, address, control, server, answers, stack)

            def change(to: Candidate) -> None:
                self._load(control, to)
                _ask(control, self._model.name, requests.bodies)

            running = RunningTriton(
                server,
                control,
                self._model.name,
                target,
                time.monotonic() - began,
                self._gpus,
                others,
                float(np.mean(requests.sizes)),
                counted=_is_counted(in_force),
                change=change,
                shares_gpu=lambda: len(self._servers) > 1,
            )
            self._servers.append(server)
            try:
                yield running
            finally:
                self._servers.remove(server)

    def _address_of(self, server: Server) -> str:
        address: str | None = getattr(server.endpoints, self._protocol)
        if address is None:
            raise LauncherUnavailable(
                f"the server's {self._protocol} address is not known; give --{self._protocol}-url"
            )
        return address

    def _requests(self, control: Control, in_force: Any) -> "_Requests":
        """What is sent to a server with this configuration in force."""
        metadata, batched = control.metadata(self._model.name), in_force.max_batch_size > 0
        pool = self._inputs.pool(metadata, batched)
        sizes = [len(inputs[0].array) if batched else 1 for inputs in pool]
        bodies = {size: http_body(pool[sizes.index(size)]) for size in sorted(set(sizes))}
        return _Requests(metadata, batched, pool, sizes, bodies)

    def _target(
        self,
        requests: "_Requests",
        address: str,
        control: Control,
        server: Server,
        answers: dict[int, list[dict[str, Any]]],
        stack: ExitStack,
    ) -> Target:
        """Where to send them; shared memory lasts as long as the stack."""
        placements = None
        if self._shared_memory:
            outputs = output_bytes(requests.metadata["outputs"], requests.batched, answers)
            sizes: list[Mapping[str, int | None]] = [outputs[size] for size in requests.sizes]
            placements = stack.enter_context(shared_tensors(control, server, requests.pool, sizes))
        target = make_target(
            self._protocol,
            address,
            self._model.name,
            requests.pool,
            requests.batched,
            placements,
            self._protocol in server.endpoints.tls,
            server.endpoints.security,
        )
        if self._protocol is Transport.GRPC and not server.pids():
            _check_grpc(server, target)
        return target

    def _own_pids(self) -> frozenset[int]:
        return frozenset(pid for server in self._servers for pid in server.pids())

    def _load(self, control: Control, candidate: Candidate | None) -> Any:
        """Load the model as the candidate says; the configuration in force."""
        name = self._model.name
        override = None if candidate is None else to_json(self.config_of(candidate))
        control.load(name, override, self._deadline.bound(self._timeout))
        in_force = from_json(control.config(name))
        if candidate is not None:
            _check_in_force(candidate, in_force)
            asked = self.config_of(candidate)
            if not completed(asked, in_force):
                self._complete.add(asked.WhichOneof(_SCHEDULER))
        self._check_size(in_force.max_batch_size or None)
        return in_force

    def _is_complete(self, candidate: Candidate | None) -> bool:
        if candidate is None:
            return False
        return self.config_of(candidate).WhichOneof(_SCHEDULER) in self._complete

    def can_change(self, one: Candidate, other: Candidate) -> bool:
        """Whether they differ in their instances alone: Triton then changes the loaded model in
        place. For all else it would load another beside it, with memory for both.
        """
        configs = [self.config_of(each) for each in (one, other)]
        for config in configs:
            config.ClearField("instance_group")
        return bool(configs[0] == configs[1])

    def _check_batches(self, candidate: Candidate | None) -> None:
        if candidate is not None:
            self._check_size(self.config_of(candidate).max_batch_size or None)

    def _check_size(self, largest: int | None) -> None:
        """ServerFailed where requests would hold more items than the model takes at once."""
        asked = self._inputs.batches.largest
        if largest is not None and largest < asked:
            raise ServerFailed(
                f"max_batch_size {largest} is below the client's largest batch, {asked} items: "
                "the server would refuse such requests"
            )


def _ask(
    control: Control, model: str, bodies: dict[int, tuple[bytes, int]]
) -> dict[int, list[dict[str, Any]]]:
    """One inference with each body; its outputs. ServerFailed where they are not what they say."""
    answers = {
        size: control.infer(model, body, header_length, FIRST_ANSWER_SECONDS)
        for size, (body, header_length) in bodies.items()
    }
    for output in (each for outputs in answers.values() for each in outputs):
        _check_size_of(output)
    return answers


def _check_size_of(output: dict[str, Any]) -> None:
    """A server that sends fewer bytes than its answer has elements is fast, and of no use."""
    size = output.get("parameters", {}).get("binary_data_size")
    kind = triton_to_np_dtype(output["datatype"])
    if size is None or kind is None:
        return
    count = math.prod(map(int, output["shape"]))
    is_text = output["datatype"] == "BYTES"
    least = count * (_LENGTH_BYTES if is_text else np.dtype(kind).itemsize)
    if int(size) < least:
        shape = ", ".join(map(str, output["shape"]))
        raise ServerFailed(
            f"output {output['name']!r} came with {size} bytes, too few for "
            f"{output['datatype']} [{shape}]; does the Python backend suit the installed numpy?"
        )


def _check_grpc(server: Server, target: Target) -> None:
    """Nothing is known yet of the gRPC of a server that others run: the control API is HTTP.

    LauncherUnavailable where it does not answer an inference, as HTTP just did.
    """
    failure = ask_once(target, FIRST_ANSWER_SECONDS)
    if failure is None:
        return
    if (reason := server.exit_reason()) is not None:
        raise ServerFailed(reason)
    why = refusal(failure) or fault(failure, target.address, target.tls)
    why = why or f"{failure}; give the address of its gRPC service"
    raise LauncherUnavailable(f"no inference at {server.endpoints.root('grpc')}: {why}")


def _is_counted(config: Any) -> bool:
    """Whether the model's statistics are the parts of a request's latency, and its batches.

    An ensemble adds up the computation of its models, also of those that run side by side, and
    leaves out their queues; a decoupled model answers a request as often as it likes.
    """
    ensemble = config.HasField("ensemble_scheduling")
    return not ensemble and not config.model_transaction_policy.decoupled


def _check_in_force(candidate: Candidate, in_force: Any) -> None:
    """ServerFailed where the server changed what was asked of it, as auto-complete can."""
    for path in (MAX_BATCH_SIZE, DYNAMIC_BATCHING, INSTANCE_COUNT):
        asked, found = candidate.get(path), get_path(in_force, path)
        if asked is not None and path == INSTANCE_COUNT:
            counts = [group.count for group in in_force.instance_group]
            found = asked if asked in counts else counts[0] if counts else None
        if asked is not None and asked != found:
            raise ServerFailed(
                f"the server changed {path} from {asked} to {found} (it completes configurations "
                "by itself); spell out all inputs and outputs in config.pbtxt"
            )
