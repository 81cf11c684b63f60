"""What the Docker launcher promises beyond the contract: hardening, clean-up, copies, errors."""

import contextlib
import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import pytest
import requests
from docker.types import Mount

from benchmarks.faults.containers import Way
from tuner.errors import LauncherUnavailable, RepositoryError, ServerFailed, UsageError
from tuner.servers.base import Server, ServerSpec
from tuner.servers.control import Control, is_live
from tuner.servers.docker import ContainerSpec, DockerLauncher
from tuner.servers.docker_engine import (
    OWNER_LABEL,
    ContainerOwner,
    engine_answers,
    image_present,
)

pytestmark = pytest.mark.docker
ROOT = Path(__file__).parents[2]
MODEL = "emulated_gpu"
SECONDS = 60.0
LAUNCH = """
import sys, time
from pathlib import Path
from tuner.servers.base import ServerSpec
from tuner.servers.control import Control, is_live
from tuner.servers.docker import ContainerSpec, DockerLauncher
image, repository, log, transfer, model = sys.argv[1:6]
spec = ServerSpec(Path(repository), "emulated_gpu", Path(log))
containers = ContainerSpec(image=image, transfer=transfer)
with DockerLauncher(containers) as launcher, launcher.launch(spec) as server:
    if model:
        with Control(server) as control:
            control.load(model, None, 60.0)
    print("ready at", server.endpoints.http, server.pids(), flush=True)
    time.sleep(0 if model else 600)
"""


@pytest.fixture
def client(engine: None) -> Iterator[Any]:
    client = docker.from_env()
    yield client
    client.close()


@pytest.fixture
def spec(repository: Path, tmp_path: Path) -> ServerSpec:
    return ServerSpec(repository, MODEL, tmp_path / "server.log", SECONDS)


def labelled(things: Any, **how: Any) -> list[Any]:
    return list(things.list(filters={"label": OWNER_LABEL}, **how))


def mine(client: Any, pid: int | None = None) -> list[Any]:
    """Containers that a process (this one, unless another is given) has started."""
    started = labelled(client.containers, all=True, ignore_removed=True)
    return [each for each in started if each.name.startswith(f"tuner-{pid or os.getpid()}-")]


@dataclass(frozen=True)
class Running:
    server: Server
    container: Any


