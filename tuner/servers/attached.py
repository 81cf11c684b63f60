"""A running server: candidates are loaded into it, and its own configuration is restored."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tuner.errors import LauncherUnavailable, ServerFailed
from tuner.servers.address import is_loopback
from tuner.servers.base import Endpoints, Launcher, Server, ServerSpec
from tuner.servers.connection import unreachable
from tuner.servers.control import Control


class AttachedServer(Server):
    """An endpoint about which nothing is known but its replies."""

    def __init__(self, endpoints: Endpoints) -> None:
        self.endpoints = endpoints

    def exit_reason(self) -> str | None:
        reason = unreachable(self.endpoints)
        return None if reason is None else f"the endpoint no longer answers: {reason}"

    def log_tail(self) -> str:
        return ""

    def pids(self) -> tuple[int, ...]:
        return ()


class AttachedLauncher(Launcher):
    """Uses an endpoint that runs with ``--model-control-mode=explicit``, which candidates need.
    When the context is left, the configuration found at launch is in force again.
    """

    name = "attached"

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints
        self._version = ""

    def gpus(self) -> str:
        return "none"  # it may run on another machine

    def starts_several(self) -> bool:
        return False

    def shares_memory(self) -> bool:
        return is_loopback(self._endpoints.http)

    def describe(self) -> Mapping[str, str]:
        return {
            "launcher": self.name,
            "server": f"{self._version or 'Triton'} at {self._endpoints.root('http')}",
        }

    def check(self) -> None:
        reason = unreachable(self._endpoints)
        if reason is not None:
            root = self._endpoints.root("http")
            raise LauncherUnavailable(f"no Triton server answers at {root}: {reason}")

    @contextmanager
    def launch(self, spec: ServerSpec) -> Iterator[Server]:
        self.check()
        server = AttachedServer(self._endpoints)
        with Control(server) as control:
            metadata = control.server()
            self._version = f"{metadata.get('name')} {metadata.get('version')}"
            original = control.config(spec.model) if control.is_ready(spec.model) else None
            try:
                yield server
            finally:
                _restore(control, spec, original)


def _restore(control: Control, spec: ServerSpec, original: dict[str, Any] | None) -> None:
    try:
        if original is None:
            control.unload(spec.model, spec.startup_timeout)
            return
        if control.is_ready(spec.model) and control.config(spec.model) == original:
            return
        control.load(spec.model, json.dumps(original), spec.startup_timeout)
    except ServerFailed as error:
        raise LauncherUnavailable(
            f"could not restore the original configuration of {spec.model}: {error}"
        ) from error
