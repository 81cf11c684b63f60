"""HTTP services: FastAPI, alone or in front of Triton, and those of the user's."""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import requests

from tuner.deployments.base import FIRST_ANSWER_SECONDS, Deployment, Running
from tuner.deployments.triton import RunningTriton
from tuner.errors import ServerFailed
from tuner.load.clients import ask_once
from tuner.load.target import Target
from tuner.records.results import ServerTimes, Stages
from tuner.servers.base import ResourceUsage, Server, raise_if_ended
from tuner.servers.causes import out_of_memory
from tuner.servers.gpu import Gpus
from tuner.servers.gpu_watch import GpuWatch
from tuner.servers.host_watch import HostWatch
from tuner.servers.http_client import HttpClient
from tuner.servers.python_errors import without_frames
from tuner.servers.readings import gauge
from tuner.servers.service import ServiceSpec, launch_service
from tuner.servers.settings import HTTP

_SUM = re.compile(
    r'^tuner_stage_seconds_(sum|count)\{stage="(\w{1,99})"\} (\S{1,99})$', re.MULTILINE
)
_TRITON = "triton"
Specify = Callable[[RunningTriton | None, Path], ServiceSpec]
"""How a service is started: in front of this Triton, if any, with its log in this file."""
Aim = Callable[[str], Target]
"""What is sent to a service at this ``host:port``."""


class Group:
    """Servers that serve together: what they use is what all of them use."""

    def __init__(self, servers: Sequence[Server]) -> None:
        self._servers = servers

    def usage(self) -> ResourceUsage | None:
        each = [server.usage() for server in self._servers]
        known = [usage for usage in each if usage is not None]
        if len(known) < len(each) or not known:
            return None
        sizes = [usage.memory for usage in known if usage.memory is not None]
        return ResourceUsage(
            cpu=sum(usage.cpu for usage in known),
            memory=sum(sizes) if len(sizes) == len(known) else None,
            processes=sum(usage.processes for usage in known),
        )


class RunningService(Running):
    """A service that answers; ``behind`` is the Triton that it asks, if there is one.

    ``server`` is its process; None if it is one that others run. ``counts`` says that it offers the
    metrics of tuner's own services.
    """

    items = 1.0

    def __init__(
        self,
        server: Server | None,
        target: Target,
        launch_seconds: float,
        gpus: Gpus,
        others: frozenset[str],
        behind: RunningTriton | None = None,
        counts: bool = True,
    ) -> None:
        self.server = server
        self.target = target
        self.launch_seconds = launch_seconds
        self.behind = behind
        self._counts = counts
        self._gpus = gpus
        self._others = others
        self._client = HttpClient()

    def raise_if_gone(self) -> None:
        if self.behind is not None:
            self.behind.raise_if_gone()
        if self.server is not None:
            raise_if_ended(self.server)

    def raise_if_full(self, messages: tuple[str, ...]) -> None:
        for line in filter(None, map(out_of_memory, messages)):
            raise ServerFailed(f"requests fail under load: {line}")

    def raise_if_refused(self, messages: tuple[str, ...]) -> None:
        """That is this service's fault alone: others may take the same credentials."""
        for message in messages:
            if re.search(r"HTTP status 40[13]\b", message):
                raise ServerFailed(f"authentication at the service failed ({message})")

    def statistics(self) -> dict[str, Any]:
        counted = self._stages() if self._counts else {}
        behind = {} if self.behind is None else {_TRITON: self.behind.statistics()}
        return {**counted, **behind}

    def times_since(self, before: dict[str, Any]) -> ServerTimes | None:
        return None if self.behind is None else self.behind.times_since(before[_TRITON])

    def cached_since(self, before: dict[str, Any]) -> float | None:
        return None if self.behind is None else self.behind.cached_since(before[_TRITON])

    def stages_since(self, before: dict[str, Any]) -> Stages | None:
        after = self._stages() if self._counts else {}
        means, counts = {}, []
        for stage, (spent, number) in after.items():
            first, known = before.get(stage, (0.0, 0.0))
            if number > known:
                means[stage] = max(0.0, (spent - first) / (number - known))
                counts.append(int(number - known))
        return Stages(requests=max(counts), seconds=means) if counts else None

    def _stages(self) -> dict[str, tuple[float, float]]:
        """Seconds and number of each stage so far; empty if it does not tell."""
        try:
            reply = self._client.call("GET", f"http://{self.target.address}/metrics", HTTP.metrics)
        except requests.RequestException:
            return {}
        found: dict[str, dict[str, float]] = {}
        for what, stage, text in _SUM.findall(reply.text):
            value = gauge(text)
            if value is not None:
                found.setdefault(stage, {})[what] = value
        return {s: (v["sum"], v["count"]) for s, v in found.items() if len(v) == len(("s", "c"))}

    def watch_gpus(self) -> GpuWatch:
        return GpuWatch(self._gpus, self._others)

    def watch_host(self) -> HostWatch:
        behind = () if self.behind is None else (self.behind.server,)
        own = () if self.server is None else (self.server,)
        return HostWatch(Group((*own, *behind)))

    def pids(self) -> tuple[int, ...]:
        if self.server is None:
            return ()
        behind = None if self.behind is None else self.behind.pids()
        return () if behind == () else (*self.server.pids(), *(behind or ()))


class ServiceDeployment:
    """A service that is started; with ``behind``, after the Triton that it asks."""

    def __init__(
        self,
        config: Any,
        specify: Specify,
        aim: Aim,
        gpus: Gpus | None = None,
        behind: Deployment | None = None,
        counts: bool = True,
    ) -> None:
        self.config = config
        self._specify = specify
        self._aim = aim
        self._gpus = gpus or Gpus("none")
        self._behind = behind
        self._counts = counts

    @contextmanager
    def start(self, log: Path) -> Iterator[RunningService]:
        began = time.monotonic()
        others = self._gpus.users()
        with ExitStack() as stack:
            behind = None
            if self._behind is not None:
                first = log.with_name(f"{log.stem}-triton{log.suffix}")
                found = stack.enter_context(self._behind.start(first))
                assert isinstance(found, RunningTriton)
                behind = found
            server = stack.enter_context(launch_service(self._specify(behind, log)))
            target = self._aim(server.endpoints.http)
            _ask(target, server)
            spent = time.monotonic() - began
            yield RunningService(server, target, spent, self._gpus, others, behind, self._counts)


class EndpointDeployment:
    """A service that others run already, at the target's address."""

    def __init__(self, config: Any, target: Target) -> None:
        self.config = config
        self._target = target

    @contextmanager
    def start(self, log: Path) -> Iterator[RunningService]:
        began = time.monotonic()
        _ask(self._target, None)
        yield RunningService(
            None, self._target, time.monotonic() - began, Gpus("none"), frozenset(), counts=False
        )


def _ask(target: Target, server: Server | None) -> None:
    """One request, as all that follow; ServerFailed if it does not succeed."""
    failure = ask_once(target, FIRST_ANSWER_SECONDS)
    if failure is None:
        return
    if server is not None:
        raise_if_ended(server)
    log = "" if server is None else server.log_tail()
    why = f"the first request to {target.address} did not succeed: {without_frames(failure)}"
    raise ServerFailed("\n".join(filter(None, (why, log))))
