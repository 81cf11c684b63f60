"""Triton with one model, configured as a candidate says."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from copy import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tuner.deadline import Deadline
from tuner.deployments.base import FIRST_ANSWER_SECONDS, Running
from tuner.deployments.first_answers import Answers, Requests, ask
from tuner.deployments.memory import check_shares_memory, output_bytes, shared_tensors
from tuner.errors import InputDataError, LauncherUnavailable, ServerFailed, StorageError
from tuner.load.batches import BatchMix
from tuner.load.clients import ask_once
from tuner.load.distinct import variation_of
from tuner.load.input_file import read_inputs
from tuner.load.inputs import make_inputs
from tuner.load.replies import Expected
from tuner.load.target import Target, Tensor, make_target
from tuner.load.transport import Transport
from tuner.model.config import completed, render, to_json
from tuner.model.paths import get_path
from tuner.model.signature import Signature
from tuner.model.space import (
    DYNAMIC_BATCHING,
    INSTANCE_COUNT,
    MAX_BATCH_SIZE,
    Candidate,
    of_model,
)
from tuner.records.results import GpuReading, ServerTimes, StepReading
from tuner.servers.base import Launcher, Server, ServerSpec, raise_if_ended
from tuner.servers.causes import lacks_shared_memory, out_of_memory
from tuner.servers.connection import fault, refusal
from tuner.servers.control import Control
from tuner.servers.gpu import Gpus
from tuner.servers.gpu_watch import GpuWatch
from tuner.servers.host_watch import HostWatch
from tuner.servers.protection import Opened
from tuner.servers.readings import cached_share, gpu_reading, server_times

_GPU_MEMORY_SHARE = 0.8
"""Of a GPU's memory that several servers may need together: more of it is taken under load."""
SCHEDULER = "scheduling_choice"
_STEPS = "steps"
"""Where a snapshot of an ensemble has those of its composing models."""
AS_GIVEN = ("--disable-auto-complete-config",)


@dataclass(frozen=True)
class Inputs:
    """The source of the requests' content: a file, or generated from a seed and shapes."""

    seed: int = 0
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    file: Path | None = None
    batches: BatchMix = field(default_factory=BatchMix)
    _known: dict[Signature, list[list[Tensor]]] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )

    def pool(self, signature: Signature) -> list[list[Tensor]]:
        """Read or made once; InputDataError if they do not fit."""
        if signature not in self._known:
            self._known[signature] = self._made(signature)
        return self._known[signature]

    def _made(self, signature: Signature) -> list[list[Tensor]]:
        if self.file is not None:
            return read_inputs(self.file, signature, self.shapes, self.batches, self.seed)
        rng = np.random.default_rng(self.seed)
        return make_inputs(signature, self.shapes, rng, batches=self.batches)


class Contents(Protocol):
    """What requests hold."""

    @property
    def batches(self) -> BatchMix:
        """Items per request."""

    def pool(self, signature: Signature) -> list[list[Tensor]]:
        """The inputs of each request, for a model of this signature."""


@dataclass(frozen=True)
class FixedInputs:
    """Requests that were made elsewhere, one item each."""

    tensors: tuple[tuple[Tensor, ...], ...]
    batches: BatchMix = field(default_factory=BatchMix)

    def pool(self, signature: Signature) -> list[list[Tensor]]:
        return [list(inputs) for inputs in self.tensors]


class RunningTriton(Running):
    """One Triton server with the model loaded.

    ``others`` were on its GPUs before it was started. If its statistics are not ``counted``, they
    say nothing; else they are those of the ``version`` that answers. ``shares_gpu`` says whether
    tuner has other servers on its GPUs now. ``steps`` are the composing models of an ensemble with
    the number of their instances.
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
        version: str = "",
        answer_seconds: float = 0.0,
        change: Callable[[Candidate], None] | None = None,
        shares_gpu: Callable[[], bool] = lambda: False,
        steps: Mapping[str, int] | None = None,
    ) -> None:
        self.steps = steps or {}
        self._shares_gpu = shares_gpu
        self._counted = counted
        self._version = version
        self.answer_seconds = answer_seconds
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
            version=source.version,
            expected=self.target.expected if isinstance(self.target.expected, Expected) else None,
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
        """Such as an expired token: that is not a candidate's fault."""
        for reason in filter(None, map(refusal, messages)):
            raise LauncherUnavailable(reason)

    def statistics(self) -> dict[str, Any]:
        own = self.control.statistics(self._model, self._version) if self._counted else {}
        return {**own, _STEPS: self._step_statistics()} if self.steps else own

    def _step_statistics(self) -> dict[str, dict[str, Any]]:
        return {model: self.control.statistics(model) for model in self.steps}

    def times_since(self, before: dict[str, Any]) -> ServerTimes | None:
        return server_times(before, self.statistics()) if self._counted else None

    def steps_since(self, before: dict[str, Any]) -> tuple[StepReading, ...]:
        after = self._step_statistics()
        return tuple(
            StepReading(
                model=model,
                instances=instances,
                server=server_times(before[_STEPS][model], after[model]),
            )
            for model, instances in self.steps.items()
        )

    def cached_since(self, before: dict[str, Any]) -> float | None:
        return cached_share(before, self.statistics()) if self._counted else None

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