@pytest.fixture(scope="class")
def running(
    engine: None, test_image: str, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """One container for the tests that look at it and leave it as it is."""
    spec = ServerSpec(repository, MODEL, tmp_path_factory.mktemp("running") / "log", SECONDS)
    client = docker.from_env()
    try:
        with (
            DockerLauncher(
                ContainerSpec(image=test_image, memory_limit=2**30, pids_limit=512)
            ) as launcher,
            launcher.launch(spec) as server,
        ):
            (container,) = mine(client)
            yield Running(server, container)
    finally:
        client.close()


class TestOneContainer:
    def test_container_is_hardened(self, running: Running) -> None:
        container = running.container
        host = container.attrs["HostConfig"]
        assert host["CapDrop"] == ["ALL"]
        assert not host["CapAdd"]
        assert not host["Privileged"]
        assert "no-new-privileges" in host["SecurityOpt"]
        assert host["ReadonlyRootfs"]
        assert host["PidsLimit"] == 512
        assert host["Memory"] == host["MemorySwap"] == 2**30
        assert host["ShmSize"] == 2**30
        assert not host["DeviceRequests"]
        (mount,) = container.attrs["Mounts"]
        assert mount["Destination"] == "/models"
        assert not mount["RW"]
        code, _ = container.exec_run(["touch", "/models/written", "/opt/written"])
        assert code != 0
        assert container.exec_run(["touch", "/tmp/written", "/dev/shm/written"]).exit_code == 0

    def test_container_does_not_run_as_root(self, running: Running) -> None:
        assert int(running.container.exec_run(["id", "-u"]).output) != 0

    def test_network_is_its_own(self, running: Running, client: Any, test_image: str) -> None:
        attached = running.container.attrs["NetworkSettings"]["Networks"]
        (name,) = attached
        assert name.startswith(f"tuner-{os.getpid()}-")
        with DockerLauncher(ContainerSpec(image=test_image)):  # removes what is left over
            network = client.networks.get(name)
        assert OWNER_LABEL in network.attrs["Labels"]
        reach = f"exec 3<>/dev/tcp/{attached[name]['IPAddress']}/8000"
        other = client.containers.create(test_image, ["bash", "-c", reach], network=name)
        try:
            other.start()
            with contextlib.suppress(requests.RequestException):  # it waits for an answer
                assert other.wait(timeout=5)["StatusCode"] != 0
        finally:
            other.remove(force=True)

    def test_ports_are_published_on_loopback_alone(self, running: Running) -> None:
        published = running.container.attrs["NetworkSettings"]["Ports"]
        bindings = [binding for port in published.values() for binding in port or []]
        assert len(bindings) == 3
        assert {binding["HostIp"] for binding in bindings} == {"127.0.0.1"}
        assert all(int(binding["HostPort"]) > 1023 for binding in bindings)

    def test_server_is_reached_through_its_published_ports(self, running: Running) -> None:
        endpoints = running.server.endpoints
        for address in (endpoints.http, endpoints.grpc, endpoints.metrics):
            assert address is not None
            assert address.startswith("127.0.0.1:")
        with Control(running.server) as control:
            assert control.server()["name"] == "triton"
            assert "nv_" in (control.metrics() or "")


def test_private_files_can_be_served(test_image: str, spec: ServerSpec, tmp_path: Path) -> None:
    private = tmp_path / "private"
    shutil.copytree(spec.repository, private)
    for path in (private, *private.rglob("*")):
        path.chmod(0o700 if path.is_dir() else 0o600)
        if os.geteuid() == 0:
            os.chown(path, 1234, 1234)
    private_spec = ServerSpec(private, MODEL, spec.log, SECONDS)
    with (
        DockerLauncher(ContainerSpec(image=test_image)) as launcher,
        launcher.launch(private_spec) as server,
        Control(server) as control,
    ):
        control.load(MODEL, None, SECONDS)
        assert control.is_ready(MODEL)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can have files that belong to root")
def test_private_files_of_root_are_served_without_root(
    client: Any, test_image: str, spec: ServerSpec, tmp_path: Path
) -> None:
    private = tmp_path / "private"
    shutil.copytree(spec.repository, private)
    for path in (private, *private.rglob("*")):
        path.chmod(0o700 if path.is_dir() else 0o600)
        os.chown(path, 0, 0)
    with (
        DockerLauncher(ContainerSpec(image=test_image)) as launcher,
        launcher.launch(ServerSpec(private, MODEL, spec.log, SECONDS)) as server,
        Control(server) as control,
    ):
        control.load(MODEL, None, SECONDS)
        assert control.is_ready(MODEL)
        (container,) = mine(client)
        assert int(container.exec_run(["id", "-u"]).output) != 0
        (mount,) = container.attrs["Mounts"]
        assert mount["Type"] == "volume"


def test_memory_is_limited_where_nobody_says(
    client: Any, test_image: str, spec: ServerSpec
) -> None:
    with DockerLauncher(ContainerSpec(image=test_image)) as launcher, launcher.launch(spec):
        (container,) = mine(client)
        total = client.info()["MemTotal"]
        assert 0.5 * total < container.attrs["HostConfig"]["Memory"] < 0.95 * total


def test_leftovers_of_a_dead_tuner_are_removed_and_those_of_a_living_one_kept(
    client: Any, test_image: str, spec: ServerSpec
) -> None:
    command = [sys.executable, "-c", LAUNCH, test_image, str(spec.repository), str(spec.log)]
    with subprocess.Popen(
        [*command, "copy", ""], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("ready")
            with DockerLauncher(ContainerSpec(image=test_image)):
                (kept,) = mine(client, process.pid)
                assert kept.status == "running"
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    assert mine(client, process.pid), "nothing was left behind"
    assert [each for each in labelled(client.networks) if str(process.pid) in each.name]
    with DockerLauncher(ContainerSpec(image=test_image)):
        assert not mine(client, process.pid)
        volumes = [each.name for each in labelled(client.volumes)]
        assert not [name for name in volumes if name.startswith(f"tuner-{process.pid}-")]
        assert not [each for each in labelled(client.networks) if str(process.pid) in each.name]


def test_owner_is_known_again_by_its_label(client: Any) -> None:
    here = ContainerOwner.here()
    assert ContainerOwner.parse(here.text()) == here
    assert not here.is_gone(here, client)
    assert ContainerOwner.parse("someone else's") is None


def test_interrupt_while_the_server_starts_leaves_nothing(
    client: Any, test_image: str, spec: ServerSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr("tuner.servers.docker_container.is_live", interrupt)
    with DockerLauncher(ContainerSpec(image=test_image)) as launcher:
        with pytest.raises(KeyboardInterrupt), launcher.launch(spec):
            pytest.fail("it started")
        assert not mine(client)
    assert spec.log.exists()


def test_copied_repository_is_served_and_its_volume_removed(
    client: Any, test_image: str, spec: ServerSpec, tmp_path: Path
) -> None:
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / MODEL).symlink_to(spec.repository / MODEL)
    linked_spec = ServerSpec(linked, MODEL, spec.log, SECONDS)
    with DockerLauncher(ContainerSpec(image=test_image, transfer="copy")) as launcher:
        with launcher.launch(linked_spec) as server, Control(server) as control:
            control.load(MODEL, None, SECONDS)
            assert control.is_ready(MODEL)
            (container,) = mine(client)
            (mount,) = container.attrs["Mounts"]
            assert mount["Type"] == "volume"
            assert not mount["RW"]
        with launcher.launch(linked_spec):
            (container,) = mine(client)
            assert container.attrs["Mounts"][0]["Name"] == mount["Name"]
        volumes = [each.name for each in labelled(client.volumes)]
        assert len([name for name in volumes if name.startswith(f"tuner-{os.getpid()}-")]) == 1
    volumes = [each.name for each in labelled(client.volumes)]
    assert not [name for name in volumes if name.startswith(f"tuner-{os.getpid()}-")]
    assert not mine(client)


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the test image has Python 3.11")
def test_tuner_in_a_container_with_the_engines_socket(
    client: Any, test_image: str, repository: Path, tmp_path: Path
) -> None:
    """The repository lies where the engine does not see it: inside tuner's own container."""
    host = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    if not host.startswith("unix://"):
        pytest.skip("the engine has no socket to mount")
    socket = host.removeprefix("unix://")
    packages = Path(docker.__file__).parents[1]
    script = tmp_path / "launch.py"
    script.write_text(LAUNCH)
    inside = textwrap.dedent(
        f"""
        cp -r /given /tmp/models
        exec python3 /launch.py {test_image} /tmp/models /tmp/server.log auto {MODEL}
        """
    )
    output = client.containers.run(
        test_image,
        ["sh", "-ec", inside],
        environment={"PYTHONPATH": f"{ROOT}:{packages}"},
        volumes={
            socket: {"bind": "/var/run/docker.sock", "mode": "rw"},
            str(ROOT): {"bind": str(ROOT), "mode": "ro"},
            str(packages): {"bind": str(packages), "mode": "ro"},
            str(repository): {"bind": "/given", "mode": "ro"},
            str(script): {"bind": "/launch.py", "mode": "ro"},
        },
        remove=True,
        stderr=True,
    )
    assert b"ready at" in output
    assert output.rstrip().endswith(b":8000 ()")


def test_out_of_memory_is_named(test_image: str, spec: ServerSpec) -> None:
    """A request that is larger than the server's memory."""
    limit = 96 * 2**20
    with (
        DockerLauncher(ContainerSpec(image=test_image, memory_limit=limit)) as launcher,
        launcher.launch(spec) as server,
        Control(server) as control,
        pytest.raises(ServerFailed, match=r"out of memory \(limit 96 MiB\)"),
    ):
        control.infer(MODEL, "", bytes(2 * limit), 0, SECONDS)


def test_server_that_is_too_slow_is_given_up(
    client: Any, test_image: str, spec: ServerSpec, tmp_path: Path
) -> None:
    deaf = ("--http-port=9999",)  # not the port that is published
    hasty = ServerSpec(spec.repository, MODEL, tmp_path / "hasty.log", startup_timeout=0.5)
    with DockerLauncher(ContainerSpec(image=test_image, server_args=deaf)) as launcher:
        with (
            pytest.raises(ServerFailed, match=r"not live within 0\.5 s"),
            launcher.launch(hasty),
        ):
            pytest.fail("it was live")
        assert not mine(client)


def test_a_network_that_was_pruned_is_made_anew(
    client: Any, test_image: str, spec: ServerSpec
) -> None:
    with DockerLauncher(ContainerSpec(image=test_image)) as launcher:
        with launcher.launch(spec):
            (container,) = mine(client)
            (name,) = container.attrs["NetworkSettings"]["Networks"]
        client.networks.get(name).remove()
        with launcher.launch(spec) as server:
            assert is_live(server.endpoints)
            (container,) = mine(client)
            assert list(container.attrs["NetworkSettings"]["Networks"]) != [name]


# Docker's client leaves a socket open where nobody answers.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_came_first_is_told_where_the_engine_is_gone(
    client: Any, test_image: str, spec: ServerSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory(prefix="way-") as folder:  # a socket's path is short
        way = Way(Path(folder) / "engine")
        monkeypatch.setenv("DOCKER_HOST", f"unix://{folder}/engine")

        def fail() -> None:
            way.cut()
            raise RepositoryError("as a run may find")

        with (
            pytest.raises(RepositoryError, match="as a run may find"),
            DockerLauncher(ContainerSpec(image=test_image)) as launcher,
            launcher.launch(spec),
        ):
            fail()
    gc.collect()  # those sockets, while their warnings are ignored
    (container,) = mine(client)
    (network,) = container.attrs["NetworkSettings"]["Networks"]
    container.remove(force=True)
    client.networks.get(network).remove()


def test_image_that_cannot_be_pulled(engine: None) -> None:
    image = "localhost:1/tuner/no-such-image:0"
    assert not image_present(image)
    with pytest.raises(
        LauncherUnavailable, match=f"{image} is not on this machine and cannot be pulled"
    ):
        DockerLauncher(ContainerSpec(image=image))


def test_image_without_a_tritonserver(client: Any, tmp_path: Path, spec: ServerSpec) -> None:
    empty = tmp_path / "empty.tar"
    subprocess.run(["tar", "-cf", str(empty), "--files-from", "/dev/null"], check=True)
    name = f"tuner-test-empty:{os.getpid()}"
    client.api.import_image(str(empty), *name.split(":"))
    try:
        with (
            DockerLauncher(ContainerSpec(image=name)) as launcher,
            pytest.raises(LauncherUnavailable, match="no tritonserver on its PATH"),
            launcher.launch(spec),
        ):
            pytest.fail("it started")
    finally:
        client.images.remove(name)


def test_engine_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    assert not engine_answers()
    assert not image_present("any")
    with pytest.raises(LauncherUnavailable, match=r"no Docker engine answers at .*none\.sock"):
        DockerLauncher(ContainerSpec())


def test_engine_that_does_not_see_the_repository(
    test_image: str, spec: ServerSpec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its path is taken to be another one on the engine's side; then the files are copied."""
    elsewhere = str(tmp_path / "elsewhere")

    def mount(target: str, source: str, **options: Any) -> Mount:
        return Mount(target, elsewhere if options["type"] == "bind" else source, **options)

    monkeypatch.setattr("tuner.servers.docker_repository.Mount", mount)
    for path in (spec.repository, *spec.repository.rglob("*")):  # else it is copied anyway
        path.chmod(path.stat().st_mode | (0o005 if path.is_dir() else 0o004))
    with (
        DockerLauncher(ContainerSpec(image=test_image)) as launcher,
        launcher.launch(spec) as server,
        Control(server) as control,
    ):
        control.load(MODEL, None, SECONDS)
    with (
        DockerLauncher(ContainerSpec(image=test_image, transfer="mount")) as launcher,
        pytest.raises(LauncherUnavailable, match="the repository must be copied"),
        launcher.launch(spec),
    ):
        pytest.fail("it started")


def test_repository_that_is_not_there(test_image: str, tmp_path: Path) -> None:
    spec = ServerSpec(tmp_path / "none", MODEL, tmp_path / "log")
    with (
        DockerLauncher(ContainerSpec(image=test_image)) as launcher,
        pytest.raises(RepositoryError, match="not a folder"),
        launcher.launch(spec),
    ):
        pytest.fail("it started")


def test_gpus_that_the_engine_cannot_give(test_image: str, spec: ServerSpec) -> None:
    if shutil.which("nvidia-container-cli"):
        pytest.skip("this engine can give GPUs")
    with (
        DockerLauncher(ContainerSpec(image=test_image, gpus="all")) as launcher,
        pytest.raises(LauncherUnavailable, match="NVIDIA container toolkit"),
        launcher.launch(spec),
    ):
        pytest.fail("it started")


def test_gpus_must_be_named(test_image: str) -> None:
    with pytest.raises(UsageError, match="ids such as 0,1"):
        DockerLauncher(ContainerSpec(image=test_image, gpus="0,,1"))


def test_record_names_the_image_by_its_content(client: Any, test_image: str) -> None:
    with DockerLauncher(ContainerSpec(image=test_image)) as launcher:
        described = launcher.describe()
    assert described["image"] == test_image
    assert described["image_id"] == client.images.get(test_image).id
    assert described["engine"].startswith("Docker ")
    assert json.dumps(dict(described))
