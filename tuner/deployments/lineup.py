"""The deployments that are compared: three ways to serve a model, and services of the user's."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from tuner.deployments.base import Deployment
from tuner.deployments.own import OwnService, own_deployment
from tuner.deployments.payload import Payload
from tuner.deployments.service import Aim, ServiceDeployment
from tuner.deployments.subjects import ConfiguredTriton
from tuner.deployments.triton import RunningTriton, TritonDeployment
from tuner.errors import LauncherUnavailable
from tuner.load.target import Target, body_target
from tuner.model.config import parse_config
from tuner.model.space import DYNAMIC_BATCHING, Candidate
from tuner.records.comparison import Kind, Sends
from tuner.servers.gpu import Gpus
from tuner.servers.service import ServiceSpec, tuner_command
from tuner.serving.loading import PROCESSING_FILE

NAMES = ("naive", "fastapi", "triton", "triton-unbatched", "triton-tuned", "hybrid")
_TITLES = {
    "naive": "FastAPI (naive)",
    "fastapi": "FastAPI",
    "triton": "Triton (baseline)",
    "triton-unbatched": "Triton tuned, without batching",
    "triton-tuned": "Triton tuned",
    "hybrid": "FastAPI in front of Triton",
}
_PREDICT = "/predict"


@dataclass(frozen=True)
class Entry:
    """A deployment with the words about it; ``swaps`` says how its model can be replaced while it
    serves, None if tuner cannot do that; ``as_found`` that Triton reads the model's own file,
    ``is_running`` that others started it.
    """

    name: str
    title: str
    kind: Kind
    what: str
    deployment: Deployment
    sends: Sends
    tuned: bool = False
    batching: bool = False
    swaps: Literal["load", "restart"] | None = None
    as_found: bool = False
    is_running: bool = False


@dataclass(frozen=True)
class Lineup:
    """What all deployments share. ``tuned`` is the configuration to use, None for the model's own;
    ``searched`` says whether a search found it. ``own`` are the settings of the model's own
    configuration.
    """

    model: Path
    triton: TritonDeployment
    payload: Payload
    gpus: Gpus
    tuned: Candidate | None = None
    searched: bool = False
    own: Candidate = field(default_factory=Candidate)
    workers: int = 1
    gateway_workers: int = 1
    processing: str | None = None
    startup_timeout: float = 120.0
    cores: frozenset[int] = frozenset()
    """Of the services; any if there are none."""

    def entries(self, names: tuple[str, ...], own: Mapping[str, OwnService]) -> Iterator[Entry]:
        """Those of these names, in the order of ``NAMES``, and the user's own."""
        makers: dict[str, Callable[[], Entry]] = {
            "naive": self._naive,
            "fastapi": self._fastapi,
            "triton": self._as_found,
            "triton-unbatched": self._unbatched,
            "triton-tuned": self._tuned,
            "hybrid": self._hybrid,
        }
        for name in NAMES:
            if name in names and not (name == "triton-tuned" and self.tuned is None):
                yield makers[name]()
        for name, service in own.items():
            deployment = own_deployment(service, self.payload, self.gpus, self.cores)
            running = service.url is not None
            title, what = service.title or name, service.shown
            yield Entry(name, title, "service", what, deployment, "own", is_running=running)

    @property
    def _sends(self) -> Sends:
        return "text" if self.payload.sends_text else "tensors"

    def _naive(self) -> Entry:
        words = ("--naive",)
        what = "one process; each request is computed on the event loop"
        return self._service("naive", "naive", what, words, 1)

    def _fastapi(self) -> Entry:
        threads = max(1, _cores() // self.workers)
        words = ("--workers", str(self.workers), "--threads", str(threads))
        each = f"{threads} thread{'s' if threads > 1 else ''} each"
        what = f"{self.workers} uvicorn worker{'s' if self.workers > 1 else ''}, {each}"
        return self._service("fastapi", "fastapi", what, words, self.workers)

    def _service(
        self, name: str, kind: Kind, what: str, words: tuple[str, ...], workers: int
    ) -> Entry:
        def specify(_: RunningTriton | None, log: Path) -> ServiceSpec:
            def command(port: int) -> tuple[str, ...]:
                where = ("--host", "127.0.0.1", "--port", str(port))
                own = self._processing_words()
                return tuner_command("serve", "fastapi", str(self.model), *where, *own, *words)

            return self._spec(command, log, workers)

        deployment = ServiceDeployment(parse_config("", "a service"), specify, self._aim, self.gpus)
        return Entry(name, _TITLES[name], kind, what, deployment, self._sends, swaps="restart")

    def _as_found(self) -> Entry:
        made = self._triton("triton", _TITLES["triton"], None, self.own)
        return replace(made, tuned=True) if self.searched and self.tuned is None else made

    def _unbatched(self) -> Entry:
        settings = {**dict((self.tuned or self.own).settings), DYNAMIC_BATCHING: False}
        candidate = Candidate.of(settings)
        name = "triton-unbatched"
        return self._triton(name, _TITLES[name], candidate, candidate)

    def _tuned(self) -> Entry:
        assert self.tuned is not None
        name = "triton-tuned"
        made = self._triton(name, _TITLES[name], self.tuned, self.tuned)
        return replace(made, tuned=True)

    def _triton(
        self, name: str, title: str, candidate: Candidate | None, words: Candidate
    ) -> Entry:
        deployment = ConfiguredTriton(self.triton, candidate)
        batching = deployment.config.HasField("dynamic_batching")
        return Entry(
            name,
            title,
            "triton",
            str(words),
            deployment,
            "tensors",
            batching=batching,
            swaps="load",
            as_found=candidate is None,
        )

    def _hybrid(self) -> Entry:
        behind = ConfiguredTriton(self.triton, self.tuned)

        def specify(triton: RunningTriton | None, log: Path) -> ServiceSpec:
            assert triton is not None
            address = triton.server.endpoints.grpc
            if address is None:
                raise LauncherUnavailable("the gateway needs Triton's gRPC service: add --grpc-url")

            def command(port: int) -> tuple[str, ...]:
                where = ("--host", "127.0.0.1", "--port", str(port), "--triton", address)
                words = (*self._processing_words(), "--workers", str(self.gateway_workers))
                return tuner_command("serve", "gateway", self.model.name, *where, *words)

            return self._spec(command, log, self.gateway_workers)

        deployment = ServiceDeployment(behind.config, specify, self._aim, self.gpus, behind)
        tuned = "tuned" if self.tuned else "baseline"
        workers = self.gateway_workers
        return Entry(
            "hybrid",
            _TITLES["hybrid"],
            "hybrid",
            f"{workers} gateway worker{'s' if workers > 1 else ''}, then Triton ({tuned})",
            deployment,
            self._sends,
            batching=behind.config.HasField("dynamic_batching"),
            tuned=self.tuned is not None,
            swaps="load",
            as_found=self.tuned is None,
        )

    def _processing_words(self) -> tuple[str, ...]:
        own = self.model / PROCESSING_FILE
        found = self.processing or (str(own) if own.is_file() else None)
        return () if found is None else ("--processing", found)

    def _spec(
        self, command: Callable[[int], tuple[str, ...]], log: Path, workers: int
    ) -> ServiceSpec:
        return ServiceSpec(
            command,
            log,
            workers=workers,
            startup_timeout=self.startup_timeout,
            cores=self.cores,
        )

    @property
    def _aim(self) -> Aim:
        bodies = self.payload.json()

        def aim(address: str) -> Target:
            return body_target(address, _PREDICT, bodies)

        return aim


def _cores() -> int:
    return len(os.sched_getaffinity(0))