class TritonDeployment:
    """Starts a server per candidate through a launcher; candidate None is the model's own
    configuration.
    """

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
        version: str = "",
        others: Sequence[str] = (),
        cache_hits: float | None = None,
        opens: Opened = "inference",
    ) -> None:
        """A launch takes at most ``startup_timeout`` seconds, and ends at the deadline. Without a
        ``version`` of the model, the one that Triton chooses answers. ``others`` are models of the
        repository that it calls, which are loaded before it. If the model has a response cache, no
        more than the share ``cache_hits`` of all requests repeats; None leaves them as they are.
        Servers ``open`` more where others than tuner ask them, too.
        """
        self._opens = opens
        self._cache_hits = cache_hits
        self._version = version
        self._others = tuple(others)
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
        return side_by_side(self._launcher, self._gpus, memory)

    def configs_of(self, candidate: Candidate) -> Mapping[str, Any]:
        """The candidate's ModelConfig, by the model's name."""
        return {self._model.name: self.config_of(candidate)}

    def config_of(self, candidate: Candidate) -> Any:
        """The candidate's ModelConfig."""
        return render(self._config, candidate)

    @contextmanager
    def start(
        self, candidate: Candidate | None, log: Path, as_served: bool = True
    ) -> Iterator[RunningTriton]:
        """Launch, load, and wait for the first answer to an inference.

        Unless it must be exactly ``as_served``, auto-completion of the configuration is disabled if
        an earlier launch has shown that Triton had nothing to add: Triton would start a process, or
        load the model once more, only to find that out. Raises ServerFailed for what is the
        candidate's fault, LauncherUnavailable and InputDataError for what would fail every other
        candidate, too.
        """
        began = time.monotonic()
        args = () if as_served or not self._is_complete(candidate) else AS_GIVEN
        self._deadline.require()
        timeout = self._deadline.bound(self._timeout)
        name = self._model.name
        repository, shares = self._model.parent, self._shared_memory
        spec = ServerSpec(repository, name, log, timeout, args, self._opens, shares)
        others = self._gpus.users() - self._gpus.names(self._own_pids())
        self._check_batches(candidate)
        with (
            self._launcher.launch(spec) as server,
            Control(server) as control,
            ExitStack() as stack,
        ):
            address_of(server, self._protocol)
            stack.enter_context(control.loaded(self._others, timeout))
            in_force = self._load(control, candidate)
            signature = control.signature(name, self._version)
            requests = Requests.of(signature, self._inputs.pool(signature))
            answers = ask(control, name, self._version, requests)
            target = send_to(
                server,
                control,
                name,
                self._protocol,
                requests,
                answers,
                self._version,
                self._shared_memory,
                stack,
            )
            if in_force.response_cache.enable and self._cache_hits is not None:
                target = varied(target, self._cache_hits)

            def change(to: Candidate) -> None:
                self._load(control, to)
                ask(control, name, self._version, requests)

            running = RunningTriton(
                server,
                control,
                name,
                target,
                time.monotonic() - began,
                self._gpus,
                others,
                float(np.mean(requests.sizes)),
                counted=is_counted(in_force),
                version=answers.version,
                answer_seconds=answers.seconds,
                change=change,
                shares_gpu=lambda: len(self._servers) > 1,
            )
            self._servers.append(server)
            try:
                yield running
            finally:
                self._servers.remove(server)

    def _own_pids(self) -> frozenset[int]:
        return frozenset(pid for server in self._servers for pid in server.pids())

    def _load(self, control: Control, candidate: Candidate | None) -> Any:
        """Load the model as the candidate says; the configuration in force."""
        name = self._model.name
        override = None if candidate is None else to_json(self.config_of(candidate))
        loaded(control, name, override, self._deadline.bound(self._timeout), self._launcher)
        in_force = control.in_force(name, self._version)
        if candidate is not None:
            check_in_force(candidate, in_force)
            asked = self.config_of(candidate)
            if not completed(asked, in_force):
                self._complete.add(asked.WhichOneof(SCHEDULER))
        self._check_size(in_force.max_batch_size or None)
        return in_force

    def _is_complete(self, candidate: Candidate | None) -> bool:
        if candidate is None:
            return False
        return self.config_of(candidate).WhichOneof(SCHEDULER) in self._complete

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
        """ServerFailed if requests would hold more items than the model takes at once."""
        asked = self._inputs.batches.largest
        if largest is not None and largest < asked:
            raise ServerFailed(
                f"max_batch_size {largest} is below the largest request of the load, {asked} "
                "items: the server would refuse such requests"
            )


