"""What every launcher must do, run against each of them with real servers."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from tuner.deployments.triton import Inputs
from tuner.errors import ServerFailed
from tuner.load.target import http_body
from tuner.model.config import read_config, render, to_json
from tuner.model.space import Candidate
from tuner.servers.attached import AttachedLauncher
from tuner.servers.base import Endpoints, Launcher, ResourceUsage, Server, ServerSpec
from tuner.servers.control import Control, is_live
from tuner.servers.docker import ContainerSpec, DockerLauncher
from tuner.servers.local import LocalLauncher

MODEL = "emulated_gpu"
SECONDS = 60.0
LOCAL = pytest.param("local", marks=pytest.mark.triton)
DOCKER = pytest.param("docker", marks=pytest.mark.docker)
ATTACHED = pytest.param("attached", marks=pytest.mark.triton)


def make(kind: str, request: pytest.FixtureRequest, stack: ExitStack) -> Launcher:
    match kind:
        case "local":
            request.getfixturevalue("embedded_triton")
            return stack.enter_context(LocalLauncher())
        case "docker":
            image = request.getfixturevalue("test_image")
            return stack.enter_context(DockerLauncher(ContainerSpec(image=image)))
        case _:
            return stack.enter_context(AttachedLauncher(request.getfixturevalue("endpoints")))


@pytest.fixture(scope="module")
def endpoints(embedded_triton: None, spec: ServerSpec) -> Iterator[Endpoints]:
    """Those of a server that runs already, with the model loaded."""
    with LocalLauncher() as launcher, launcher.launch(spec) as server:
        with Control(server) as control:
            control.load(MODEL, None, SECONDS)
        yield server.endpoints


@pytest.fixture(scope="module", params=[LOCAL, DOCKER, ATTACHED])
def launcher(request: pytest.FixtureRequest) -> Iterator[Launcher]:
    with ExitStack() as stack:
        yield make(request.param, request, stack)


@pytest.fixture(scope="module", params=[LOCAL, DOCKER])
def owning(request: pytest.FixtureRequest) -> Iterator[Launcher]:
    """A launcher that starts servers of its own."""
    with ExitStack() as stack:
        yield make(request.param, request, stack)


@pytest.fixture(scope="module")
def own_server(owning: Launcher, spec: ServerSpec) -> Iterator[Server]:
    """One server for the tests of owning launchers that leave it as it is."""
    with owning.launch(spec) as server:
        yield server


@pytest.fixture(scope="module")
def attached(endpoints: Endpoints) -> Iterator[Launcher]:
    with AttachedLauncher(endpoints) as launcher:
        yield launcher


@pytest.fixture(scope="module")
def server(launcher: Launcher, spec: ServerSpec) -> Iterator[Server]:
    """One server for the tests that leave it as it is."""
    with launcher.launch(spec) as server:
        yield server


@pytest.fixture(scope="module")
def spec(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> ServerSpec:
    log = tmp_path_factory.mktemp("logs") / "server.log"
    return ServerSpec(repository, MODEL, log, startup_timeout=SECONDS)


def candidate_json(repository: Path, max_batch_size: int) -> str:
    candidate = Candidate((("max_batch_size", max_batch_size),))
    return to_json(render(read_config(repository / MODEL), candidate))


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
    }


def wait_for_exit(server: Server) -> str:
    deadline = time.monotonic() + SECONDS
    while (reason := server.exit_reason()) is None:
        assert time.monotonic() < deadline, "the end of the server was never noticed"
        time.sleep(0.05)
    return reason


def test_server_is_live_and_says_what_it_is(server: Server) -> None:
    assert is_live(server.endpoints)
    assert server.exit_reason() is None
    with Control(server) as control:
        assert control.server()["name"] == "triton"
        assert "nv_" in (control.metrics() or "")


def test_model_is_loaded_as_its_files_say(server: Server) -> None:
    with Control(server) as control:
        control.load(MODEL, None, SECONDS)
        assert control.is_ready(MODEL)
        assert control.config(MODEL)["max_batch_size"] == 8


def test_candidate_takes_the_place_of_the_models_own_configuration(
    server: Server, repository: Path
) -> None:
    before = contents(repository)
    with Control(server) as control:
        control.load(MODEL, candidate_json(repository, 16), SECONDS)
        assert control.is_ready(MODEL)
        assert control.config(MODEL)["max_batch_size"] == 16
    assert contents(repository) == before


def test_refused_configuration_is_reported_in_the_servers_words(
    server: Server, repository: Path
) -> None:
    config = read_config(repository / MODEL)
    config.parameters["exclusive_share"].string_value = "1.5"
    with Control(server) as control, pytest.raises(ServerFailed, match=r"exclusive_share is 1\.5"):
        control.load(MODEL, to_json(config), SECONDS)
    assert is_live(server.endpoints)


def test_launcher_is_described(launcher: Launcher) -> None:
    described = launcher.describe()
    assert described["launcher"] == launcher.name
    assert all(isinstance(value, str) and value for value in described.values())


def test_an_own_server_tells_what_it_uses(own_server: Server) -> None:
    with Control(own_server) as control:
        control.unload(MODEL, SECONDS)
        empty = usage_of(own_server)
        control.load(MODEL, None, SECONDS)
        loaded = usage_of(own_server)
        assert loaded.processes > empty.processes, "the model has a process of its own"
        assert empty.memory is not None
        assert loaded.memory is not None
        assert 2**20 < empty.memory < loaded.memory < 2**32
        assert 0 < empty.cpu < loaded.cpu
        pool = Inputs().pool(control.signature(MODEL))
        body, header_length = http_body(pool[0])
        worked = loaded
        for _ in range(100):
            for _ in range(30):  # an engine of Docker may take a second for each look
                control.infer(MODEL, "", body, header_length, SECONDS)
            before, worked = worked, usage_of(own_server)
            assert worked.cpu >= before.cpu
            if worked.cpu > loaded.cpu + 0.05:
                break
        assert worked.cpu > loaded.cpu + 0.05


def usage_of(server: Server) -> ResourceUsage:
    usage = server.usage()
    assert usage is not None
    return usage


@pytest.mark.triton
def test_of_an_attached_server_nothing_can_be_seen(attached: Launcher, spec: ServerSpec) -> None:
    with attached.launch(spec) as server:
        assert server.usage() is None


def test_reason_of_a_refusal_is_taken_from_the_log(own_server: Server, spec: ServerSpec) -> None:
    config = read_config(spec.repository / MODEL)
    config.dynamic_batching.preferred_batch_size[:] = [64]
    with (
        Control(own_server) as control,
        pytest.raises(ServerFailed, match="preferred size must be <= max batch size"),
    ):
        control.load(MODEL, to_json(config), SECONDS)


def test_own_server_is_gone_after_an_exception(
    owning: Launcher, spec: ServerSpec, tmp_path: Path
) -> None:
    other = replace(spec, log=tmp_path / "other.log")

    def interrupt(server: Server) -> None:
        assert server.pids()
        assert other.log.read_text()
        assert server.log_tail()
        with Control(server) as control:
            control.load(MODEL, None, SECONDS)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), owning.launch(other) as server:
        interrupt(server)
    assert not is_live(server.endpoints)
    assert server.usage() is None
    assert MODEL in other.log.read_text(), "the log is not complete"


def test_servers_side_by_side_have_addresses_of_their_own(
    owning: Launcher, spec: ServerSpec, tmp_path: Path
) -> None:
    one, other = (replace(spec, log=tmp_path / f"{name}.log") for name in ("one", "other"))
    with owning.launch(one) as first, owning.launch(other) as second:
        assert is_live(first.endpoints)
        assert is_live(second.endpoints)
        addresses = [
            address
            for server in (first, second)
            for address in (
                server.endpoints.http,
                server.endpoints.grpc,
                server.endpoints.metrics,
            )
        ]
        assert len(set(addresses)) == 6
        assert not set(first.pids()) & set(second.pids())
    assert not is_live(first.endpoints)
    assert not is_live(second.endpoints)


def test_killed_server_says_how_it_ended(
    owning: Launcher, spec: ServerSpec, tmp_path: Path
) -> None:
    with owning.launch(replace(spec, log=tmp_path / "killed.log")) as server:
        assert server.exit_reason() is None
        os.kill(server.pids()[0], signal.SIGKILL)
        assert "SIGKILL" in wait_for_exit(server)
        with Control(server) as control, pytest.raises(ServerFailed, match="SIGKILL"):
            control.load(MODEL, None, SECONDS)


def test_server_that_cannot_start_fails_with_its_log(
    owning: Launcher, spec: ServerSpec, tmp_path: Path
) -> None:
    args = ("--cache-config=nosuchcache,size=1",)
    wrong = replace(spec, log=tmp_path / "wrong.log", server_args=args)
    with pytest.raises(ServerFailed, match="nosuchcache"), owning.launch(wrong):
        pytest.fail("it started")
    assert "nosuchcache" in wrong.log.read_text()


@pytest.mark.triton
def test_attached_server_goes_on_as_it_was(attached: Launcher, spec: ServerSpec) -> None:
    with attached.launch(spec) as server, Control(server) as control:
        original = control.config(MODEL)
        control.load(MODEL, candidate_json(spec.repository, 4), SECONDS)
        assert control.config(MODEL) != original
    assert is_live(server.endpoints)
    with Control(server) as control:
        assert control.config(MODEL) == original


@pytest.mark.triton
def test_attached_server_survives_an_exception(attached: Launcher, spec: ServerSpec) -> None:
    with pytest.raises(KeyboardInterrupt), attached.launch(spec) as server:
        raise KeyboardInterrupt
    assert is_live(server.endpoints)
