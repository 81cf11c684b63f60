"""Tensors in shared memory, on the embedded Triton."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tuner.deployments.first_answers import Answers, Output
from tuner.deployments.memory import output_bytes
from tuner.deployments.triton import Inputs, TritonDeployment
from tuner.errors import LauncherUnavailable, ServerFailed, StorageError, UsageError
from tuner.load.batches import BatchMix
from tuner.load.generator import LoadGenerator
from tuner.load.shared import SharedTensors
from tuner.load.target import Slot, Tensor, Transport
from tuner.model.config import read_config
from tuner.model.signature import Signature, TensorSpec
from tuner.model.space import MAX_BATCH_SIZE, Candidate
from tuner.servers.attached import AttachedLauncher
from tuner.servers.base import Endpoints, Launcher, Server, ServerSpec
from tuner.servers.connection import open_client
from tuner.servers.control import Control
from tuner.servers.local import LocalLauncher

MODEL = "emulated_gpu"  # it gives back what it gets
triton = [pytest.mark.triton, pytest.mark.usefixtures("embedded_triton")]
SHM = Path("/dev/shm")
POOL = [[Tensor("x", "UINT8", np.array([[n, n, n]], dtype=np.uint8))] for n in range(3)]


def regions() -> set[str]:
    return {file.name for what in ("inputs", "outputs") for file in SHM.glob(f"tuner-{what}-*")}


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    before = regions()
    yield
    assert regions() == before


@pytest.fixture(scope="module")
def server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("logs") / "server.log"
    with (
        LocalLauncher() as launcher,
        launcher.launch(ServerSpec(repository, MODEL, log)) as server,
        Control(server) as control,
    ):
        control.load(MODEL, None, 60.0)
        yield server


@pytest.fixture(scope="module")
def generator() -> Iterator[LoadGenerator]:
    with LoadGenerator() as generator:
        yield generator


def deployment(
    repository: Path, launcher: Launcher, protocol: Transport = Transport.HTTP, shared: bool = True
) -> TritonDeployment:
    config = read_config(repository / MODEL)
    inputs = Inputs(batches=BatchMix.parse("1,3"))
    model = repository / MODEL
    return TritonDeployment(launcher, model, config, protocol, inputs, shared_memory=shared)


def registered(server: Server) -> list[dict[str, Any]]:
    url = f"http://{server.endpoints.http}/v2/systemsharedmemory/status"
    with open_client(server.endpoints) as client:
        found: list[dict[str, Any]] = client.call("GET", url, 5).json()
    return found


class TestOnAServer:
    pytestmark = triton

    @pytest.mark.parametrize("protocol", Transport)
    def test_tensors_come_and_go_through_memory(
        self,
        repository: Path,
        server: Server,
        generator: LoadGenerator,
        protocol: Transport,
        tmp_path: Path,
    ) -> None:
        before = regions()
        deployed = deployment(repository, AttachedLauncher(server.endpoints), protocol)
        with deployed.start(None, tmp_path / "log") as running:
            mine = {region.split("-")[1]: region for region in regions() - before}
            assert {each["key"] for each in registered(server)} == {f"/{x}" for x in mine.values()}
            generator.aim(running.target)
            result = generator.closed_loop(2, 1.5, drain=5.0)
            assert len(result.samples) >= len(running.target.requests)
            assert result.samples.errors == 0, result.messages
            sent, got = ((SHM / mine[what]).read_bytes() for what in ("inputs", "outputs"))
            assert running.items == 2
        assert sent == got
        assert np.frombuffer(sent, np.float32).any()
        assert registered(server) == []

    def test_the_same_is_measured_without(
        self, repository: Path, server: Server, generator: LoadGenerator, tmp_path: Path
    ) -> None:
        before = regions()
        deployed = deployment(repository, AttachedLauncher(server.endpoints), shared=False)
        with deployed.start(None, tmp_path / "log") as running:
            assert regions() == before
            generator.aim(running.target)
            assert generator.closed_loop(2, 0.3, drain=5.0).samples.errors == 0

    def test_an_interrupt_leaves_nothing(
        self, repository: Path, server: Server, tmp_path: Path
    ) -> None:
        deployed = deployment(repository, AttachedLauncher(server.endpoints))
        during = []

        def interrupted() -> None:
            with deployed.start(None, tmp_path / "log"):
                during.extend(registered(server))
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert len(during) == 2
        assert registered(server) == []

    def test_requests_given_up_do_not_keep_the_memory(
        self, repository: Path, server: Server, generator: LoadGenerator, tmp_path: Path
    ) -> None:
        deployed = deployment(repository, AttachedLauncher(server.endpoints))
        with deployed.start(None, tmp_path / "log") as running:
            generator.aim(running.target)
            given_up = generator.closed_loop(300, 0.05, drain=0.01)
            assert given_up.samples.errors > 0
        assert registered(server) == []

    def test_a_dead_server_leaves_nothing(self, repository: Path, tmp_path: Path) -> None:
        with LocalLauncher() as launcher:
            deployed = deployment(repository, launcher)

            def killed() -> None:
                with deployed.start(None, tmp_path / "log") as running:
                    os.kill(running.server.pids()[0], signal.SIGKILL)
                    while running.server.exit_reason() is None:
                        time.sleep(0.01)
                    running.raise_if_gone()

            with pytest.raises(ServerFailed, match="SIGKILL"):
                killed()

    def test_memory_that_the_server_cannot_open_is_told(
        self,
        repository: Path,
        server: Server,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """As in a container of its own: the key means nothing there."""
        elsewhere = Control.register_memory
        monkeypatch.setattr(
            Control,
            "register_memory",
            lambda self, name, key, size: elsewhere(self, name, "/tuner-elsewhere", size),
        )
        deployed = deployment(repository, AttachedLauncher(server.endpoints))
        with (
            pytest.raises(LauncherUnavailable, match="use --shared-memory none"),
            deployed.start(None, tmp_path / "log"),
        ):
            pytest.fail("it started")

    @pytest.mark.parametrize("candidate", [None, Candidate.of({MAX_BATCH_SIZE: 4})])
    def test_batches_that_the_model_does_not_take_fail_at_once(
        self, repository: Path, server: Server, tmp_path: Path, candidate: Candidate | None
    ) -> None:
        deployed = TritonDeployment(
            AttachedLauncher(server.endpoints),
            repository / MODEL,
            read_config(repository / MODEL),
            Transport.HTTP,
            Inputs(batches=BatchMix.parse("1,16")),
        )
        with (
            pytest.raises(ServerFailed, match="is below the largest request of the load, 16 items"),
            deployed.start(candidate, tmp_path / "log"),
        ):
            pytest.fail("it started")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.0.1", "[::1]"])
def test_a_loopback_address_is_this_machine(host: str) -> None:
    assert AttachedLauncher(Endpoints(f"{host}:8000")).shares_memory()


@pytest.mark.parametrize("host", ["example.org", "192.0.2.1"])
def test_another_address_is_not(host: str) -> None:
    assert not AttachedLauncher(Endpoints(f"{host}:8000")).shares_memory()


def test_a_server_elsewhere_is_refused(repository: Path) -> None:
    with pytest.raises(UsageError, match="cannot be used with the launcher attached"):
        deployment(repository, AttachedLauncher(Endpoints("192.0.2.1:8000")))


def test_places_do_not_overlap() -> None:
    with SharedTensors(POOL, [{"y": 70, "text": None}] * 3) as shared:
        inputs, outputs = shared.regions
        content = (SHM / inputs.name).read_bytes()
        for n, placement in enumerate(shared.placements):
            (slot,) = placement.inputs
            assert content[slot.offset : slot.offset + slot.size] == bytes([n, n, n])
            assert dict(placement.outputs)["text"] is None
        slots = [dict(placement.outputs)["y"] for placement in shared.placements]
        assert slots == [Slot(outputs.name, 128 * n, 70) for n in range(3)]
        assert outputs.size == (SHM / outputs.name).stat().st_size == 3 * 128


def test_without_room_it_is_told() -> None:
    with pytest.raises(StorageError, match="use --shared-memory none"):
        SharedTensors(POOL, [{"y": 1 << 50}] * 3)


def test_a_killed_process_leaves_nothing() -> None:
    code = (
        "import os, signal, tests.deployments.test_shared_memory as t;"
        "s = t.SharedTensors(t.POOL, [{}] * 3);"
        "print(s.regions[0].name, flush=True);"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    name = done.stdout.strip()
    assert name.startswith("tuner-inputs-")
    deadline = time.monotonic() + 10
    while (SHM / name).exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not (SHM / name).exists()


def test_outputs_get_the_room_they_need() -> None:
    specs = (
        TensorSpec("fixed", "FP32", (4,)),
        TensorSpec("open", "INT64", (-1,)),
        TensorSpec("text", "BYTES", (1,)),
    )
    outputs = (
        Output("fixed", "FP32", (2, 4), 32),
        Output("open", "INT64", (2, 3), 48),
        Output("text", "BYTES", (2, 1), 9),
    )
    found = output_bytes(Signature("m", (), specs, 8), Answers({2: outputs}, "1", 0.0))
    assert found == {2: {"fixed": 32, "open": 96, "text": None}}
