"""Triton with several models, each configured as a candidate says."""

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tuner.deadline import Deadline
from tuner.deployments.base import Running
from tuner.deployments.first_answers import Requests, ask
from tuner.deployments.tracing import trace_steps
from tuner.deployments.triton import (
    AS_GIVEN,
    SCHEDULER,
    Contents,
    FixedInputs,
    Inputs,
    RunningTriton,
    check_in_force,
    is_counted,
    loaded,
    send_to,
    side_by_side,
    varied,
)
from tuner.errors import ServerFailed
from tuner.load.mix import Mix
from tuner.load.target import Target, mixed
from tuner.load.transport import Transport
from tuner.model.config import completed, to_text
from tuner.model.files import copy_beside, copy_model
from tuner.model.pipeline import CONFIG
from tuner.model.repository import Repository, server_flags
from tuner.model.space import Candidate
from tuner.model.weights import complete_model, link_or_copy
from tuner.scratch import scratch_folder
from tuner.servers.base import Launcher, Server, ServerSpec
from tuner.servers.control import Control
from tuner.servers.gpu import Gpus
from tuner.servers.protection import Opened
from tuner.simulator.scheduling import count_instances

_TURNS = 4096
"""Requests of a mix until their order repeats: a multiple of what any pool holds."""


class RunningRepository(RunningTriton):
    """One Triton server with several models, of which some are asked. Its statistics are those of
    each model (``steps_since``).
    """

    def __init__(
        self,
        *args: Any,
        repository: Repository,
        contents: Mapping[str, Contents],
        targets: Mapping[str, Target],
        mix: Mix | None,
        seed: int,
        protocol: Transport,
        traced: dict[str, Contents],
        **options: Any,
    ) -> None:
        """``traced`` keeps what composing models are asked with, once it is known."""
        super().__init__(*args, **options)
        self.mix = mix
        self._repository = repository
        self._contents = contents
        self._targets = targets
        self._seed = seed
        self._protocol = protocol
        self._traced = traced

    def target_at(self, rate: float) -> Target:
        if self.mix is None:
            return self.target
        rng = np.random.default_rng([self._seed, 1])
        return mixed(self._targets, self.mix.kinds(rate, _TURNS, rng))

    def parts(self) -> Mapping[str, Running]:
        return {name: self._part(name) for name in self._repository.tuned}

    def _part(self, name: str) -> RunningTriton:
        """The same server, where only this model is asked; its pool is that of the mix, or what the
        pipeline sends to it.
        """
        target, items = self._targets.get(name), self.items
        if target is None:
            signature = self.control.signature(name)
            requests = Requests.of(signature, self._pools[name].pool(signature))
            answers = ask(self.control, name, "", requests)
            stack = ExitStack()
            target = send_to(
                self.server, self.control, name, self._protocol, requests, answers, "", False, stack
            )
            items = float(np.mean(requests.sizes))
        return RunningTriton(
            self.server,
            self.control,
            name,
            target,
            self.launch_seconds,
            self._gpus,
            self._others,
            items,
            answer_seconds=self.answer_seconds,
        )

    @property
    def _pools(self) -> Mapping[str, Contents]:
        """What composing models are asked with: traced where the pipeline says who calls whom; else
        made up.
        """
        if self._traced:
            return self._traced
        found: dict[str, Contents] = {n: Inputs(self._seed) for n in self._repository.tuned}
        for pipeline in self._repository.pipelines:
            if pipeline.models == (pipeline.name,):
                continue
            signature = self.control.signature(pipeline.name)
            pool = self._contents[pipeline.name].pool(signature)
            traced = trace_steps(self.server.endpoints, replace(pipeline, called=()), pool)
            fixed = {name: FixedInputs(tuple(map(tuple, own))) for name, own in traced.items()}
            found.update(fixed)
        self._traced.update(found)
        return self._traced


@dataclass(frozen=True)
class _Answered:
    """A model that has answered: where its requests go, of so many items in the mean, and the
    version that gave the first answers, the last of them after so many seconds.
    """

    target: Target
    items: float
    seconds: float
    version: str