def side_by_side(launcher: Launcher, gpus: Gpus, memory: Sequence[int | None]) -> bool:
    """Whether servers that need so many bytes of GPU memory each may run at once; None is not
    known.
    """
    if not launcher.starts_several():
        return False
    room = [gpu.memory for gpu in gpus.devices]
    known = [size for size in memory if size is not None]
    if not room:
        return True
    if None in room or len(known) < len(memory):
        return False
    return sum(known) <= _GPU_MEMORY_SHARE * min(size for size in room if size is not None)


def address_of(server: Server, protocol: Transport) -> str:
    """LauncherUnavailable if the server does not offer the protocol."""
    address: str | None = getattr(server.endpoints, protocol)
    if address is None:
        raise LauncherUnavailable(
            f"the server's {protocol} address is unknown; add --{protocol}-url"
        )
    return address


def send_to(
    server: Server,
    control: Control,
    model: str,
    protocol: Transport,
    requests: Requests,
    answers: Answers,
    version: str,
    shared_memory: bool,
    stack: ExitStack,
) -> Target:
    """Where requests to a model go; shared memory lasts as long as the stack."""
    placements = None
    if shared_memory:
        outputs = output_bytes(requests.signature, answers)
        sizes: list[Mapping[str, int | None]] = [outputs[size] for size in requests.sizes]
        placements = stack.enter_context(shared_tensors(control, server, requests.pool, sizes))
    target = make_target(
        protocol,
        address_of(server, protocol),
        model,
        requests.pool,
        requests.signature.batched,
        placements,
        protocol in server.endpoints.tls,
        server.endpoints.security,
        version,
        requests.expected(in_memory=placements is not None),
    )
    if protocol is Transport.GRPC and not server.pids():
        _check_grpc(server, target)
    return target


def loaded(
    control: Control, model: str, config_json: str | None, timeout: float, launcher: Launcher
) -> None:
    """Load a model; StorageError where it is the machine's shared memory that is full, not the
    candidate's fault.
    """
    try:
        control.load(model, config_json, timeout)
    except ServerFailed as error:
        if launcher.shares_memory() and lacks_shared_memory(str(error)):
            raise StorageError(
                f"/dev/shm is full; enlarge it, or free space in it: {error}"
            ) from error
        raise


def varied(target: Target, repeated: float) -> Target:
    """The target with requests of which no more than that share repeat."""
    if target.source is None:
        raise InputDataError(
            "the model has a response cache, and requests in shared memory repeat; use "
            "--shared-memory none"
        )
    variation = variation_of(target, repeated)
    if not variation.is_enough:
        raise InputDataError(
            "the model has a response cache, and its inputs have too few values for requests "
            "that do not repeat; use requests of your traffic with --input-data"
        )
    return replace(target, variation=variation)


def _check_grpc(server: Server, target: Target) -> None:
    """Nothing is known yet of the gRPC of a server that others run: the control API is HTTP.

    LauncherUnavailable if it does not answer an inference, as HTTP just did.
    """
    failure = ask_once(target, FIRST_ANSWER_SECONDS)
    if failure is None:
        return
    if (reason := server.exit_reason()) is not None:
        raise ServerFailed(reason)
    why = refusal(failure) or fault(failure, target.address, target.tls)
    why = why or f"{failure}; check the address of its gRPC service"
    raise LauncherUnavailable(f"inference failed at {server.endpoints.root('grpc')}: {why}")


def is_counted(config: Any) -> bool:
    """Whether the model's statistics are the parts of a request's latency, and its batches.

    An ensemble adds up the computation of its models, also of those that run side by side, and
    leaves out their queues; a decoupled model answers a request as often as it likes.
    """
    ensemble = config.HasField("ensemble_scheduling")
    return not ensemble and not config.model_transaction_policy.decoupled


def check_in_force(candidate: Candidate, in_force: Any, model: str = "") -> None:
    """ServerFailed if the server changed what was asked of it, as auto-complete can. ``model`` is
    the name of one of several.
    """
    for path in (MAX_BATCH_SIZE, DYNAMIC_BATCHING, INSTANCE_COUNT):
        asked, found = candidate.get(path), get_path(in_force, path)
        if asked is not None and path == INSTANCE_COUNT:
            counts = [group.count for group in in_force.instance_group]
            found = asked if asked in counts else counts[0] if counts else None
        if asked is not None and asked != found:
            raise ServerFailed(
                f"the server changed {of_model(model, path)} from {asked} to {found} (Triton "
                "completes configurations by itself); declare all inputs and outputs in "
                "config.pbtxt"
            )
