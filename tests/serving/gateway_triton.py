"""A Triton of the tests that can be killed, and started again at the same addresses."""

import os
import shutil
import signal
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import pytest

from tuner.model.config import read_config, to_json
from tuner.servers import program
from tuner.servers.base import Server, ServerSpec
from tuner.servers.control import Control
from tuner.servers.local import LocalLauncher

ROOT = Path(__file__).parents[2]
SECONDS = 60.0


class Triton:
    """``folder`` gets copies of the sample models."""

    def __init__(self, folder: Path, models: Sequence[str]) -> None:
        self.folder = folder
        self._models = models
        self._ports = program.free_ports(3)
        self._stack = ExitStack()
        self._server: Server | None = None
        self._as_in_files: set[str] = set()
        self._launcher = LocalLauncher()
        for model in models:
            shutil.copytree(
                ROOT / "model_repository" / model,
                folder / model,
                ignore=shutil.ignore_patterns("__pycache__"),
            )

    @property
    def http(self) -> str:
        return f"127.0.0.1:{self._ports[0]}"

    @property
    def grpc(self) -> str:
        return f"127.0.0.1:{self._ports[1]}"

    def ensure(self) -> Self:
        """It runs, and its models are loaded as their files say."""
        if self._server is None:
            self.start()
        for model in set(self._models) - self._as_in_files:
            # By its words: Triton takes files that did not change for what it has loaded already.
            self.load(model, to_json(read_config(self.folder / model)))
            self._as_in_files.add(model)
        return self

    def start(self) -> Self:
        """Without a model; it does not run yet."""
        spec = ServerSpec(
            self.folder, self._models[0], self.folder / "server.log", SECONDS, opens="model"
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(program, "free_ports", lambda _: self._ports)
            self._server = self._stack.enter_context(self._launcher.launch(spec))
        return self

    def load(self, model: str, config_json: str | None = None) -> None:
        self._as_in_files.discard(model)
        with Control(self.server) as control:
            control.load(model, config_json, SECONDS)

    @property
    def server(self) -> Server:
        assert self._server is not None
        return self._server

    def kill(self) -> None:
        """At once, as where it crashes."""
        os.kill(self.server.pids()[0], signal.SIGKILL)
        self.stop()

    def stop(self) -> None:
        self._stack.close()
        self._server = None
        self._as_in_files.clear()

    def pause(self, on: bool) -> None:
        """Let the server hang: it takes connections and answers nothing.

        It goes on after the processes of its models: it would take one that still hangs for dead.
        """
        pids = self.server.pids()
        for pid in pids if on else reversed(pids):
            os.kill(pid, signal.SIGSTOP if on else signal.SIGCONT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._launcher.close()