class RepositoryDeployment:
    """Starts a server with all models of a repository per candidate; candidate None is the
    repository as it is.

    The server gets a copy of the repository with the candidate's configurations: what is measured
    is what is exported.
    """

    def __init__(
        self,
        launcher: Launcher,
        repository: Repository,
        protocol: Transport,
        contents: Mapping[str, Contents],
        mix: Mix | None = None,
        startup_timeout: float = 120.0,
        gpus: Gpus | None = None,
        shared_memory: bool = False,
        deadline: Deadline | None = None,
        others: Sequence[str] = (),
        opens: Opened = "inference",
        seed: int = 0,
        cache_hits: float | None = None,
    ) -> None:
        """``contents`` of the requests to each model that is asked, in the shares of the ``mix``;
        the rest as of ``TritonDeployment``.
        """
        self._launcher = launcher
        self._repository = repository
        self._protocol = protocol
        self._contents = contents
        self._mix = mix
        self._timeout = startup_timeout
        self._gpus = gpus or Gpus("none")
        self._shared_memory = shared_memory
        self._deadline = deadline or Deadline()
        self._others = tuple(others)
        self._opens = opens
        self._seed = seed
        self._cache_hits = cache_hits
        self._servers: list[Server] = []
        self._complete: set[tuple[str | None, ...]] = set()
        self._traced: dict[str, Contents] = {}

    @property
    def gpu_count(self) -> int:
        """The GPUs that its servers see."""
        return len(self._gpus.devices)

    def runs_side_by_side(self, memory: Sequence[int | None]) -> bool:
        """As ``TritonDeployment.runs_side_by_side``."""
        return side_by_side(self._launcher, self._gpus, memory)

    def configs_of(self, candidate: Candidate) -> Mapping[str, Any]:
        """The ModelConfigs of all models."""
        return self._repository.render(candidate)

    def can_change(self, one: Candidate, other: Candidate) -> bool:
        """Whether they differ in their instances alone, and no ensemble would have to be loaded
        again with its composing models: that has crashed servers.
        """
        has_ensemble = len(self._repository.tuned) < len(self._repository.configs)
        if has_ensemble or self._repository.pipeline is not None:
            return False
        if not self._launcher.reads_in_place() or server_flags(one) != server_flags(other):
            return False
        pairs = zip(self.configs_of(one).values(), self.configs_of(other).values(), strict=True)
        return all(_without_instances(a) == _without_instances(b) for a, b in pairs)

    @contextmanager
    def start(
        self, candidate: Candidate | None, log: Path, as_served: bool = True
    ) -> Iterator[RunningRepository]:
        """Launch, load all models, and wait for the first answer of each that is asked; raises as
        ``TritonDeployment.start``.
        """
        began = time.monotonic()
        self._deadline.require()
        timeout = self._deadline.bound(self._timeout)
        others = self._gpus.users() - self._gpus.names(self._own_pids())
        with ExitStack() as stack:
            folder = self._repository.folder
            if candidate is not None or self._lacks_weights:
                folder = Path(stack.enter_context(scratch_folder("repository"))) / "models"
                self._stage(folder, candidate or Candidate())
            asked = self._repository.asked
            args = () if as_served or not self._is_complete(candidate) else AS_GIVEN
            flags = () if candidate is None else server_flags(candidate)
            opens, shares = self._opens, self._shared_memory
            spec = ServerSpec(folder, asked[0], log, timeout, (*args, *flags), opens, shares)
            server = stack.enter_context(self._launcher.launch(spec))
            control = stack.enter_context(Control(server))
            stack.enter_context(control.loaded(self._others, timeout))
            self._load(control, candidate)

            def change(to: Candidate) -> None:
                self._write(folder, to)
                self._load(control, to)
                running.steps = self._instances(control)

            answered = {name: self._ask(server, control, name, stack) for name in asked}
            in_force = control.in_force(asked[0])
            target = self._target(answered)
            if in_force.response_cache.enable and self._cache_hits is not None:
                target = varied(target, self._cache_hits)
            running = RunningRepository(
                server,
                control,
                asked[0],
                target,
                time.monotonic() - began,
                self._gpus,
                others,
                float(np.mean([each.items for each in answered.values()])),
                counted=self._mix is None and is_counted(in_force),
                version=answered[asked[0]].version,
                answer_seconds=max(each.seconds for each in answered.values()),
                change=change,
                shares_gpu=lambda: len(self._servers) > 1,
                steps=self._instances(control),
                repository=self._repository,
                contents=self._contents,
                targets={name: each.target for name, each in answered.items()},
                mix=self._mix,
                seed=self._seed,
                protocol=self._protocol,
                traced=self._traced,
            )
            self._servers.append(server)
            try:
                yield running
            finally:
                self._servers.remove(server)

    def _ask(self, server: Server, control: Control, name: str, stack: ExitStack) -> "_Answered":
        signature = control.signature(name)
        requests = Requests.of(signature, self._contents[name].pool(signature))
        answers = ask(control, name, "", requests)
        shared = self._shared_memory
        protocol = self._protocol
        target = send_to(server, control, name, protocol, requests, answers, "", shared, stack)
        items = float(np.mean(requests.sizes))
        return _Answered(target, items, answers.seconds, answers.version)

    def _target(self, answered: Mapping[str, "_Answered"]) -> Target:
        """Where requests go: all to one model or, of a mix, as often to each as it says."""
        targets = {name: each.target for name, each in answered.items()}
        if self._mix is None:
            return targets[self._repository.asked[0]]
        rate = sum(held for _, held in self._mix.held) or 1.0
        rng = np.random.default_rng([self._seed, 0])
        return mixed(targets, self._mix.kinds(rate, _TURNS, rng))

    def _instances(self, control: Control) -> dict[str, int]:
        """Of each model whose settings vary, how many there are."""
        return {
            name: count_instances(control.in_force(name), self.gpu_count)[0]
            for name in self._repository.tuned
        }

    def _own_pids(self) -> frozenset[int]:
        return frozenset(pid for server in self._servers for pid in server.pids())

    def _stage(self, folder: Path, candidate: Candidate) -> None:
        """A copy of the repository with the candidate's configurations."""
        folder.mkdir()
        source = self._repository.folder
        for name in self._repository.configs:
            copy_model(complete_model(source / name), folder / name, link_or_copy)
        for other in copy_beside(source, self._repository.configs, folder, link_or_copy):
            (folder / other.name).symlink_to(other.resolve())
        self._write(folder, candidate)

    @cached_property
    def _lacks_weights(self) -> bool:
        """Whether a model's weights are made at first use, and kept elsewhere."""
        folder = self._repository.folder
        return any(complete_model(folder / n) != folder / n for n in self._repository.configs)

    def _write(self, folder: Path, candidate: Candidate) -> None:
        for name, config in self.configs_of(candidate).items():
            file, text = folder / name / CONFIG, to_text(config)
            if file.is_file() and file.read_text(encoding="utf-8") == text:
                continue
            file.unlink(missing_ok=True)  # a hard link: the original is not to be written to
            file.write_text(text, encoding="utf-8")

    def _load(self, control: Control, candidate: Candidate | None) -> None:
        """All models at once, and then the ensembles of them, the inner ones first; ServerFailed,
        with the model's name, if one does not load, perhaps since it does so only alone.
        """
        tuned = self._repository.tuned
        timeout = self._deadline.bound(self._timeout)

        def load(name: str) -> None:
            try:
                loaded(control, name, None, timeout, self._launcher)
            except ServerFailed as error:
                others = len(tuned) - 1
                beside = f" beside {others} other{'s' * (others > 1)}" if others else ""
                raise ServerFailed(f"{name} does not load{beside}: {error}") from error

        with ThreadPoolExecutor(len(tuned)) as pool:
            list(pool.map(load, tuned))
        for name in self._repository.configs:
            if name not in tuned:
                load(name)
        if candidate is not None:
            found = {name: control.in_force(name) for name in self._repository.tuned}
            for name, in_force in found.items():
                check_in_force(candidate.part(name), in_force, name)
            configs = self.configs_of(candidate)
            if not any(completed(configs[name], in_force) for name, in_force in found.items()):
                self._complete.add(self._schedulers(candidate))
        for name in self._repository.asked:
            self._check_size(name, control.in_force(name).max_batch_size)

    def _is_complete(self, candidate: Candidate | None) -> bool:
        """Whether a launch has shown that Triton has nothing to add."""
        return candidate is not None and self._schedulers(candidate) in self._complete

    def _schedulers(self, candidate: Candidate) -> tuple[str | None, ...]:
        configs = self.configs_of(candidate).values()
        return tuple(config.WhichOneof(SCHEDULER) for config in configs)

    def _check_size(self, model: str, largest: int) -> None:
        asked = self._contents[model].batches.largest
        if largest and largest < asked:
            raise ServerFailed(
                f"max_batch_size {largest} of {model} is below the largest request of the load, "
                f"{asked} items: the server would refuse such requests"
            )


def _without_instances(config: Any) -> Any:
    config.ClearField("instance_group")
    return config
